"""A draft out of one function: the text so far goes in, a guess at its next token comes out.

For what an app knows better than any model: its phrases, the keys of its JSON, the menu on the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..errors import ContextExceeded
from ..settings import check_int, check_number
from .base import Feed
from .plain import PlainSequence
from .suffix import one_hot, portions
from .text import TextTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GuessingDraft", "NextToken"]

NextToken: TypeAlias = Callable[[Sequence[int]], tuple[int, float] | None]
"""The text's token ids -> the next one, and the chance that the target picks it; None: no idea."""


class GuessingDraft:
    """`Device.connect(..., draft=GuessingDraft(next_token, tokenizer=tokenizer))`.

    The tokenizer is the target's, since the ids are. `next_token` runs in the drafter's thread, once for each
    guess, and must not change the list. What it says about its chances is calibrated by verdicts.
    """

    context_length = 1 << 20

    def __init__(self, next_token: NextToken, *, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.vocab_fingerprint = tokenizer.vocab_fingerprint
        self.eos_ids = tokenizer.eos_ids
        self.numerics = "guessing"
        self._next_token = next_token

    def new_sequence(self) -> PlainSequence:
        return PlainSequence()

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, PlainSequence)
            if sequence.length + len(feed.tokens) > self.context_length:
                raise ContextExceeded(sequence.length + len(feed.tokens), self.context_length)
            for tokens, is_asked in portions(feed):
                sequence.tokens += tokens
                if is_asked:
                    token, sequence.promise = self._guess(sequence.tokens)
                    rows.append(one_hot(self.vocab_size, token))
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    def _guess(self, tokens: list[int]) -> tuple[int, float]:
        guess = self._next_token(tokens)
        if guess is None:  # a drafter has to say something
            return (tokens[-1] if tokens else 0), 0.0
        token, chance = guess
        check_int("next_token", token, low=0, high=self.vocab_size - 1)
        check_number("next_token", chance, low=0, high=1)
        return token, float(chance)
