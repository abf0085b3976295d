"""A text's memory for models that need no cache: the tokens themselves."""

from __future__ import annotations

from .base import IN_LOGITS, Promise

__all__ = ["PlainSequence"]

BYTES_PER_TOKEN = 8


class PlainSequence:
    """The tokens, in a list."""

    __slots__ = ("promise", "tokens")

    def __init__(self, tokens: list[int] | None = None) -> None:
        self.tokens = tokens or []
        self.promise: Promise = IN_LOGITS

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def memory_bytes(self) -> int:
        return BYTES_PER_TOKEN * self.length

    def growth_bytes(self, num_tokens: int) -> int:
        return BYTES_PER_TOKEN * num_tokens

    @property
    def fork_bytes(self) -> int:
        return self.memory_bytes

    def truncate(self, length: int) -> None:
        del self.tokens[length:]

    def fork(self) -> PlainSequence:
        return PlainSequence(self.tokens.copy())

    def release(self) -> None:
        self.tokens.clear()
