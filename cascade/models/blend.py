"""Two drafters in one: suffix matching where the text repeats itself, a neural draft where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..decoding.sampler import as_numpy
from ..errors import ContextExceeded
from .base import IN_LOGITS, Feed, LanguageModel, Logits, Promise, TokenSequence, promise_of
from .suffix import SuffixSequence, TrackRecord, one_hot, portions

__all__ = ["BlendDraft", "BlendSequence"]

NEURAL_PRIOR = 0.5


class BlendDraft:
    """Asks, for every token, the one that promises more.

    Suffix matching promises what matches of such a length have kept in this text, the neural draft its share
    of favourites that the target picked too; verdicts move both. That yardstick is exact at temperature 0 and
    a little hard on the neural draft above, where shared noise makes it agree on tokens that are not its
    favourites; suffix matching is measured by what it gets, always.

    A token that suffix matching gives costs no pass of the neural draft, whose cache falls behind and catches
    up, in one pass, when it is asked next. Meant for drafting, one row at a time: every row is decided, and
    if need be computed, by itself.
    """

    def __init__(self, neural: LanguageModel) -> None:
        self._neural = neural
        self.vocab_size = neural.vocab_size
        self.vocab_fingerprint = neural.vocab_fingerprint
        self.context_length = neural.context_length
        self.eos_ids = neural.eos_ids
        self.numerics = f"blend of suffix and {neural.numerics}"

    def new_sequence(self) -> BlendSequence:
        return BlendSequence(SuffixSequence(), self._neural.new_sequence())

    def forward(self, feeds: Sequence[Feed]) -> Logits:
        """As wanted of a model; a single row comes as the drafter asked has it, several as a NumPy array."""
        rows: list[Logits] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, BlendSequence)
            if sequence.length + len(feed.tokens) > self.context_length:
                raise ContextExceeded(sequence.length + len(feed.tokens), self.context_length)
            for tokens, is_asked in portions(feed):
                sequence.extend(tokens)
                if is_asked:
                    rows.append(self._row(sequence))
        if len(rows) == 1:
            return rows[0]
        return np.concatenate([as_numpy(row) for row in rows] or [np.empty((0, self.vocab_size), np.float32)])

    def _row(self, sequence: BlendSequence) -> Logits:
        """[1, V]"""
        guess = sequence.suffix.guess()
        if guess.promise >= sequence.neural_promise:
            sequence.suffix.offered, sequence.promise = guess.token, guess.promise
            return one_hot(self.vocab_size, guess.token)[None]
        missed = sequence.suffix.tokens[sequence.neural.length :]
        row = self._neural.forward([Feed(sequence.neural, missed, 1)])
        sequence.note_favourite(int(row[0].argmax()))
        sequence.promise = promise_of(sequence.neural)
        return row


class BlendSequence:
    """A text in both drafters' memories; the neural one may be behind."""

    __slots__ = ("_favourites", "_record", "neural", "promise", "suffix")

    def __init__(self, suffix: SuffixSequence, neural: TokenSequence) -> None:
        self.suffix = suffix
        self.neural = neural
        self._favourites: dict[int, int] = {}
        """Position -> the neural draft's likeliest token, where it was asked and not judged yet."""
        self._record = TrackRecord(NEURAL_PRIOR)
        self.promise: Promise = IN_LOGITS
        """Of the last row."""

    @property
    def length(self) -> int:
        return self.suffix.length

    @property
    def memory_bytes(self) -> int:
        return self.suffix.memory_bytes + self.neural.memory_bytes

    def growth_bytes(self, num_tokens: int) -> int:
        return self.suffix.growth_bytes(num_tokens) + self.neural.growth_bytes(num_tokens)

    @property
    def fork_bytes(self) -> int:
        return self.suffix.fork_bytes + self.neural.fork_bytes

    @property
    def neural_promise(self) -> float:
        """The chance that the target's next token is the neural draft's favourite, as far as is known."""
        return self._record.chance

    def note_favourite(self, token: int) -> None:
        self._favourites[self.length] = token

    def extend(self, tokens: Sequence[int]) -> None:
        self.suffix.extend(tokens)
        for position in [position for position in self._favourites if position < self.suffix.decided]:
            self._record.add(self.suffix.tokens[position] == self._favourites.pop(position))

    def truncate(self, length: int) -> None:
        self.suffix.truncate(length)
        if self.neural.length > length:
            self.neural.truncate(length)
        self._favourites = {at: token for at, token in self._favourites.items() if at <= length}

    def fork(self) -> BlendSequence:
        twin = BlendSequence(self.suffix.fork(), self.neural.fork())
        twin._favourites = dict(self._favourites)
        twin._record = self._record.copy()
        return twin

    def release(self) -> None:
        self.suffix.release()
        self.neural.release()
