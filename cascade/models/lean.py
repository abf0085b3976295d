"""A decoder loop without ceremony, for models built like Llama.

On a CPU, at one row, most of a pass in transformers is not arithmetic: many small calls, each with its price.
Here query, key and value are one product, gate and up another, and nothing is computed twice. Models that are
not built this way run through their own code; models that are get compared with it when they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .fitness import context_length
from .linear import ByWidth, Linear, PlainLinear, in_format
from .ragged import Attender, AttentionCall

if TYPE_CHECKING:
    import torch

__all__ = ["LeanDecoder"]

TABLE_ROWS = 512
"""Positions whose rotation is computed at once, at least."""

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}


class RMSNorm:
    """Root mean square norm over the last dimension, by the fused kernel of another norm.

    torch has a fused layer norm for CPUs but puts this one together from ten calls. The row and its negative
    side by side have mean zero and the same mean square, so their layer norm is what is wanted.
    """

    __slots__ = ("eps", "size", "weight")

    def __init__(self, module: Any) -> None:
        self.size = int(module.weight.shape[0])
        self.weight: torch.Tensor = module.weight.repeat(2)
        self.eps = float(module.variance_epsilon)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        both = torch.cat([x, -x], dim=-1)
        normed = torch.layer_norm(both, (2 * self.size,), self.weight, None, self.eps)
        return normed[..., : self.size]


@dataclass(slots=True)
class LeanLayer:
    attention_norm: RMSNorm
    qkv: Linear
    query_norm: RMSNorm | None
    key_norm: RMSNorm | None
    out: Linear
    mlp_norm: RMSNorm
    gate_up: Linear
    down: Linear
    window: int | None


class LeanDecoder:
    """Token ids in, float32 logits of the wanted rows out."""

    def __init__(self, module: Any, windows: list[int | None]) -> None:
        """Takes the weights out of a transformers module, which is empty afterwards."""
        config = module.config
        base = module.model
        first = base.layers[0].self_attn
        self.num_heads = int(config.num_attention_heads)
        self.num_kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(first.head_dim)
        self._scaling = float(first.scaling)
        self._embedding: torch.Tensor = base.embed_tokens.weight
        self._rotary: Any = base.rotary_emb
        self._context_length = context_length(config)
        self._turn_table: tuple[torch.Tensor, torch.Tensor] = (self._embedding[:0], self._embedding[:0])
        self._norm = RMSNorm(base.norm)
        self._activation = _bare(base.layers[0].mlp.act_fn)
        self._head: Linear = _plain(module.lm_head)
        self._layers = []
        for layer, window in zip(base.layers, windows, strict=True):
            self._layers.append(_take(layer, window))
            layer.self_attn = layer.mlp = None  # their weights live in the fused products now

    @classmethod
    def can_take(cls, module: Any) -> bool:
        """Whether the module is built as this loop expects, in every part it would replace."""
        config = module.config
        if config.model_type not in FAMILIES or module.device.type != "cpu":
            return False
        attention = module.model.layers[0].self_attn
        partial = getattr(config, "partial_rotary_factor", None) or 1.0
        norms = type(module.model.norm).__name__
        return partial == 1.0 and hasattr(attention, "q_proj") and norms.endswith("RMSNorm")

    def put_into(self, dtype: str) -> list[ByWidth]:
        """Put all products into a format of weights; returns those that have a kernel for each width."""
        by_width = []
        for layer in self._layers:
            for name in ("qkv", "out", "gate_up", "down"):
                packed = in_format(getattr(layer, name), dtype)
                setattr(layer, name, packed)
                if isinstance(packed, ByWidth):
                    by_width.append(packed)
        assert isinstance(self._head, PlainLinear)
        self._head = in_format(self._head, dtype, head=True)
        return by_width

    def widen_head(self) -> None:
        """Logits in float32 arithmetic, as exact mode wants them."""
        assert isinstance(self._head, PlainLinear)
        bias = self._head.bias
        wide = PlainLinear(self._head.weight.float(), None if bias is None else bias.float())
        self._head = lambda x: wide(x.float())

    def __call__(
        self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, plan: Attender
    ) -> torch.Tensor:
        """ids [N], positions [N], rows [R] -> [R, vocab_size]"""
        import torch

        x = self._embedding[ids]  # [N, hidden]
        num_rows = x.shape[0]
        cos, sin = self._turns(positions, x)
        num_turned = self.num_heads + self.num_kv_heads
        for index, layer in enumerate(self._layers):
            h = layer.attention_norm(x)
            heads = layer.qkv(h).view(num_rows, -1, self.head_dim)
            turned, value = heads[:, :num_turned], heads[:, num_turned:]
            if layer.query_norm is not None and layer.key_norm is not None:
                query = layer.query_norm(turned[:, : self.num_heads])
                key = layer.key_norm(turned[:, self.num_heads :])
                turned = torch.cat([query, key], dim=1)
            turned = turned * cos + turned.roll(self.head_dim // 2, -1) * sin
            call = AttentionCall(
                layer=index,
                query=turned[:, : self.num_heads].transpose(0, 1),
                key=turned[:, self.num_heads :].transpose(0, 1),
                value=value.transpose(0, 1),
                scaling=self._scaling,
                window=layer.window,
                softcap=None,
            )
            x = x + layer.out(plan.attend(call).reshape(num_rows, -1))
            h = layer.mlp_norm(x)
            gate, up = layer.gate_up(h).chunk(2, dim=1)
            x = x + layer.down(self._activation(gate) * up)
        if not rows.numel():
            return x.new_empty(0, self._embedding.shape[0], dtype=torch.float32)
        return self._head(self._norm(x[rows])).float()

    def _turns(self, positions: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of each position's rotation, [N, 1, head_dim] each, out of a table that grows.

        An angle depends on its position alone: longer texts than that holds for are refused (see
        `fitness.context_length`).
        """
        import torch

        cos, sin = self._turn_table
        needed = int(positions.max()) + 1
        if len(cos) < needed:
            # Never past the context: what some rotations are there depends on the longest text.
            length = max(needed, min(max(2 * len(cos), TABLE_ROWS), self._context_length))
            rows = torch.arange(length, device=positions.device)
            cos, sin = self._rotary(like[None], rows[None])
            cos, sin = cos[0, :, None], sin[0, :, None].clone()
            # The rotation's minus sign goes into the sine, so that a plain roll does the swap of halves.
            sin[..., : self.head_dim // 2].neg_()
            self._turn_table = cos, sin
        return cos[positions], sin[positions]


def _take(layer: Any, window: int | None) -> LeanLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return LeanLayer(
        attention_norm=RMSNorm(layer.input_layernorm),
        qkv=_fused(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=RMSNorm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        key_norm=RMSNorm(attention.k_norm) if hasattr(attention, "k_norm") else None,
        out=_plain(attention.o_proj),
        mlp_norm=RMSNorm(layer.post_attention_layernorm),
        gate_up=_fused(mlp.gate_proj, mlp.up_proj),
        down=_plain(mlp.down_proj),
        window=window,
    )


def _bare(activation: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function alone, where it is the usual one: a module's call costs as much again."""
    import torch

    usual = isinstance(activation, torch.nn.SiLU) or type(activation).__name__ == "SiLUActivation"
    call: Callable[[torch.Tensor], torch.Tensor] = torch.nn.functional.silu if usual else activation
    return call


def _plain(module: Any) -> PlainLinear:
    return PlainLinear(module.weight, module.bias)


def _fused(*modules: Any) -> PlainLinear:
    import torch

    weight = torch.cat([module.weight for module in modules])
    if all(module.bias is None for module in modules):
        return PlainLinear(weight)
    parts = [
        weight.new_zeros(module.out_features) if module.bias is None else module.bias for module in modules
    ]
    return PlainLinear(weight, torch.cat(parts))
