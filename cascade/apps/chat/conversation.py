"""The conversation itself: a line, its answer, the next line."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from ...device import AnswerStream, Chat, Device
from ...errors import CascadeError
from ..waiting import tokens_or_silence
from .orders import is_order, obey
from .screens import Screen
from .settings import ChatSettings

__all__ = ["Conversation"]

EDGE_TIMEOUT_S = 10.0
"""In a pipe nobody can wait for an edge and change his mind."""
GREET_WITHIN_S = 2.0
LOOK_EVERY_S = 0.25
T = TypeVar("T")


class _Lines(Protocol):
    async def next(self) -> str | None: ...


class Conversation:
    """`await Conversation(...).run()` until there are no more lines, or somebody leaves."""

    def __init__(
        self, device: Device, lines: _Lines, screen: Screen, settings: ChatSettings, *, is_patient: bool
    ) -> None:
        """`is_patient`: somebody looks on, who may wait for an edge, and ask again when an answer failed."""
        self.was_interrupted = False
        """Somebody left by Ctrl-C."""
        self._device = device
        self._lines = lines
        self._screen = screen
        self._settings = settings
        self._is_patient = is_patient
        self._chat: Chat | None = None
        self._stream: AnswerStream | None = None
        """The answer that is coming, or the last one."""
        self._leaving = asyncio.Event()

    def interrupt(self) -> None:
        """Ctrl-C: no more of this answer; where there is none, no more at all."""
        if self._stream is not None and not self._stream.is_ended:
            self._stream.cancel()
        else:
            self.was_interrupted = True
            self.leave()

    def leave(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
        self._leaving.set()

    async def run(self) -> None:
        """Raises what an answer failed with, unless somebody looks on."""
        await self._or_leave(self._greet())
        while not self._leaving.is_set():
            line = await self._or_leave(self._lines.next())
            if line is None:
                return
            line = line.strip()
            try:
                if is_order(line):
                    self._obey(line)
                elif line:
                    await self._answer(line.removeprefix("/") if line.startswith("//") else line)
            except CascadeError as error:
                if not self._is_patient:
                    raise
                self._screen.note(str(error))

    async def _greet(self) -> None:
        """An edge that is there has answered by then."""
        device, loop = self._device, asyncio.get_running_loop()
        until_s = loop.time() + GREET_WITHIN_S
        while loop.time() < until_s and not (device.is_connected or device.problem):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S / 10)
        self._screen.greet(device.served_model, device.problem)

    def _obey(self, line: str) -> None:
        order = obey(line, self._settings)
        self._settings = order.settings
        if order.is_new:
            self._forget()
        if order.wants_facts:
            self._screen.note(str(self._stream.summary) if self._stream else "nothing was asked yet")
        if order.says:
            self._screen.note(order.says)
        if order.is_over:
            self.leave()

    def _forget(self) -> None:
        if self._chat is not None:
            self._chat.close()
        self._chat = None

    async def _answer(self, question: str) -> None:
        settings = self._settings
        if self._chat is None:
            self._chat = self._device.chat(system=settings.system or None, private=settings.is_private)
        stream = self._stream = self._chat.stream(question, **settings.stream_options)
        self._screen.begin()
        looking = asyncio.create_task(self._look(), name="chat-look")
        try:
            items = tokens_or_silence(
                stream,
                edge_timeout_s=math.inf if self._is_patient or settings.is_private else EDGE_TIMEOUT_S,
                keep_alive_s=math.inf,
                why=lambda: self._device.problem,
            )
            async with contextlib.aclosing(items):
                async for token in items:
                    if token is not None:
                        self._screen.token(token, stream)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            self._screen.end(question, stream)

    async def _look(self) -> None:
        while True:
            self._screen.wait(self._device.problem)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _or_leave(self, work: Coroutine[Any, Any, T]) -> T | None:
        """None where somebody leaves meanwhile."""
        task, leaving = asyncio.create_task(work), asyncio.create_task(self._leaving.wait())
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            leaving.cancel()
            await asyncio.gather(task, leaving, return_exceptions=True)
