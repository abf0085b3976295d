"""One question, from the device's stream to the whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ...device import Device
from ...device.answering import AnswerStream
from ...events import Answer
from .questions import Question

__all__ = ["ask"]


async def ask(
    device: Device,
    question: Question,
    *,
    patience_s: float,
    piece_s: float,
    on_wait: Callable[[], Coroutine[Any, Any, None]],
    on_piece: Callable[[Question, str], None],
) -> tuple[Answer, str]:
    """The answer, and who decided it: edge or device. `on_wait` hears once that the first token is late."""
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.text})
    async with device.stream(messages, **question.options) as stream:
        pieces = _Pieces(question, piece_s, on_piece)
        tokens = aiter(stream)
        first = asyncio.ensure_future(anext(tokens, None))
        try:
            await asyncio.wait([first], timeout=patience_s)
            if not first.done() and question.when_away == "wait":
                await on_wait()
            if first.done() or question.when_away == "wait":
                token = await first
                while token is not None:
                    pieces.add(str(token))
                    token = await anext(tokens, None)
                pieces.flush()
                return stream.answer, "edge"
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await tokens.aclose()
    async with device.stream(messages, private=True, **question.options) as private:
        return await _read(private, _Pieces(question, piece_s, on_piece)), "device"


async def _read(stream: AnswerStream, pieces: _Pieces) -> Answer:
    async for token in stream:
        pieces.add(str(token))
    pieces.flush()
    return stream.answer


class _Pieces:
    """Gathers text for a while: a message for each token would be more topic than text."""

    def __init__(self, question: Question, piece_s: float, on_piece: Callable[[Question, str], None]) -> None:
        self._question = question
        self._piece_s = piece_s
        self._on_piece = on_piece
        self._text = ""
        self._said_s = float("-inf")
        self._loop = asyncio.get_running_loop()

    def add(self, text: str) -> None:
        self._text += text
        if self._loop.time() - self._said_s >= self._piece_s:
            self.flush()

    def flush(self) -> None:
        if self._text and self._question.is_streamed:
            self._on_piece(self._question, self._text)
            self._said_s = self._loop.time()
        self._text = ""
