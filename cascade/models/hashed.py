"""A text's memory for models that compute from a hash of all that they hold, so that a rollback bug shows."""

from __future__ import annotations

from .base import Promise

__all__ = ["HashedSequence"]


class HashedSequence:
    """One 64-bit hash for each token held, and one for the empty text before them."""

    __slots__ = ("promise", "states")

    def __init__(self, states: list[int]) -> None:
        self.states = states
        self.promise: Promise = None

    @property
    def length(self) -> int:
        return len(self.states) - 1

    @property
    def memory_bytes(self) -> int:
        return 8 * self.length

    def growth_bytes(self, num_tokens: int) -> int:
        return 8 * num_tokens

    @property
    def fork_bytes(self) -> int:
        return self.memory_bytes

    def truncate(self, length: int) -> None:
        del self.states[length + 1 :]

    def fork(self) -> HashedSequence:
        return HashedSequence(self.states.copy())

    def release(self) -> None:
        del self.states[1:]
