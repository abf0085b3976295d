"""The device's way to an edge: dial, say hello, carry the streams' messages, dial again when it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import CascadeError, LinkClosed, LinkError, MessageTooLong, RefusedError, WireError
from ..links.base import Dialer, Link
from ..settings import check_number
from ..wire import Codec, Commit, Error, ErrorCode, Hello, Hint, Message, Move, Ping, Pong, Welcome
from .stream import Stream

__all__ = ["Connection", "ReconnectSettings"]

log = logging.getLogger(__name__)

FATAL = frozenset({ErrorCode.VERSION, ErrorCode.UNAUTHORIZED, ErrorCode.VOCABULARY, ErrorCode.MODEL})
"""Refusals of HELLO: dialling again would change nothing."""

MAX_SILENT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectSettings:
    """Full-jitter backoff: a random wait below a ceiling that doubles."""

    first_s: float = 0.1
    ceiling_s: float = 5.0
    silent_s: float = 6.0
    """A link that owes an answer and brings nothing for this long is taken for dead."""

    def __post_init__(self) -> None:
        check_number("first_s", self.first_s, low=0)
        check_number("ceiling_s", self.ceiling_s, low=0)
        check_number("silent_s", self.silent_s, low=0.01)


class _Due(NamedTuple):
    """What to send next."""

    data: bytes
    must_arrive: bool = True
    stream: Stream | None = None


class Connection:
    """Keeps one link alive towards one of several edges."""

    def __init__(
        self,
        dialers: Sequence[Dialer],
        hello: Hello,
        *,
        settings: ReconnectSettings,
        random_source: random.Random,
    ) -> None:
        self._dialers = dialers
        self._hello = hello
        self._codec = Codec(hello.vocab_size)
        self._settings = settings
        self._random = random_source
        self._streams: dict[int, Stream] = {}
        self._ready: dict[Stream, None] = {}
        self._wake = asyncio.Event()
        self._link: Link | None = None
        self._welcome: Welcome | None = None
        self._heard_s = 0.0
        self._says_hello = False
        self._was_silent = False
        self._num_silent = 0
        """Links in a row that were given up for their silence."""
        self._failure: CascadeError | None = None

    @property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(self._streams.values())

    def free_alias(self) -> int | None:
        """The lowest alias that no stream has; it fits a byte."""
        return next((alias for alias in range(256) if alias not in self._streams), None)

    def add(self, stream: Stream) -> None:
        if self._failure is not None:
            raise self._failure
        self._streams[stream.alias] = stream
        if self._welcome is not None:
            stream.note_limits(self._welcome.limits)
        if self._link is not None:
            stream.open()

    def notify(self, stream: Stream) -> None:
        """This stream has something to say."""
        self._ready[stream] = None
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled, or refused for good. Whatever ends it, no stream is left waiting."""
        try:
            await self._stay_connected()
        except Exception as error:
            log.error("the device's connection failed: %r", error, exc_info=error)
            self._failure = LinkError(f"the connection failed: {error!r}")
        for stream in self.streams:
            stream.fail(self._failure or LinkClosed("the connection ended"))

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        target = attempt = 0
        while self._failure is None:
            try:
                link = await self._dialers[target % len(self._dialers)]()
            except RefusedError as error:
                self._failure = error  # dialling again would change nothing
                break
            except (LinkError, OSError) as error:
                log.info("cannot reach an edge: %s", error)
            else:
                dialled_s = loop.time()
                was_welcome = await self._use(link)
                if was_welcome and loop.time() - dialled_s >= self._settings.ceiling_s:
                    attempt = 0
                    continue  # the same edge first: it may still have our sessions' caches
                # An edge that welcomes us and hangs up is no better than one that is down.
            target += 1
            attempt += 1
            ceiling_s = min(self._settings.ceiling_s, self._settings.first_s * 2**attempt)
            await asyncio.sleep(self._random.uniform(0, ceiling_s))

    async def _use(self, link: Link) -> bool:
        """Serve all streams over this link until it breaks; True if the edge welcomed us."""
        loop = asyncio.get_running_loop()
        self._link, self._welcome, self._heard_s = link, None, loop.time()
        self._was_silent = False
        self._says_hello = True
        for stream in self.streams:
            stream.open()
        self._wake.set()
        tasks = [
            asyncio.create_task(self._write(link), name="device-writer"),
            asyncio.create_task(self._watch(link), name="device-watch"),
        ]
        try:
            while True:
                self._on_bytes(await link.receive())
        except LinkClosed:
            # A link that fell silent says nothing good about its edge; one that broke does not blame it.
            return self._welcome is not None and not self._was_silent
        finally:
            self._link = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await link.close()

    async def _write(self, link: Link) -> None:
        """Say what is due until the link is gone. A writer that fails takes the link with it."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (due := self._next_due()) is not None:
                    try:
                        await link.send(due.data, must_arrive=due.must_arrive)
                    except MessageTooLong as error:
                        if due.stream is None:
                            raise
                        due.stream.fail(error)
        except LinkClosed:
            pass
        finally:
            await link.close()

    def _next_due(self) -> _Due | None:
        """HELLO first, then the streams in turn: one that always has more does not starve the others."""
        if self._says_hello:
            self._says_hello = False
            return _Due(self._codec.encode(self._hello))
        now_s = asyncio.get_running_loop().time()
        while self._ready:
            stream = next(iter(self._ready))
            del self._ready[stream]
            message = stream.next_message(now_s)
            if message is None:
                if stream.is_ended and self._streams.get(stream.alias) is stream:
                    del self._streams[stream.alias]
                continue
            self._ready[stream] = None
            try:
                data = self._codec.encode(message)
            except WireError as error:
                stream.fail(error)  # too long for any message, say
                continue
            stream.count_sent(message, len(data))
            if not self._fail_if_too_long(stream):
                return _Due(data, must_arrive=not isinstance(message, Hint | Ping), stream=stream)
        return None

    async def _watch(self, link: Link) -> None:
        """Half-open links never say that they are gone: streams that hear nothing for long end them."""
        loop = asyncio.get_running_loop()
        # A link may be so slow that an answer takes longer than we wait: wait longer on the next one.
        silent_s = min(self._settings.silent_s * 2**self._num_silent, MAX_SILENT_S)
        while True:
            await asyncio.sleep(silent_s / 4)
            if not self._streams:
                self._heard_s = loop.time()
            elif loop.time() - self._heard_s > silent_s:
                self._was_silent = True
                self._num_silent += 1
                await link.close()
                return
            elif self._welcome is None:
                # Our HELLO may be lost; without it the edge takes nothing from us.
                self._says_hello = True
                for stream in self.streams:
                    stream.repeat_open()
                self._wake.set()

    def _fail_if_too_long(self, stream: Stream) -> bool:
        """An edge cannot say whose message it did not read; its WELCOME says how long one may be."""
        limit = None if self._welcome is None else self._welcome.limits.max_message_bytes
        if limit is None or stream.num_open_bytes <= limit:
            return False
        text = (
            f"the text takes {stream.num_open_bytes} bytes, and this edge reads {limit}; shorten the prompt"
        )
        stream.fail(RefusedError("limit", text))
        return True

    def _on_bytes(self, data: bytes) -> None:
        try:
            message = self._codec.decode(data)
        except WireError as error:
            log.warning("the edge sent something unreadable: %s", error)
            return
        self._heard_s = asyncio.get_running_loop().time()
        self._on_message(message, len(data))

    def _on_message(self, message: Message, num_bytes: int) -> None:
        match message:
            case Commit():
                stream = self._streams.get(message.alias)
                self._num_silent = 0
                if stream is not None:
                    stream.on_commit(message, num_bytes)
            case Error():
                self._on_error(message)
            case Welcome():
                self._welcome = message
                for stream in self.streams:
                    self._fail_if_too_long(stream)
                    stream.note_limits(message.limits)
            case Ping() | Pong() | Move():
                pass
            case _:
                log.warning("the edge sent a %s, which is not for a device", type(message).__name__)

    def _on_error(self, error: Error) -> None:
        if error.code in FATAL:
            self._failure = RefusedError(error.code.name.lower(), error.text)
        elif error.alias is not None and error.alias in self._streams:
            self._streams[error.alias].on_error(error)
