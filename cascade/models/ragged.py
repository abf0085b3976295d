"""Attention over many texts at once, without padding: how any Hugging Face decoder runs ragged batches.

All new tokens of all texts lie end to end in one row [1, N]. The model's own layers do everything that works
row by row; only attention must know where one text ends and the next begins. So an attention function is
registered with transformers, and the *plan* of the pass travels to it as a keyword argument of the model
call: no state outside the call, so two threads may run two models, or two passes of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ModelError
from .kv import KVSequence, LayerShape, Piece
from .together import Together

if TYPE_CHECKING:
    import torch

__all__ = ["ATTENTION_NAME", "AttentionCall", "Plan", "Probe", "Span", "bucket", "register"]

ATTENTION_NAME = "cascade_ragged"

# Keyword arguments of attention calls that say nothing the plan does not know already.
HARMLESS = frozenset(
    {
        "cache_position",
        "cu_seq_lens_k",
        "cu_seq_lens_q",
        "layer_idx",
        "logits_to_keep",
        "max_length_k",
        "max_length_q",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)

ROWS_AT_ONCE = 256
"""Query rows whose scores are held at once where no fused kernel applies; bounds memory in long prefills."""


@dataclass(frozen=True, slots=True)
class Span:
    """One text's rows in the flat batch."""

    sequence: KVSequence
    start: int
    count: int
    past: int
    """Tokens the text held before the pass."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """What one layer asks for. query [q_heads, N, key_dim], key and value [kv_heads, N, dim]."""

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    window: int | None
    softcap: float | None

    def keys_and_values(self) -> torch.Tensor:
        """Side by side, as sequences hold them."""
        import torch

        return torch.cat([self.key, self.value], dim=2)


class Attender(Protocol):
    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Returns [N, q_heads, value_dim]."""
        ...


@dataclass(slots=True)
class Plan:
    """The rows of one pass, and the masks its layers share."""

    spans: Sequence[Span]
    masks: dict[tuple[int, int | None, int], torch.Tensor] = field(default_factory=dict)
    together: Together = field(init=False)
    """The short texts, which attend in one call; the others follow one by one."""

    def __post_init__(self) -> None:
        self.together = Together.of_short(self.spans)

    def attend(self, call: AttentionCall) -> torch.Tensor:
        num_heads, num_rows, _ = call.query.shape
        if len(self.spans) == 1 and self.spans[0].count == num_rows:
            span = self.spans[0]
            span.sequence.write(call.layer, span.past, call.keys_and_values())
            pieces = span.sequence.pieces(call.layer, span.past + span.count)
            return self._attend_span(call, 0, span, call.query, pieces)
        # Rows behind the last span pad the batch to its bucket; nobody reads them, but they must be finite.
        output = call.query.new_zeros(num_rows, num_heads, call.value.shape[2])
        both = call.keys_and_values()
        for span in self.spans:
            span.sequence.write(call.layer, span.past, both[:, span.start : span.start + span.count])
        is_together = call.softcap is None and bool(self.together.spans)
        if is_together:
            self.together.attend(call, output)
        for index, span in enumerate(self.spans):
            if is_together and index in self.together.indices:
                continue
            rows = slice(span.start, span.start + span.count)
            pieces = span.sequence.pieces(call.layer, span.past + span.count)
            output[rows] = self._attend_span(call, index, span, call.query[:, rows], pieces)
        return output

    def _attend_span(
        self, call: AttentionCall, index: int, span: Span, query: torch.Tensor, pieces: list[Piece]
    ) -> torch.Tensor:
        total = span.past + span.count
        first = 0
        window = call.window if call.window is not None and call.window < total else None
        if window is not None:
            first = max(0, span.past + 1 - window)
            pieces = _drop_front(pieces, first)
        num_heads, count, key_dim = query.shape
        group = num_heads // call.key.shape[0]
        # Query heads that share a key head become rows of one matrix: keys are read once and never repeated.
        packed = query.reshape(call.key.shape[0], group * count, key_dim)
        mask = self._mask(index, span, first, window, group, packed) if count > 1 else None
        out = _attend_pieces(packed, pieces, mask, call.scaling, call.softcap)
        return out.view(num_heads, count, -1).transpose(0, 1)

    def _mask(
        self, index: int, span: Span, first: int, window: int | None, group: int, like: torch.Tensor
    ) -> torch.Tensor:
        """Additive mask [group * count, keys from `first` on], made once for all layers of the pass."""
        key = (index, window, group)
        if key not in self.masks:
            import torch

            queries = torch.arange(span.past, span.past + span.count, device=like.device)[:, None]
            keys = torch.arange(first, span.past + span.count, device=like.device)[None, :]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = like.new_zeros(hidden.shape)
            # Finite, so that a row that sees nothing of a piece gets weight zero there and not NaN.
            mask.masked_fill_(hidden, torch.finfo(like.dtype).min / 4)
            self.masks[key] = mask.repeat(group, 1)
        return self.masks[key]


