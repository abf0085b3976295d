"""One text that vLLM decodes, as the server knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ...errors import EngineError
from ..interface import Committed, DecodeRequest

__all__ = ["VllmText"]


class VllmText:
    """Committed tokens and, for the figures alone, what was guessed behind them."""

    def __init__(
        self,
        number: int,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> None:
        self.number = number
        self.request = request
        self.owner = owner
        self.on_commit = on_commit
        self.on_failure = on_failure
        self.tokens = list(prefix)
        self.known = len(prefix)
        self.prompt_length = len(request.prompt)
        self.life = 0
        """Raised whenever what vLLM is doing for this text does not count any more."""
        self.task: asyncio.Task[None] | None = None
        self.has_room = asyncio.Event()
        """Set when its device has acknowledged more, or it was closed."""
        self.lag_s = 0.0
        self._guesses: dict[int, int] = {}

    @property
    def head(self) -> int:
        return len(self.tokens)

    @property
    def queue_s(self) -> float:
        """vLLM does not say how long a request was due before its last step."""
        return 0.0

    @property
    def is_finished(self) -> bool:
        is_stopped = self.head > self.prompt_length and self.tokens[-1] in self.request.stop_ids
        return is_stopped or self.head >= self.request.length_limit

    def room(self, run_ahead: int) -> int:
        """Tokens that may be decoded before its device says that it listens."""
        return min(self.request.length_limit - self.head, run_ahead - (self.head - self.known))

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        return self.tokens[start : self.head if limit is None else start + limit]

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        """All tokens are vLLM's own: nothing is kept here."""
        return None

    def logprobs(self, start: int, stop: int) -> tuple[float, ...] | None:
        return None

    def guess(self, position: int, tokens: Iterable[int], limit: int) -> tuple[int, ...]:
        """Note a hint; the part of it that is not too far ahead."""
        near = tuple(tokens)[: max(0, self.head + limit - position)]
        for at, token in enumerate(near, position):
            if at >= self.head:
                self._guesses[at] = token
        return near

    def add(self, tokens: list[int]) -> Committed:
        """vLLM has decided these. A step ends with a token of its own, however many hints it confirmed."""
        guessed = [self._guesses.pop(self.head + index, None) == token for index, token in enumerate(tokens)]
        self.tokens += tokens
        return Committed(tuple(tokens), min(sum(guessed), len(tokens) - 1))

    def take_up(self, prefix: tuple[int, ...]) -> bool:
        """The device has all this; True if that is another text than ours, or more of it."""
        self.known = len(prefix)
        is_other = self.tokens[: len(prefix)] != list(prefix)
        if is_other:
            self.tokens = list(prefix)
            self._guesses.clear()
        return is_other
