"""A training batch as one flat row: texts end to end without padding, what they all begin with only once.

The same way into a module's attention as in serving (see `ragged.py`), without caches and with gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..ragged import AttentionCall
from .texts import Text

if TYPE_CHECKING:
    import torch

__all__ = ["Lesson"]


@dataclass(slots=True)
class Lesson:
    """Rows of one batch; the attention of each text sees the common beginning and itself."""

    prefix: tuple[int, ...]
    texts: Sequence[Text]
    masks: dict[tuple[int, int | None, int], torch.Tensor] = field(default_factory=dict)

    def tokens(self) -> list[int]:
        """Every token that something follows."""
        rows = list(self.prefix)
        for text in self.texts:
            rows.extend(text.tokens[len(self.prefix) : -1])
        return rows

    def positions(self) -> list[int]:
        rows = list(range(len(self.prefix)))
        for text in self.texts:
            rows.extend(range(len(self.prefix), len(text.tokens) - 1))
        return rows

    def wanted(self) -> list[int]:
        """Rows after which a token of an answer follows."""
        rows: list[int] = []
        for (_, end), text in zip(self._spans(), self.texts, strict=True):
            rows.extend(range(end - len(text.answer), end))
        return rows

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """[N, query heads, value_dim]"""
        import torch

        shared = len(self.prefix)
        parts = [_attend(self, call, 0, shared, 0)] if shared else []
        parts += [_attend(self, call, start, end, shared) for start, end in self._spans()]
        return torch.cat(parts)

    def mask(
        self, count: int, shared: int, window: int | None, group: int, like: torch.Tensor
    ) -> torch.Tensor:
        """What `count` rows see of `shared` keys before them and of their own: bool [group * count, keys]."""
        import torch

        key = (count if shared else -count, window, group)
        if key not in self.masks:
            queries = torch.arange(shared, shared + count, device=like.device)[:, None]
            keys = torch.arange(shared + count, device=like.device)[None, :]
            seen = keys <= queries
            if window is not None:
                seen &= keys > queries - window
            self.masks[key] = seen.repeat(group, 1)
        return self.masks[key]

    def _spans(self) -> list[tuple[int, int]]:
        spans, at = [], len(self.prefix)
        for text in self.texts:
            end = at + len(text.tokens) - 1 - len(self.prefix)
            spans.append((at, end))
            at = end
        return spans


def _attend(lesson: Lesson, call: AttentionCall, start: int, end: int, shared: int) -> torch.Tensor:
    import torch

    num_heads, _, key_dim = call.query.shape
    num_kv_heads = call.key.shape[0]
    count, group = end - start, num_heads // num_kv_heads
    query = call.query[:, start:end].reshape(num_kv_heads, group * count, key_dim)
    keys, values = call.key[:, start:end], call.value[:, start:end]
    if shared:
        keys = torch.cat([call.key[:, :shared], keys], dim=1)
        values = torch.cat([call.value[:, :shared], values], dim=1)
    seen = lesson.mask(count, shared, call.window, group, query)
    if call.softcap is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=seen, scale=call.scaling
        )[0]
    else:
        scores = torch.tanh(query @ keys.transpose(1, 2) * (call.scaling / call.softcap)) * call.softcap
        out = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1) @ values
    return out.view(num_heads, count, -1).transpose(0, 1)
