"""The device's way to an edge: dial, say hello, carry the streams' messages, dial again when it breaks."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import (
    CascadeError,
    LinkClosed,
    LinkError,
    LinkUnavailable,
    MessageTooLong,
    RefusedError,
    WireError,
)
from ..links.base import Dialer, Link
from ..wire import (
    Codec,
    Commit,
    Error,
    ErrorCode,
    Feature,
    Hello,
    Hint,
    Keep,
    Message,
    Move,
    Ping,
    Pong,
    Welcome,
)
from .roster import Roster
from .route import MAX_DOUBLINGS, ReconnectSettings, Route
from .stream import Stream

__all__ = ["Connection"]

log = logging.getLogger(__name__)

FATAL = frozenset({ErrorCode.VERSION, ErrorCode.UNAUTHORIZED, ErrorCode.VOCABULARY, ErrorCode.MODEL})
"""Refusals of HELLO: dialling this edge again would change nothing."""
BUSY = frozenset({ErrorCode.OVERLOADED, ErrorCode.INTERNAL, ErrorCode.DRAINING})
"""Refusals of a session that may be lifted, here later or by another edge at once."""

MAX_SILENT_S = 60.0
GOODBYE_S = 0.5
"""How long a device that ends waits for a congested link to take its last words."""


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
        self._route = Route(dialers, settings=settings, random_source=random_source)
        self._hello = hello
        self._codec = Codec(max(1, hello.vocab_size))
        self._settings = settings
        self._roster = Roster()
        self._wake = asyncio.Event()
        self._has_said_all = asyncio.Event()
        self._link: Link | None = None
        self._welcome: Welcome | None = None
        """Of the edge at the other end of the link."""
        self._first_welcome: asyncio.Future[Welcome] | None = None
        self._numerics = ""
        """The class of the edge that welcomed us last."""
        self._num_pin_refusals = 0
        """Edges in a row that have another class than the texts in progress."""
        self._heard_s = self._lost_s = asyncio.get_running_loop().time()
        self._owes_ping = False
        self._num_pings = 0
        self._says_hello = False
        self._was_silent = False
        self._num_silent = 0
        """Links in a row that were given up for their silence."""
        self._is_leaving = False
        self._refusal: RefusedError | None = None
        """What the edge at the other end answered to our HELLO."""
        self._problem: Exception | None = None
        """Why the last edge could not be reached."""
        self._failure: CascadeError | None = None
        self.num_complaints = 0
        """Messages of ours that an edge could not use, and did not say whose they were."""

    @property
    def is_welcomed(self) -> bool:
        """An edge at the other end of the link takes us."""
        return self._link is not None and self._welcome is not None

    @property
    def silent_since_s(self) -> float:
        """The last message, while an edge serves us; else the time at which that ended."""
        return self._heard_s if self.is_welcomed else self._lost_s

    def probe(self) -> None:
        """Ask the edge for a sign of life."""
        self._owes_ping = self.is_welcomed
        self._wake.set()

    @property
    def numerics(self) -> str:
        """Of the edge that welcomed us last; empty while none did."""
        return self._numerics

    @property
    def lacks(self) -> Feature:
        """What the edge at the other end of the link cannot do, as far as it has said."""
        return Feature.NONE if self._welcome is None else self._welcome.lacks

    @property
    def problem(self) -> str:
        """Why the edge dialled last was not reached, or would not have us; empty while one serves us."""
        problem = None if self.is_welcomed else self._failure or self._refusal or self._problem
        return "" if problem is None else str(problem)

    def free_alias(self) -> int | None:
        """For another stream; None when all are taken."""
        return self._roster.free_alias()

    def add(self, stream: Stream) -> None:
        if self._failure is not None:
            raise self._failure
        self._roster.add(stream)
        if self._welcome is not None:
            stream.note_limits(self._welcome.limits)
            self._fail_if_lacking(stream, self._welcome)
        if self._link is not None and not stream.is_ended:
            stream.open()

    def notify(self, stream: Stream) -> None:
        """This stream has something to say."""
        if self._link is None and stream.is_ended:
            self._roster.forget(stream)  # aliases belong to a link: the next one would not know whom to close
            return
        self._roster.note_ready(stream)
        self._has_said_all.clear()
        self._wake.set()

    async def learn(self, within_s: float) -> Welcome:
        """The first WELCOME, for a device that has to know what the edge's tokens are."""
        self._first_welcome = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                return await self._first_welcome
        except TimeoutError:
            reason = f": {self._problem}" if self._problem is not None else ""
            raise LinkUnavailable(f"no edge answered within {within_s:g} s{reason}") from None
        finally:
            self._first_welcome = None

    async def say_goodbye(self) -> None:
        """Wait until the link has taken what is due, for a moment at most."""
        if self._link is None or not self._roster.is_anybody_ready:
            return
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._has_said_all.wait()
        except TimeoutError:
            log.info(
                "the link did not take our goodbye in time; the edge ends our sessions with their leases"
            )

    async def run(self) -> None:
        """Until cancelled, or refused for good. Whatever ends it, no stream is left waiting."""
        try:
            await self._stay_connected()
        except Exception as error:
            log.error("the device's connection failed: %r", error, exc_info=error)
            self._failure = LinkError(f"the connection failed: {error!r}")
        finally:
            failure = self._failure or LinkClosed("the connection ended")
            for stream in self._roster:
                stream.fail(failure)
                self._roster.forget(stream)
            if self._first_welcome is not None and not self._first_welcome.done():
                self._first_welcome.set_exception(failure)

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        route = self._route
        while route.num_edges:
            refusal: RefusedError | None = None
            try:
                link = await route.current()
            except RefusedError as error:
                refusal = error
            except (LinkError, OSError) as error:
                self._problem = error
                self._num_pin_refusals = 0  # this one may have the texts' class when it is back
                log.info("cannot reach an edge: %s", error)
            else:
                dialled_s = loop.time()
                was_good = await self._use(link)
                refusal = self._refusal
                if was_good and loop.time() - dialled_s >= self._settings.ceiling_s:
                    route.stay()
                    continue
                # An edge that welcomes us and hangs up is no better than one that is down.
            if refusal is None:
                wait_s = route.move_on()
            else:
                log.warning("an edge does not serve this device: %s", refusal)
                wait_s = route.strike_out(refusal)
            if route.num_edges:
                await asyncio.sleep(wait_s)
        self._failure = route.refusal

    async def _use(self, link: Link) -> bool:
        """Serve all streams over this link until it breaks; True if the edge welcomed us, and nothing speaks
        against it."""
        self._link, self._welcome, self._heard_s = link, None, asyncio.get_running_loop().time()
        self._was_silent = self._is_leaving = False
        self._refusal = None
        self._says_hello = True
        self._open_all()
        tasks = [
            asyncio.create_task(self._write(link), name="device-writer"),
            asyncio.create_task(self._watch(link), name="device-watch"),
        ]
        try:
            while not self._is_leaving:
                self._on_bytes(await link.receive())
        except LinkClosed:
            pass
        finally:
            if self.is_welcomed:
                self._lost_s = self._heard_s if self._was_silent else asyncio.get_running_loop().time()
            self._link = None
            self._roster.forget_ended()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await link.close()
        # A link that fell silent says nothing good about its edge; one that broke does not blame it.
        return self._welcome is not None and not self._was_silent and not self._is_leaving

    def _open_all(self) -> None:
        # Not in the coroutine that calls this: its loop variable would hold a stream as long as the link.
        for stream in self._roster:
            stream.open()
        self._wake.set()

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
                self._has_said_all.set()
        except LinkClosed:
            pass
        finally:
            await link.close()

    def _next_due(self) -> _Due | None:
        """HELLO first, then the streams in turn."""
        if self._says_hello:
            self._says_hello = False
            return _Due(self._codec.encode(self._current_hello()))
        if self._owes_ping:
            self._owes_ping = False
            self._num_pings += 1
            return _Due(self._codec.encode(Ping(nonce=self._num_pings)), must_arrive=False)
        now_s = asyncio.get_running_loop().time()
        while (turn := self._roster.next_message(now_s)) is not None:
            stream, message = turn
            try:
                data = self._codec.encode(message)
            except WireError as error:
                stream.fail(error)  # too long for any message, say
                continue
            stream.count_sent(message, len(data))
            if not self._fail_if_too_long(stream):
                return _Due(data, must_arrive=not isinstance(message, Hint | Keep | Ping), stream=stream)
        return None

    def _current_hello(self) -> Hello:
        """Texts in progress go on in the numerics class in which they began, and in no other."""
        if self._numerics and self._roster.in_progress():
            return dataclasses.replace(self._hello, model=self._numerics)
        return self._hello

    async def _watch(self, link: Link) -> None:
        """Half-open links never say that they are gone: streams that hear nothing for long end them."""
        loop = asyncio.get_running_loop()
        # A link may be so slow that an answer takes longer than we wait: wait longer on the next one.
        silent_s = min(self._settings.silent_s * 2 ** min(self._num_silent, MAX_DOUBLINGS), MAX_SILENT_S)
        while True:
            await asyncio.sleep(silent_s / 4)
            is_owed = self._first_welcome is not None or self._roster.has_open
            if not is_owed:
                self._heard_s = loop.time()
            elif loop.time() - self._heard_s > silent_s:
                self._was_silent = True
                self._num_silent += 1
                await link.close()
                return
            elif self._welcome is None:
                # Our HELLO may be lost; without it the edge takes nothing from us.
                self._says_hello = True
                self._repeat_opens()

    def _repeat_opens(self) -> None:
        for stream in self._roster:
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

    def _fail_if_lacking(self, stream: Stream, welcome: Welcome) -> None:
        """An edge would refuse it all the same, a round trip later or in mid-text."""
        if missing := stream.demands & welcome.lacks:
            stream.fail(RefusedError("limit", missing.reason))

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
                stream = self._roster.get(message.alias)
                self._num_silent = 0
                if stream is not None:
                    stream.on_commit(message, num_bytes)
            case Error():
                self._on_error(message)
            case Welcome():
                self._on_welcome(message)
            case Move():
                self._is_leaving = True
            case Ping() | Pong():
                pass
            case _:
                log.warning("the edge sent a %s, which is not for a device", type(message).__name__)

    def _on_welcome(self, welcome: Welcome) -> None:
        self._welcome = welcome
        self._numerics = welcome.numerics
        self._num_pin_refusals = 0
        if not self._hello.vocab_fingerprint:
            fingerprint, size = welcome.vocab_fingerprint, welcome.vocab_size
            self._hello = dataclasses.replace(self._hello, vocab_fingerprint=fingerprint, vocab_size=size)
            self._codec = Codec(size)
        if self._first_welcome is not None and not self._first_welcome.done():
            self._first_welcome.set_result(welcome)
        for stream in self._roster:
            self._fail_if_too_long(stream)
            stream.note_limits(welcome.limits)
            self._fail_if_lacking(stream, welcome)

    def _on_error(self, error: Error) -> None:
        stream = None if error.alias is None else self._roster.get(error.alias)
        if error.code in FATAL:
            self._on_refusal(error)
        elif stream is not None:
            stream.on_error(error, num_other_edges=self._route.num_edges - 1)
            # A stream that is not served here waits; when none is, another edge may have room.
            if error.code in BUSY and self._route.num_edges > 1 and not self._roster.has_served:
                self._is_leaving = True
        elif error.code is ErrorCode.DRAINING:
            self._is_leaving = True  # it would not have our HELLO
        elif error.alias is None:
            self.num_complaints += 1
            log.warning("the edge could not use a message of ours: %s: %s", error.code.name, error.text)

    def _on_refusal(self, error: Error) -> None:
        """Of our HELLO: this edge is struck out, unless all it lacks is the texts' numerics class."""
        self._is_leaving = True
        pinned = self._roster.in_progress() if self._numerics != self._hello.model else []
        if error.code is not ErrorCode.MODEL or not pinned:
            self._refusal = RefusedError(error.code.name.lower(), error.text)
            return
        self._num_pin_refusals += 1
        if self._num_pin_refusals >= self._route.num_edges:
            self._num_pin_refusals = 0
            text = f"no edge has {self._numerics!r} any more, with which this text began; begin it anew"
            for stream in pinned:
                stream.fail(RefusedError("model", text))
