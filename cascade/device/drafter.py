"""The draft model on the device: one text, guessed ahead of the edge, rolled back when it was wrong."""

from __future__ import annotations

from collections.abc import Callable

from ..decoding import Sampling, pick
from ..models.base import Feed, LanguageModel, TokenSequence

__all__ = ["Drafter"]


class Drafter:
    """Proposes the next token of a text with the draft model, under the stream's own noise."""

    def __init__(self, model: LanguageModel, sampling: Sampling) -> None:
        self._model = model
        self._sampling = sampling
        self._sequence: TokenSequence | None = None
        self._num_valid = 0
        """Leading tokens of the cache that are still the text's."""

    def roll_back(self, position: int) -> None:
        """The text changed from `position` on. Only noted: a step may be using the cache right now."""
        self._num_valid = min(self._num_valid, position)

    def step(self, text: list[int]) -> tuple[Callable[[], int], int]:
        """The work of guessing the token after `text`, and how many rows it has."""
        fed = text[self._num_valid :]
        num_valid, self._num_valid = self._num_valid, len(text)
        position = len(text)

        def work() -> int:
            if self._sequence is None:
                self._sequence = self._model.new_sequence()
            if self._sequence.length > num_valid:
                self._sequence.truncate(num_valid)
            logits = self._model.forward([Feed(self._sequence, fed, 1)])
            return pick(logits[0], self._sampling, position)

        return work, len(fed)

    def release(self) -> None:
        """Give the cache back. No step may be running."""
        if self._sequence is not None:
            self._sequence.release()
            self._sequence = None
