"""Short texts attend in one call.

Each call of an attention kernel has its price, and a pass over eight texts would pay it eight times a layer.
While texts are short it is cheaper to lay copies of their keys side by side, padded to the longest, and call
once. The copy is bounded: longer texts attend one by one where their keys lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .ragged import AttentionCall, Span

__all__ = ["LONGEST_TOKENS", "Together"]

LONGEST_TOKENS = 256
"""A longer text costs more to copy than the call it saves."""

LONGEST_ROWS = 16
"""New rows of a text; more are a prompt's, which is worth a call of its own."""

UNEVENNESS = 2
"""Work that padding may add, at most: no text here is shorter than the longest by more than this factor."""


class Together:
    """Those of a pass's texts that attend in one call. Index arrays and masks are shared by its layers."""

    __slots__ = ("_buffer", "_masks", "_num_rows", "_real", "_rows", "_targets", "indices", "spans")

    def __init__(self, spans: Sequence[Span], indices: Sequence[int]) -> None:
        self.indices = frozenset(indices)
        """Where the texts stand among the spans of the pass."""
        self.spans = [spans[index] for index in indices]
        self._masks: dict[tuple[int | None, int], torch.Tensor] = {}
        self._buffer: torch.Tensor | None = None
        if not self.spans:
            return
        import torch

        self._num_rows = max(span.count for span in self.spans)
        # A text with fewer rows than the others repeats its last one, and nobody reads the repetition.
        padded = [
            min(row, span.count - 1) + span.start for span in self.spans for row in range(self._num_rows)
        ]
        real = [row < span.count for span in self.spans for row in range(self._num_rows)]
        device = self.spans[0].sequence.store.device
        self._rows = torch.tensor(padded, device=device)
        self._real = torch.tensor(real, device=device).nonzero()[:, 0]
        self._targets = self._rows[self._real]

    @classmethod
    def of_short(cls, spans: Sequence[Span]) -> Together:
        """Out of all spans of a pass; none are taken if that would save no call."""
        lengths = {
            index: span.past + span.count
            for index, span in enumerate(spans)
            if span.count <= LONGEST_ROWS and span.past + span.count <= LONGEST_TOKENS
        }
        longest = max(lengths.values(), default=0)
        indices = [index for index, length in lengths.items() if length * UNEVENNESS >= longest]
        return cls(spans, indices if len(indices) > 1 else [])

    def attend(self, call: AttentionCall, output: torch.Tensor) -> None:
        """Fill the texts' rows of `output` [N, q_heads, value_dim]; their keys and values are written."""
        import torch

        num_heads, _, key_dim = call.query.shape
        num_kv_heads, num_texts = call.key.shape[0], len(self.spans)
        group = num_heads // num_kv_heads
        keys, values = self._side_by_side(call)
        query = call.query.index_select(1, self._rows).view(num_kv_heads, group, num_texts, -1, key_dim)
        # Query heads that share a key head become rows of one matrix: keys are read once and never repeated.
        query = query.permute(2, 0, 1, 3, 4).reshape(num_texts, num_kv_heads, -1, key_dim)
        mask = self._mask(call.window, group, query)
        out = torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, scale=call.scaling
        )
        by_row = out.view(num_texts, num_heads, self._num_rows, -1).transpose(1, 2).flatten(0, 1)
        output[self._targets] = by_row[self._real]

    def _side_by_side(self, call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor]:
        """[texts, kv_heads, longest, dim] each, in a buffer that the layers of one shape share."""
        num_kv_heads, _, key_dim = call.key.shape
        longest = max(span.past + span.count for span in self.spans)
        shape = (len(self.spans), num_kv_heads, longest, key_dim + call.value.shape[2])
        if self._buffer is None or self._buffer.shape != shape:
            # Zeros: what lies behind a shorter text has weight zero, and zero times NaN would be NaN.
            self._buffer = call.key.new_zeros(shape)
        for text, span in zip(self._buffer, self.spans, strict=True):
            at = 0
            for stretch in span.sequence.stretches(call.layer, span.past + span.count):
                end = at + stretch.shape[1]
                text[:, at:end] = stretch
                at = end
        return self._buffer[..., :key_dim], self._buffer[..., key_dim:]

    def _mask(self, window: int | None, group: int, like: torch.Tensor) -> torch.Tensor:
        """Additive mask [texts, 1, group * rows, longest]: each row sees its own text up to itself."""
        key = (window, group)
        if key not in self._masks:
            import torch

            longest = max(span.past + span.count for span in self.spans)
            positions = [
                span.past + min(row, span.count - 1) for span in self.spans for row in range(self._num_rows)
            ]
            queries = torch.tensor(positions, device=like.device).view(len(self.spans), 1, -1, 1)
            keys = torch.arange(longest, device=like.device)
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = like.new_zeros(hidden.shape)
            mask.masked_fill_(hidden, torch.finfo(like.dtype).min / 4)
            self._masks[key] = mask.repeat(1, 1, group, 1)
        return self._masks[key]
