"""A text as both sides keep it: token ids, and the hash of every prefix beside them."""

from __future__ import annotations

from collections.abc import Iterable

from .hashing import HASH_START, extend, fold

__all__ = ["HashedText"]


class HashedText:
    """Token ids with the prefix hash after each; both grow and shrink together."""

    __slots__ = ("_states", "tokens")

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.tokens: list[int] = []
        self._states = [HASH_START]
        self.extend(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self._states.append(extend(self._states[-1], token))

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.append(token)

    def truncate(self, length: int) -> None:
        del self.tokens[length:]
        del self._states[length + 1 :]

    def hash_before(self, position: int) -> int:
        """The 16-bit hash of all tokens before `position`, as hints carry it."""
        return fold(self._states[position])

    def state_before(self, position: int) -> int:
        """All 32 bits of it, as what is kept carries it."""
        return self._states[position]
