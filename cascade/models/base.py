"""The one small interface behind which every language model stands.

Plain synchronous code: a runner beside the model decides how a step takes time (`runner.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["IN_LOGITS", "Feed", "LanguageModel", "Logits", "Promise", "TokenSequence", "promise_of"]

Logits = Any
"""A float32 matrix [rows, vocab_size]: a NumPy array, or a torch tensor where torch runs the model."""

IN_LOGITS: Final = "in-logits"
Promise: TypeAlias = float | str | None
"""What a draft says about its last row: a number, the chance that the target picks the same token; IN_LOGITS,
nothing but what the logits say; None, nothing, and the logits mean nothing either."""


class TokenSequence(Protocol):
    """The model's memory of one text: what its cache really holds."""

    @property
    def length(self) -> int:
        """Tokens held."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes of cache that belong to this sequence alone (a shared prefix counts once)."""
        ...

    def growth_bytes(self, num_tokens: int) -> int:
        """What `memory_bytes` will have grown by when a pass has appended `num_tokens`: known beforehand, so
        that an edge keeps to its memory."""
        ...

    @property
    def fork_bytes(self) -> int:
        """What the memory of all sequences together will have grown by when this one has been forked."""
        ...

    def truncate(self, length: int) -> None:
        """Forget everything from `length` on. O(1)."""
        ...

    def fork(self) -> TokenSequence:
        """A second sequence that begins as this one and shares its cache so far."""
        ...

    def release(self) -> None:
        """Give the cache back; the sequence must not be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Feed:
    """What one sequence takes part with in a forward pass."""

    sequence: TokenSequence
    tokens: Sequence[int]
    """Appended to the sequence by the pass."""
    num_logits: int
    """Logits are wanted after each of the last `num_logits` of these tokens (0 to len(tokens))."""


class LanguageModel(Protocol):
    """A causal language model over token ids."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    @property
    def vocab_fingerprint(self) -> str:
        """Names the vocabulary: equal fingerprints mean that token ids mean the same text."""
        ...

    @property
    def numerics(self) -> str:
        """The numerics class: weights hash, dtype, exact or not. Sessions move inside one class only."""
        ...

    def new_sequence(self) -> TokenSequence: ...

    def forward(self, feeds: Sequence[Feed]) -> Logits:
        """One ragged pass. Extends every sequence by its tokens; returns the wanted rows, feed by feed."""
        ...


def promise_of(sequence: TokenSequence) -> Promise:
    """A sequence may have a `promise`, renewed by every row; most models say it all in logits."""
    promise: Promise = getattr(sequence, "promise", IN_LOGITS)
    return promise
