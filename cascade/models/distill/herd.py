"""Many texts that grow by a token each pass, their keys and values side by side.

Serving keeps each text's cache by itself, so that it can be cut, forked and shared; attention then is a call
for every text and layer. Texts that are only ever continued together need none of that, and one call for each
layer does for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ragged import AttentionCall
from .lesson import Lesson, attend_side_by_side
from .texts import packed

if TYPE_CHECKING:
    import torch

    from ..huggingface import HuggingFaceModel

__all__ = ["Herd"]

PREFILL_ROWS = 1024


class Herd:
    """The caches of texts under way. Text i is in row i until `keep` leaves some of them out."""

    def __init__(self, model: HuggingFaceModel, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        self._model = model
        self._lengths = [0] * len(prompts)
        room = max(map(len, prompts)) + max_tokens
        self._cache = [_Rows(model, len(prompts), layer, room) for layer in range(len(model.shapes))]

    def prefill(self, prompts: Sequence[Sequence[int]], prefix: Sequence[int]) -> torch.Tensor:
        """Read all prompts, which begin with `prefix`; logits [texts, vocab_size] of what follows each."""
        import torch

        logits: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
        for group in packed([len(prompt) - len(prefix) for prompt in prompts], PREFILL_ROWS):
            lesson = Lesson(tuple(prefix), [tuple(prompts[index]) for index in group])
            last = lesson.last_rows([1] * len(group))
            with torch.inference_mode():
                plan = _Reading(lesson, self._cache, group)
                rows = self._model.compute(lesson.tokens(), lesson.positions(), last, plan)
            for index, row in zip(group, rows, strict=True):
                logits[index] = row
                self._lengths[index] = len(prompts[index])
        return torch.stack(logits)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Feed every text one token; logits [texts, vocab_size] of what follows."""
        import torch

        with torch.inference_mode():
            plan = _Writing(self._cache, torch.tensor(self._lengths))
            rows = self._model.compute(tokens, self._lengths, range(len(tokens)), plan)
        # Texts that are done may stay in the pass; a position past the context would be none.
        most = self._model.context_length - 1
        self._lengths = [min(length + 1, most) for length in self._lengths]
        return rows

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts only, in this order."""
        import torch

        index = torch.tensor(rows)
        for cache in self._cache:
            cache.keep(index)
        self._lengths = [self._lengths[row] for row in rows]


class _Rows:
    """Keys and values of one layer: [texts, kv heads, room, dim]."""

    __slots__ = ("key", "value")

    def __init__(self, model: HuggingFaceModel, num_texts: int, layer: int, room: int) -> None:
        import torch

        shape = model.shapes[layer]

        def zeros(dim: int) -> torch.Tensor:
            # A slot that is not written yet has weight zero, and zero times NaN would be NaN.
            size = (num_texts, shape.num_heads, room, dim)
            return torch.zeros(size, dtype=model.cache_dtype, device=model.device)

        self.key, self.value = zeros(shape.key_dim), zeros(shape.value_dim)

    def keep(self, index: torch.Tensor) -> None:
        index = index.to(self.key.device)
        self.key, self.value = self.key.index_select(0, index), self.value.index_select(0, index)


class _Reading:
    """Whole prompts, whose keys and values are put by."""

    def __init__(self, lesson: Lesson, cache: Sequence[_Rows], rows: Sequence[int]) -> None:
        self._lesson = lesson
        self._cache = cache
        self._rows = rows

    def attend(self, call: AttentionCall) -> torch.Tensor:
        cache = self._cache[call.layer]
        key, value = self._lesson.side_by_side(call.key), self._lesson.side_by_side(call.value)
        longest = min(key.shape[2], cache.key.shape[2])
        for at, row in enumerate(self._rows):
            cache.key[row, :, :longest] = key[at, :, :longest]
            cache.value[row, :, :longest] = value[at, :, :longest]
        return self._lesson.attend(call)


class _Writing:
    """One token of each text."""

    def __init__(self, cache: Sequence[_Rows], positions: torch.Tensor) -> None:
        import torch

        self._cache = cache
        device = cache[0].key.device
        self._positions = positions.to(device)
        self._texts = torch.arange(len(positions), device=device)
        self._longest = int(positions.max()) + 1
        self._seen: dict[int | None, torch.Tensor] = {}

    def attend(self, call: AttentionCall) -> torch.Tensor:
        cache = self._cache[call.layer]
        cache.key[self._texts, :, self._positions] = call.key.transpose(0, 1)
        cache.value[self._texts, :, self._positions] = call.value.transpose(0, 1)
        num_heads, num_texts, _ = call.query.shape
        num_kv_heads = call.key.shape[0]
        # Query heads that share a key head are rows of one matrix: keys are read once.
        query = call.query.transpose(0, 1).reshape(num_texts, num_kv_heads, num_heads // num_kv_heads, -1)
        key, value = cache.key[:, :, : self._longest], cache.value[:, :, : self._longest]
        out = attend_side_by_side(call, query, key, value, self._mask(call.window))
        return out.reshape(num_texts, num_heads, -1)

    def _mask(self, window: int | None) -> torch.Tensor:
        """[texts, 1, 1, keys]"""
        if window not in self._seen:
            import torch

            keys = torch.arange(self._longest, device=self._positions.device)
            seen = keys <= self._positions[:, None]
            if window is not None:
                seen &= keys > self._positions[:, None] - window
            self._seen[window] = seen[:, None, None]
        return self._seen[window]
