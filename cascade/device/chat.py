"""A conversation: every turn goes on where the last one ended, token by token."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Unpack

from ..errors import SettingsError
from ..events import Answer
from ..models.text import TextTokenizer
from .answering import AnswerStream
from .drafter import DraftMemory
from .options import StreamOptions
from .prompts import ChatMessage, next_turn

__all__ = ["Chat"]


class Chat:
    """Keeps what was said as the token ids that the models saw, never tokenised anew. So the edge finds the
    conversation in its prefix cache, and the device's draft feeds each turn's new tokens only.

    One turn at a time: a new one ends an answer that still runs, which counts as far as it came. The draft's
    cache is given back by `close`, by dropping the chat, and with the device.
    """

    def __init__(
        self,
        begin: Callable[[list[int], StreamOptions], AnswerStream],
        tokenizer: TextTokenizer,
        memory: DraftMemory,
        *,
        system: str | None,
    ) -> None:
        self._begin = begin
        self._tokenizer = tokenizer
        self._memory = memory
        weakref.finalize(self, memory.close).atexit = False  # an app may just drop a chat
        self._messages: list[ChatMessage] = [] if system is None else [{"role": "system", "content": system}]
        self._ids: list[int] = []
        """The conversation up to the end of the last answer."""
        self._turn: tuple[ChatMessage, list[int], AnswerStream] | None = None
        """The question, the ids before its answer, the answer."""

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """What was said. A turn that failed, or was cancelled before it said anything, was not."""
        self._settle()
        return tuple(self._messages)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids of the conversation up to the end of the last answer."""
        self._settle()
        return tuple(self._ids)

    def stream(self, content: str, **options: Unpack[StreamOptions]) -> AnswerStream:
        """Say something; iterate over what comes back. The options are those of `Device.stream`."""
        if not isinstance(content, str):
            raise SettingsError("content", "a turn is a text; conversations go to device.stream()")
        if self._turn is not None:
            self._turn[2].cancel()
        self._settle()
        message = {"role": "user", "content": content}
        if self._ids:
            ids = self._ids + next_turn(self._tokenizer, self._messages, message, self._ids[-1])
        else:
            ids = self._tokenizer.chat([*self._messages, message])
        stream = self._begin(ids, options)
        self._turn = message, ids, stream
        return stream

    async def generate(self, content: str, **options: Unpack[StreamOptions]) -> Answer:
        """Say something, and wait for the whole answer."""
        stream = self.stream(content, **options)
        async for _event in stream.events():
            pass
        return stream.answer

    def close(self) -> None:
        """End the turn that runs, and give the draft's cache back."""
        if self._turn is not None:
            self._turn[2].cancel()
        self._memory.close()

    def _settle(self) -> None:
        """Take a turn that has ended into the conversation."""
        if self._turn is None or not self._turn[2].is_ended:
            return
        (message, ids, stream), self._turn = self._turn, None
        if stream.tokens and stream.summary.finish_reason != "error":
            self._messages += [message, {"role": "assistant", "content": stream.text}]
            self._ids = ids + stream.tokens
