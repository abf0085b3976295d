"""A draft that speaks another vocabulary than the target: any small model, for any large one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..decoding import common_prefix
from ..decoding.sampler import as_numpy
from ..errors import ContextExceeded, ModelError
from .base import Feed, LanguageModel, TokenSequence
from .retokenised import Retokenised, proposals
from .suffix import portions
from .text import TextTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ForeignDraft", "ForeignSequence"]


class ForeignDraft:
    """Wraps a draft so that it takes and proposes the target's token ids.

    The target's text is written again in the draft's tokens, the tail of it at every step, and the draft's
    logits go to the target's tokens: to the one of the same string, or, where the target has none, to the
    first of those in which the target writes the draft's token. A target token that no draft token stands
    for is never proposed. As the target decides, the text is the target's own whatever is proposed.

    Agreement is lower than that of a draft with the target's vocabulary: where the target's tokens are longer
    than the draft's, only the beginning of a word is proposed. At a temperature above 0 it is lower still.
    Noise belongs to the target's token ids, and a chance that one model gives to a whole word and the other
    to its pieces does not meet the same noise.
    """

    def __init__(
        self,
        draft: LanguageModel,
        *,
        draft_text: TextTokenizer,
        target_text: TextTokenizer,
        vocab_size: int | None = None,
    ) -> None:
        """`vocab_size` is the target's where its weights have more rows than its tokenizer has tokens."""
        if draft_text.vocab_size > draft.vocab_size:
            raise ModelError(
                f"vocabulary mismatch: the draft's tokenizer has {draft_text.vocab_size} tokens and its "
                f"weights {draft.vocab_size}; give the tokenizer that belongs to the draft"
            )
        self.vocab_size = target_text.vocab_size if vocab_size is None else vocab_size
        if self.vocab_size < target_text.vocab_size:
            raise ModelError(
                f"vocabulary mismatch: the target's tokenizer has {target_text.vocab_size} tokens, "
                f"more than the {self.vocab_size} of the target"
            )
        self.vocab_fingerprint = target_text.vocab_fingerprint
        self.eos_ids = target_text.eos_ids
        self.context_length = draft.context_length
        """In target tokens, so a bound only: past the draft's own end nothing sensible is proposed."""
        self.numerics = f"foreign {draft.numerics}"
        self._draft = draft
        self._draft_text = draft_text
        self._target_text = target_text
        pairs = proposals(draft_text, target_text, draft_ends=draft.eos_ids | draft_text.eos_ids)
        if not pairs:
            raise ModelError("vocabulary mismatch: draft and target share no token; use another draft")
        self.num_proposable = len({target_id for target_id, _ in pairs})
        """Tokens of the target that the draft can propose."""
        # Sorted by target token, so that each one's sources lie together.
        both = np.array(sorted(pairs), dtype=np.int64)
        self._sources = both[:, 1]
        self._wanted, self._borders = np.unique(both[:, 0], return_index=True)

    def new_sequence(self) -> ForeignSequence:
        return ForeignSequence(Retokenised(self._target_text, self._draft_text), self._draft.new_sequence())

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, ForeignSequence)
            if sequence.length + len(feed.tokens) > self.context_length:
                raise ContextExceeded(sequence.length + len(feed.tokens), self.context_length)
            for tokens, is_asked in portions(feed):
                sequence.text.extend(tokens)
                if is_asked:
                    rows.append(self._row(sequence))
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    def _row(self, sequence: ForeignSequence) -> NDArray[np.float32]:
        """[V of the target]"""
        fed = sequence.roll_on()
        if not fed or sequence.cache.length + len(fed) > self._draft.context_length:
            return np.zeros(self.vocab_size, np.float32)  # a draft has to say something
        logits = as_numpy(self._draft.forward([Feed(sequence.cache, fed, 1)]))[0]
        row = np.full(self.vocab_size, -np.inf, np.float32)
        row[self._wanted] = np.maximum.reduceat(logits[self._sources], self._borders)
        return row


class ForeignSequence:
    """A text in the target's tokens, and the draft's cache of it in its own."""

    __slots__ = ("_fed", "cache", "text")

    def __init__(self, text: Retokenised, cache: TokenSequence) -> None:
        self.text = text
        self.cache = cache
        self._fed: list[int] = []
        """What the cache holds."""

    @property
    def length(self) -> int:
        return self.text.length

    @property
    def memory_bytes(self) -> int:
        return self.cache.memory_bytes + self.text.memory_bytes

    def growth_bytes(self, num_tokens: int) -> int:
        """As if the draft needed as many tokens of its own: how many it needs is known only afterwards."""
        return self.cache.growth_bytes(num_tokens) + self.text.growth_bytes(num_tokens)

    @property
    def fork_bytes(self) -> int:
        return self.cache.fork_bytes + self.text.fork_bytes

    def roll_on(self) -> list[int]:
        """Cut the cache to what it shares with the text; the draft tokens to be fed, one at least, if any."""
        ids, fed = self.text.draft_ids(), self._fed[: self.cache.length]
        shared = min(common_prefix(ids, fed), max(0, len(ids) - 1))
        self.cache.truncate(shared)
        self._fed = ids
        return ids[shared:]

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on. The draft's cache is cut when it is used next."""
        self.text.truncate(length)

    def fork(self) -> ForeignSequence:
        twin = ForeignSequence(self.text.copy(), self.cache.fork())
        twin._fed = self._fed
        return twin

    def release(self) -> None:
        self.cache.release()
