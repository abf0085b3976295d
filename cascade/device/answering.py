"""One answer as the app sees it, whoever decides its tokens."""

from __future__ import annotations

import abc
import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Self, cast

from ..errors import CascadeError
from ..events import Answer, Event, Revision, Source, Summary, Token
from .answer_text import AnswerText
from .outbox import StreamRequest
from .policy import Policy
from .tally import Tally

__all__ = ["AnswerStream"]


class AnswerStream(abc.ABC):
    """Iterate over it for tokens, once; `summary`, `text` and `tokens` are there meanwhile and afterwards.
    Where tokens may be withdrawn (`revisions=True`), iterate over `events()`.

    Leaving the loop ends the stream. Code that keeps the iterator beyond the loop says when it is over by
    `async with device.stream(...) as stream`.
    """

    can_revise = False
    """Tokens that came while there was no edge may be withdrawn."""

    def __init__(self, request: StreamRequest, text: AnswerText, *, is_plain: bool) -> None:
        self.request = request
        self.is_ended = False
        self._loop = asyncio.get_running_loop()
        self._news: deque[Event] = deque()
        """What the app has not read: no more tokens than it asked for, and those that were withdrawn."""
        self._has_news = asyncio.Event()
        self._is_read = False
        self._failure: CascadeError | None = None
        self._text = text
        self._num_answer_tokens: int | None = None
        """How long the answer is, once that is decided: a commit may go on behind a stop string."""
        self._tally = Tally(self._loop.time(), is_plain=is_plain)
        self._final: Summary | None = None
        self._task: asyncio.Task[None] | None = None
        """The drafter's."""

    def __aiter__(self) -> AsyncGenerator[Token, None]:
        if self.can_revise:
            raise CascadeError("tokens of this stream may be withdrawn: iterate over its events()")
        return cast(AsyncGenerator[Token, None], self.events())

    async def events(self) -> AsyncGenerator[Event, None]:
        """Tokens, and what becomes of provisional ones. Read once, like the stream itself."""
        if self._is_read:
            raise CascadeError("a stream is read once; keep its tokens, or begin another stream")
        self._is_read = True
        try:
            while True:
                while self._news:
                    yield self._news.popleft()
                if self.is_ended:
                    break
                self._has_news.clear()
                await self._has_news.wait()
            if self._failure is not None:
                raise self._failure
        finally:
            self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        self.cancel()
        await self.join()

    @property
    def tokens(self) -> list[int]:
        """The answer so far, as token ids."""
        return self._answer_tokens()[: self._num_answer_tokens]

    @property
    def text(self) -> str:
        """The answer so far; empty on a device without a tokenizer."""
        return self._text.text

    @property
    def num_ahead(self) -> int:
        """Tokens that the device has guessed beyond the answer so far: its window, as it is now."""
        return 0

    @property
    def policy(self) -> Policy:
        """How it is decoded: as it was asked for, or, where it adapts, as it is now."""
        return self.request.policy

    @property
    def num_rollbacks(self) -> int:
        """Times that the edge decided otherwise, and what was guessed behind that was thrown away."""
        return 0

    @property
    def summary(self) -> Summary:
        """How it went, so far or all in all."""
        return self._final or self._summarise()

    @property
    def answer(self) -> Answer:
        """The answer so far, in one piece."""
        return Answer(text=self.text, tokens=tuple(self.tokens), summary=self.summary)

    def cancel(self) -> None:
        """End the stream: the edge is told, and the drafter stops after its step."""
        if not self.is_ended:
            self._tally.finish_reason = "cancelled"
            self._end()

    def fail(self, failure: CascadeError) -> None:
        """End the stream; its reader gets this error."""
        if not self.is_ended:
            self._failure = failure
            self._tally.finish_reason = "error"
            self._end()

    @property
    def is_settled(self) -> bool:
        """Ended, and no draft step is running any more."""
        return self.is_ended and (self._task is None or self._task.done())

    async def join(self) -> None:
        """Wait until the last draft step is over."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _deliver(
        self,
        token: int,
        position: int,
        source: Source,
        now_s: float,
        agreement: float | None = None,
        logprob: float | None = None,
        *,
        is_provisional: bool = False,
    ) -> None:
        """One decided token, in order. Ends the stream where the answer ends."""
        if self.is_ended:
            return  # a stop string ended the answer in the middle of a commit
        is_stop, is_full = token in self.request.stop_ids, position + 1 >= self._length_limit()
        text = self._text.add(token, is_last=is_stop or is_full)
        self._tally.count_token(source, now_s)
        self._tally.num_provisional += is_provisional
        self._tell(Token(token, position, source, now_s, text, agreement, is_provisional, logprob))
        if is_stop or is_full or self._text.has_stopped:
            self._finish(position, "stop" if is_stop or self._text.has_stopped else "length")

    def _finish(self, position: int, reason: str) -> None:
        """The answer ends with the token at this position."""
        self._tally.finish_reason = reason
        self._num_answer_tokens = position + 1 - len(self.request.prompt)
        self._end()

    def _withdraw(self, position: int, num_tokens: int, now_s: float) -> None:
        """Tokens from this position on that were delivered provisionally, and are not the text any more."""
        self._text = self._text.again(self._answer_tokens()[: position - len(self.request.prompt)])
        self._tally.withdraw(num_tokens)
        self._tell(Revision(position, self._text.text, num_tokens, now_s))

    def _tell(self, event: Event) -> None:
        self._news.append(event)
        self._has_news.set()

    def _length_limit(self) -> int:
        """No token has a position from here on."""
        return len(self.request.prompt) + self.request.max_new_tokens

    @abc.abstractmethod
    def _answer_tokens(self) -> list[int]:
        """All that was decided behind the prompt."""

    @abc.abstractmethod
    def _summarise(self) -> Summary: ...

    def _end(self) -> None:
        self._final = self._summarise()
        self.is_ended = True
        self._has_news.set()
