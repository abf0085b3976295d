"""Whole texts as one flat row: end to end without padding, what they all begin with only once.

Everything that works row by row sees no padding and no repetition; only attention lays texts side by side.
The same way into a module's attention as in serving (see `ragged.py`), without caches and with gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..ragged import AttentionCall

if TYPE_CHECKING:
    import torch

__all__ = ["Lesson", "attend_side_by_side"]

LENGTH_STEP = 16
"""Texts are laid out at multiples of so many tokens: kernels keep something for every shape they meet."""


@dataclass(slots=True)
class Lesson:
    """Rows of one pass. Texts begin with the common prefix, of which each needs at least one token more."""

    prefix: tuple[int, ...]
    texts: Sequence[tuple[int, ...]]
    layout: dict[str, torch.Tensor] = field(default_factory=dict)

    def tokens(self) -> list[int]:
        rows = list(self.prefix)
        for text in self.texts:
            rows.extend(text[len(self.prefix) :])
        return rows

    def positions(self) -> list[int]:
        rows = list(range(len(self.prefix)))
        for text in self.texts:
            rows.extend(range(len(self.prefix), len(text)))
        return rows

    def last_rows(self, counts: Sequence[int]) -> list[int]:
        """The last so many rows of each text."""
        rows: list[int] = []
        for (_, end), count in zip(self._spans(), counts, strict=True):
            rows.extend(range(end - count, end))
        return rows

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """[N, query heads, value_dim]"""
        query, key, value = (self.side_by_side(part) for part in (call.query, call.key, call.value))
        out = attend_side_by_side(call, query, key, value)
        flat = out.transpose(1, 2).flatten(0, 1)
        return flat.index_select(0, self._laid_out(flat.device)["back"])

    def side_by_side(self, part: torch.Tensor) -> torch.Tensor:
        """[heads, N, dim] -> [texts, heads, longest text, dim], what lies behind a text being any row."""
        rows = part.transpose(0, 1).index_select(0, self._laid_out(part.device)["rows"])
        return rows.reshape(len(self.texts), -1, *rows.shape[1:]).transpose(1, 2)

    def _laid_out(self, device: torch.device) -> dict[str, torch.Tensor]:
        """`rows`: the flat row at each place of [texts, longest text]; `back`: a place of each flat row."""
        if not self.layout:
            import torch

            shared = len(self.prefix)
            longest = max(map(len, self.texts))
            longest = -(-longest // LENGTH_STEP) * LENGTH_STEP
            rows = torch.zeros(len(self.texts), longest, dtype=torch.long)
            rows[:, :shared] = torch.arange(shared)
            back = [torch.arange(shared)]
            for index, (start, end) in enumerate(self._spans()):
                rows[index, shared : shared + end - start] = torch.arange(start, end)
                back.append(torch.arange(shared, shared + end - start) + index * longest)
            self.layout["rows"] = rows.flatten().to(device)
            self.layout["back"] = torch.cat(back).to(device)
        return self.layout

    def _spans(self) -> list[tuple[int, int]]:
        spans, at = [], len(self.prefix)
        for text in self.texts:
            end = at + len(text) - len(self.prefix)
            spans.append((at, end))
            at = end
        return spans


def attend_side_by_side(
    call: AttentionCall,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seen: torch.Tensor | None = None,
) -> torch.Tensor:
    """query [texts, heads, rows, dim], key and value [texts, kv heads, keys, dim] -> like query.

    `seen` says which keys each row may see, bool [texts, 1, rows, keys]; without it, texts begin at key 0 and
    a row sees itself and what is before it.
    """
    import torch

    if seen is None and (call.softcap is not None or (call.window or key.shape[2]) < key.shape[2]):
        at = torch.arange(key.shape[2], device=key.device)
        seen = at[None, :] <= at[:, None]
        if call.window is not None:
            seen = seen & (at[None, :] > at[:, None] - call.window)
    if call.softcap is None:
        out: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, is_causal=seen is None, scale=call.scaling, enable_gqa=True
        )
        return out
    assert seen is not None
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = torch.tanh(query @ key.transpose(2, 3) * (call.scaling / call.softcap)) * call.softcap
    return torch.softmax(scores.masked_fill(~seen, float("-inf")).float(), dim=-1).to(value.dtype) @ value
