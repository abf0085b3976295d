"""A decoder loop without ceremony, for models built like Llama.

On a CPU, at one row, most of a pass in transformers is not arithmetic: many small calls, each with its price.
Here query, key and value are one product, gate and up another, and nothing is computed twice. Models that are
not built this way run through their own code; models that are get compared with it when they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .linear import Linear, PlainLinear, in_format
from .ragged import Attender, AttentionCall

if TYPE_CHECKING:
    import torch

__all__ = ["LeanDecoder"]

FAMILIES = {"llama", "mistral", "qwen2", "qwen3"}


@dataclass(slots=True)
class LeanLayer:
    attention_norm: torch.Tensor
    qkv: Linear
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    out: Linear
    mlp_norm: torch.Tensor
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
        self._eps = float(config.rms_norm_eps)
        self._embedding: torch.Tensor = base.embed_tokens.weight
        self._rotary: Any = base.rotary_emb
        self._norm: torch.Tensor = base.norm.weight
        self._activation: Callable[[torch.Tensor], torch.Tensor] = base.layers[0].mlp.act_fn
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

    def quantize(self, dtype: str) -> None:
        """Put all products into int8 or int4."""
        for layer in self._layers:
            for name in ("qkv", "out", "gate_up", "down"):
                setattr(layer, name, in_format(getattr(layer, name), dtype))
        assert isinstance(self._head, PlainLinear)
        self._head = in_format(self._head, dtype, head=True)

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

        rms_norm = torch.nn.functional.rms_norm
        x = self._embedding[ids]  # [N, hidden]
        num_rows, hidden = x.shape
        cos, sin = self._rotary(x[None], positions[None])
        cos, sin = cos[0, :, None], sin[0, :, None].clone()  # [N, 1, head_dim]
        # The rotation's minus sign goes into the sine, so that a plain roll does the swap of halves.
        sin[..., : self.head_dim // 2].neg_()
        num_turned = self.num_heads + self.num_kv_heads
        for index, layer in enumerate(self._layers):
            h = rms_norm(x, (hidden,), layer.attention_norm, self._eps)
            heads = layer.qkv(h).view(num_rows, -1, self.head_dim)
            turned, value = heads[:, :num_turned], heads[:, num_turned:]
            if layer.query_norm is not None and layer.key_norm is not None:
                query = rms_norm(turned[:, : self.num_heads], (self.head_dim,), layer.query_norm, self._eps)
                key = rms_norm(turned[:, self.num_heads :], (self.head_dim,), layer.key_norm, self._eps)
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
            h = rms_norm(x, (hidden,), layer.mlp_norm, self._eps)
            gate, up = layer.gate_up(h).chunk(2, dim=1)
            x = x + layer.down(self._activation(gate) * up)
        if not rows.numel():
            return x.new_empty(0, self._embedding.shape[0], dtype=torch.float32)
        return self._head(rms_norm(x[rows], (hidden,), self._norm, self._eps)).float()


def _take(layer: Any, window: int | None) -> LeanLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return LeanLayer(
        attention_norm=layer.input_layernorm.weight,
        qkv=_fused(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=attention.q_norm.weight if hasattr(attention, "q_norm") else None,
        key_norm=attention.k_norm.weight if hasattr(attention, "k_norm") else None,
        out=_plain(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight,
        gate_up=_fused(mlp.gate_proj, mlp.up_proj),
        down=_plain(mlp.down_proj),
        window=window,
    )


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
