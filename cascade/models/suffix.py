"""A drafter without weights, and without torch: what followed the same words before, follows again.

Made for answers that quote: data taken from a log, JSON that repeats its keys, code with one line changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ContextExceeded
from ..settings import check_int
from .base import Feed, Promise
from .repeats import BYTES_PER_TOKEN, RepeatIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Guess", "SuffixDraft", "SuffixSequence", "TrackRecord", "one_hot", "portions"]

SURE = np.float32(1e4)
"""The logit of the token proposed, others have 0: no noise at a temperature in use makes up for that."""
PRIORS = (
    (0.02, 0.11, 0.29, 0.42, 0.48, 0.71, 0.91),
    (0.02, 0.21, 0.48, 0.71, 0.85, 0.93, 0.95),
    (0.02, 0.48, 0.80, 0.91, 0.97, 0.98, 0.98),
)
"""The chance that a match goes on, until verdicts say better. Rows: the places found contradict each other,
one place, several that agree; columns: 0, 1, 2-3, 4-7, 8-15, 16-31, 32 or more tokens long. These are the
shares in 1,900 answers of SmolLM2-135M-Instruct to prompts of its own, free text most of them."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What suffix matching says about the next token."""

    token: int
    kind: tuple[int, int]
    """Row and column of PRIORS: guesses of one kind share a track record."""
    promise: float
    """The chance that the target picks this token, as guesses of this kind fared so far."""


class SuffixDraft:
    """A language model that puts all mass on the continuation of the longest match with the text so far.

    Speaks any vocabulary: give it the target's. Its sequences learn from verdicts how far which matches are
    to be trusted in this text (`SuffixSequence.guess().promise`). They take what a device feeds for verdicts;
    a caller that feeds anything else gets the same guesses, with other promises.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        vocab_fingerprint: str,
        context_length: int = 1 << 20,
        eos_ids: frozenset[int] = frozenset(),
    ) -> None:
        check_int("vocab_size", vocab_size, low=1)
        check_int("context_length", context_length, low=1)
        self.vocab_size = vocab_size
        self.vocab_fingerprint = vocab_fingerprint
        self.context_length = context_length
        self.eos_ids = eos_ids
        self.numerics = "suffix"

    def new_sequence(self) -> SuffixSequence:
        return SuffixSequence()

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, SuffixSequence)
            if sequence.length + len(feed.tokens) > self.context_length:
                raise ContextExceeded(sequence.length + len(feed.tokens), self.context_length)
            for tokens, is_asked in portions(feed):
                sequence.extend(tokens)
                if is_asked:
                    guess = sequence.guess()
                    sequence.offered, sequence.promise = guess.token, guess.promise
                    rows.append(one_hot(self.vocab_size, sequence.offered))
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), np.float32)


class SuffixSequence:
    """A text with an index of its repeats, and a record of how guesses fared.

    Verdicts need no call of their own. A drafter's text grows by its own guesses, one at a time, until the
    target decides otherwise: then the text is cut, or grows by another token than the one offered, or by
    several. Whatever stands in the text at that moment is the target's, and all guesses are judged by it.
    """

    __slots__ = ("_index", "_is_cut", "_noted", "_records", "decided", "offered", "promise")

    def __init__(self) -> None:
        self._index = RepeatIndex()
        self._records = [[TrackRecord(prior) for prior in row] for row in PRIORS]
        self._noted: dict[int, Guess] = {}
        """Position -> the guess for it that no verdict has judged."""
        self._is_cut = False
        self.decided = 0
        """Leading tokens that are known to be the target's own."""
        self.offered: int | None = None
        """What the last row made the caller pick; None where it left a choice, as another model's does."""
        self.promise: Promise = None
        """Of the last row."""

    @property
    def length(self) -> int:
        return len(self._index)

    @property
    def memory_bytes(self) -> int:
        return BYTES_PER_TOKEN * self.length

    def growth_bytes(self, num_tokens: int) -> int:
        return BYTES_PER_TOKEN * num_tokens

    @property
    def fork_bytes(self) -> int:
        return self.memory_bytes

    @property
    def tokens(self) -> list[int]:
        """Not to be changed."""
        return self._index.tokens

    def extend(self, tokens: Sequence[int]) -> None:
        """The text goes on; judge what stands decided by that."""
        if not tokens:
            return
        is_other = self.offered is not None and tokens[0] != self.offered
        is_verdict = self._is_cut or len(tokens) > 1 or is_other
        self._index.extend(tokens)
        self._is_cut, self.offered = False, None
        if is_verdict:
            self.decided = self.length
            for position in [position for position in self._noted if position < self.decided]:
                guess = self._noted.pop(position)
                self._record(guess.kind).add(self.tokens[position] == guess.token)

    def guess(self) -> Guess:
        """The next token as repeats have it. It will be judged, whether it is proposed or not."""
        repeat = self._index.longest()
        if repeat is None:  # nothing to stand on; a drafter still has to say something
            kind, token = (0, 0), self.tokens[-1] if self.tokens else 0
        else:
            column = min(repeat.length.bit_length(), len(PRIORS[0]) - 1)
            kind, token = (min(repeat.num_places, 2), column), repeat.token
        guess = Guess(token, kind, self._record(kind).chance)
        self._noted[self.length] = guess
        return guess

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on. Costs a few look-ups for each token dropped."""
        if length >= self.length:
            return
        self._index.truncate(length)
        self._noted = {position: guess for position, guess in self._noted.items() if position <= length}
        self._is_cut, self.offered = True, None
        self.decided = min(self.decided, length)

    def fork(self) -> SuffixSequence:
        """A copy: there is no cache of floats to share."""
        twin = SuffixSequence()
        twin._index = self._index.copy()
        twin._records = [[record.copy() for record in row] for row in self._records]
        twin._noted = dict(self._noted)
        twin._is_cut, twin.decided, twin.offered = self._is_cut, self.decided, self.offered
        return twin

    def release(self) -> None:
        self._index = RepeatIndex()
        self._noted.clear()

    def _record(self, kind: tuple[int, int]) -> TrackRecord:
        return self._records[kind[0]][kind[1]]


class TrackRecord:
    """How often guesses of one kind were right lately."""

    __slots__ = ("_num_judged", "_num_right")

    PRIOR_WEIGHT = 4.0
    MEMORY = 32.0
    """Verdicts remembered: a text goes from quoting to explaining within a line or two."""

    def __init__(self, prior: float) -> None:
        self._num_right = prior * self.PRIOR_WEIGHT
        self._num_judged = self.PRIOR_WEIGHT

    @property
    def chance(self) -> float:
        return self._num_right / self._num_judged

    def add(self, is_right: bool) -> None:
        self._num_right += is_right
        self._num_judged += 1
        if self._num_judged > self.MEMORY:
            self._num_right *= self.MEMORY / self._num_judged
            self._num_judged = self.MEMORY

    def copy(self) -> TrackRecord:
        twin = TrackRecord(0.0)
        twin._num_right, twin._num_judged = self._num_right, self._num_judged
        return twin


def one_hot(vocab_size: int, token: int) -> NDArray[np.float32]:
    """Logits [V] that leave no choice."""
    row = np.zeros(vocab_size, np.float32)
    row[token] = SURE
    return row


def portions(feed: Feed) -> list[tuple[Sequence[int], bool]]:
    """A feed in pieces, each with whether a row is wanted after it, for models that go token by token."""
    tokens = list(feed.tokens)
    if not feed.num_logits:
        return [(tokens, False)] if tokens else []
    first = len(tokens) - feed.num_logits + 1
    return [(tokens[:first], True), *(([token], True) for token in tokens[first:])]