@dataclass(slots=True)
class Probe:
    """Runs one text without any cache and notes what the model's attention is like."""

    shapes: dict[int, LayerShape] = field(default_factory=dict)
    windows: dict[int, int | None] = field(default_factory=dict)

    def attend(self, call: AttentionCall) -> torch.Tensor:
        import torch

        if call.layer in self.shapes:
            raise ModelError(f"layer {call.layer} attends twice")
        num_heads, count, _ = call.query.shape
        num_kv_heads, _, key_dim = call.key.shape
        if num_heads % num_kv_heads:
            raise ModelError(f"layer {call.layer} has {num_heads} query heads over {num_kv_heads} key heads")
        self.shapes[call.layer] = LayerShape(num_kv_heads, key_dim, call.value.shape[2])
        self.windows[call.layer] = call.window
        return torch.zeros(
            count, num_heads, call.value.shape[2], dtype=call.query.dtype, device=call.query.device
        )


def register() -> None:
    """Make the attention known to transformers. Safe to call more than once."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, _attention)
    AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


def bucket(num_rows: int) -> int:
    """The padded number of rows: all up to 8, then four sizes per doubling.

    oneDNN caches something for every new shape and never lets go, so there must be few shapes.
    """
    if num_rows <= 8:
        return num_rows
    step = 1 << (num_rows - 1).bit_length() - 3
    return -(-num_rows // step) * step


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    cascade_plan: Attender | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    if cascade_plan is None:
        raise ModelError("its layers do not hand keyword arguments on to attention")
    unknown = sorted(name for name, value in others.items() if value is not None and name not in HARMLESS)
    if unknown:
        raise ModelError(f"its attention needs {', '.join(unknown)}, which ragged batches do not know")
    if is_causal is False or getattr(module, "is_causal", True) is False or dropout or query.shape[0] != 1:
        raise ModelError("its attention is not plain causal self-attention")
    call = AttentionCall(
        layer=int(module.layer_idx),
        query=query[0],
        key=key[0],
        value=value[0],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        softcap=softcap,
    )
    return cascade_plan.attend(call)[None], None


def _drop_front(pieces: list[Piece], num_tokens: int) -> list[Piece]:
    kept = []
    for keys, values in pieces:
        length = keys.shape[1]
        if num_tokens < length:
            kept.append((keys[:, num_tokens:], values[:, num_tokens:]))
        num_tokens = max(0, num_tokens - length)
    return kept


def _attend_pieces(
    query: torch.Tensor,
    pieces: list[Piece],
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
) -> torch.Tensor:
    """query [kv_heads, rows, dim] -> [kv_heads, rows, value_dim]"""
    import torch

    if softcap is None and len(pieces) == 1:
        keys, values = pieces[0]
        out: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=mask, scale=scaling
        )
        return out[0]
    if softcap is None and query.device.type == "cpu" and pieces[0][0].shape[2] == pieces[0][1].shape[2]:
        return _merge_pieces(query, pieces, mask, scaling)
    rows = range(0, query.shape[1], ROWS_AT_ONCE)
    chunks = [slice(at, at + ROWS_AT_ONCE) for at in rows]
    return torch.cat(
        [_by_hand(query[:, c], pieces, None if mask is None else mask[c], scaling, softcap) for c in chunks],
        dim=1,
    )


def _merge_pieces(
    query: torch.Tensor, pieces: list[Piece], mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """The fused kernel on each piece, the results weighted by each piece's share of the softmax."""
    import torch

    outs, shares, at = [], [], 0
    for keys, values in pieces:
        part = None if mask is None else mask[:, at : at + keys.shape[1]]
        at += keys.shape[1]
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[None], keys[None], values[None], attn_mask=part, scale=scaling
        )
        outs.append(out[0].float())
        shares.append(log_sum.reshape(query.shape[0], query.shape[1]))
    weights = torch.softmax(torch.stack(shares), dim=0)  # [pieces, kv_heads, rows]
    return (torch.stack(outs) * weights[..., None]).sum(0).to(query.dtype)


def _by_hand(
    query: torch.Tensor,
    pieces: list[Piece],
    mask: torch.Tensor | None,
    scaling: float,
    softcap: float | None,
) -> torch.Tensor:
    import torch

    scores = torch.cat([query @ keys.transpose(1, 2) for keys, _ in pieces], dim=2).float() * scaling
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores += mask
    weights = torch.softmax(scores, dim=-1).to(query.dtype)
    out = torch.zeros(())
    at = 0
    for _, values in pieces:
        part = weights[:, :, at : at + values.shape[1]] @ values
        out = out + part if at else part
        at += values.shape[1]
    return out
