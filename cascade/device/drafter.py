"""The draft model on the device: one text, guessed ahead of the edge, rolled back when it was wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..decoding import Sampling, common_prefix, pick
from ..measure import Confidence
from ..models.base import Feed, LanguageModel, TokenSequence
from .confidence import confidence_in

__all__ = ["DraftMemory", "Drafter", "Guess"]


@dataclass(frozen=True, slots=True)
class Guess:
    """A token, and what the draft says about it."""

    token: int
    confidence: Confidence


class DraftMemory:
    """A draft's cache between the turns of a conversation: the next text begins as the last one ended."""

    def __init__(self) -> None:
        self._sequence: TokenSequence | None = None
        self._tokens: list[int] = []
        self._is_closed = False

    def take(self, text: list[int]) -> tuple[TokenSequence | None, int]:
        """The cache, for one drafter at a time, and how many leading tokens of this text it holds."""
        sequence, self._sequence = self._sequence, None
        return sequence, 0 if sequence is None else common_prefix(self._tokens, text)

    def give_back(self, sequence: TokenSequence, tokens: list[int]) -> None:
        """It holds these tokens, and perhaps more behind them."""
        if self._is_closed:
            sequence.release()
            return
        if self._sequence is not None:
            self._sequence.release()  # of a turn whose last step ran on into this one
        self._sequence, self._tokens = sequence, tokens

    def close(self) -> None:
        self._is_closed = True
        if self._sequence is not None:
            self._sequence.release()
            self._sequence = None


class Drafter:
    """Proposes the next token of a text with the draft model, under the stream's own noise."""

    def __init__(self, model: LanguageModel, sampling: Sampling, memory: DraftMemory | None = None) -> None:
        self._model = model
        self._sampling = sampling
        self._memory = memory
        self._sequence: TokenSequence | None = None
        self._text: list[int] = []
        self._num_valid: int | None = None
        """Leading tokens of the cache that are still the text's; None before the first step."""
        self._is_sound = False
        """The last step went through, so the cache holds what was fed."""

    def roll_back(self, position: int) -> None:
        """The text changed from `position` on. Only noted: a step may be using the cache right now."""
        if self._num_valid is not None:
            self._num_valid = min(self._num_valid, position)

    def step(self, text: list[int]) -> tuple[Callable[[], Guess], int]:
        """The work of guessing the token after `text`, and how many rows it has."""
        if self._num_valid is None:
            self._num_valid = 0
            if self._memory is not None:
                self._sequence, self._num_valid = self._memory.take(text)
        self._text, self._is_sound = text, False
        # The last token is fed even if the cache has it: its logits are wanted.
        num_valid, self._num_valid = min(self._num_valid, len(text) - 1), len(text)
        fed = text[num_valid:]
        position = len(text)

        def work() -> Guess:
            if self._sequence is None:
                self._sequence = self._model.new_sequence()
            if self._sequence.length > num_valid:
                self._sequence.truncate(num_valid)
            logits = self._model.forward([Feed(self._sequence, fed, 1)])
            self._is_sound = True
            token = pick(logits[0], self._sampling, position)
            return Guess(token, confidence_in(self._sequence, logits[0], token, self._sampling, position))

        return work, len(fed)

    def release(self) -> None:
        """Give the cache back. No step may be running."""
        sequence, self._sequence = self._sequence, None
        if sequence is None:
            return
        if self._memory is not None and self._is_sound:
            self._memory.give_back(sequence, self._text[: self._num_valid])
        else:
            sequence.release()
