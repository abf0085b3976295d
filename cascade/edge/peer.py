"""One link to one device: what comes in is decoded and handed on, what goes out is built when it can go.

The writer keeps no queue of commits: it keeps the *set* of sessions that have something to say, and asks
each for its commit when the link takes it. A slow reader thus costs a set entry, not memory. The reader
reads no faster than the identity's quota: what comes faster waits on the other side of the link.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from ..errors import LinkClosed
from ..links.base import Link
from ..wire import Codec, Commit, Error, ErrorCode, Message, Pong
from .accounts import Account
from .counters import Counters
from .quota import TokenBucket
from .session import Session
from .settings import EdgeSettings

__all__ = ["Authenticator", "Peer"]

log = logging.getLogger(__name__)

Authenticator = Callable[[str, str], bool]
"""(identity, token) -> may this device come in?"""

MAX_CONTROL_MESSAGES = 32
"""Answers other than commits that wait for a slow link; more are dropped, the oldest first."""
SAY_UNKNOWN_EVERY_S = 0.5
SAY_SLOWED_EVERY_S = 5.0
MAX_BAD_MESSAGES = 32
BAD_MESSAGES_PER_S = 1.0
"""Unreadable messages that are forgiven; beyond it the edge hangs up."""
MAX_EARLY_MESSAGES = 256
EARLY_MESSAGES_PER_S = 50.0
"""Messages before HELLO that are passed over: it may have been lost, or overtaken."""


class Peer:
    """The edge's end of a device's link."""

    def __init__(
        self,
        link: Link,
        codec: Codec,
        counters: Counters,
        pass_s: Callable[[], float],
        authenticate: Authenticator | None,
    ) -> None:
        self.link = link
        self.authenticate = authenticate
        self.account: Account | None = None
        """Known once HELLO was accepted."""
        self.sessions: dict[int, Session] = {}
        """By alias. Aliases are this link's own: another device of the same identity has others."""
        self._codec = codec
        self._counters = counters
        self._pass_s = pass_s
        self._control: deque[Message] = deque(maxlen=MAX_CONTROL_MESSAGES)
        self._ready: dict[Session, None] = {}
        self._wake = asyncio.Event()
        self._is_ending = False
        self._said_unknown: dict[int, tuple[int, float]] = {}
        now_s = asyncio.get_running_loop().time()
        self._made_s = now_s
        self._sending_since_s: float | None = None
        self._said_slowed_s = -SAY_SLOWED_EVERY_S
        self._bad = TokenBucket(BAD_MESSAGES_PER_S, MAX_BAD_MESSAGES, now_s)
        self._early = TokenBucket(EARLY_MESSAGES_PER_S, MAX_EARLY_MESSAGES, now_s)

    @property
    def identity(self) -> str:
        """Empty before HELLO."""
        return "" if self.account is None else self.account.identity

    def tell(self, message: Message) -> None:
        """Send a message other than a commit."""
        self._control.append(message)
        self._wake.set()

    def mention(self, message: Message) -> None:
        """Say it if there is room: it will be said again, and must not push out what is said once."""
        if len(self._control) < MAX_CONTROL_MESSAGES:
            self.tell(message)

    def refuse(self, error: Error) -> None:
        """Say why, then hang up."""
        if not self._is_ending:
            self._is_ending = True
            self.tell(error)

    def complain(self, text: str) -> None:
        """It sent something unreadable, or not meant for an edge. Whoever does so on and on is hung up on."""
        self._counters.num_bad_messages += 1
        self.tell(Error(code=ErrorCode.BAD_MESSAGE, text=text[:200]))
        if self._bad.take(1, asyncio.get_running_loop().time()):
            self._counters.cut["bad messages"] += 1
            self.refuse(Error(code=ErrorCode.BAD_MESSAGE, text="too many unreadable messages; hanging up"))

    def commit(self, session: Session) -> None:
        """This session has something to say."""
        self._ready[session] = None
        self._wake.set()

    def may_say_unknown(self, alias: int, generation: int, now_s: float) -> bool:
        """A device sends more hints before it hears that we know nothing of them: once in a while will do."""
        said_generation, said_s = self._said_unknown.get(alias, (-1, 0.0))
        if said_generation == generation and now_s - said_s < SAY_UNKNOWN_EVERY_S:
            return False
        self._said_unknown[alias] = (generation, now_s)  # an alias is a byte, so this is bounded
        return True

    def forget(self, session: Session) -> None:
        """It is another link's now, or nobody's."""
        self._ready.pop(session, None)
        if self.sessions.get(session.alias) is session:
            del self.sessions[session.alias]

    def why_cut(self, now_s: float, settings: EdgeSettings) -> str | None:
        """Why this link should be given up, if it should."""
        if self.account is None and now_s - self._made_s > settings.hello_timeout_s:
            return "no hello"
        since_s = self._sending_since_s
        if since_s is not None and now_s - since_s > settings.send_timeout_s:
            return "does not read"
        return None

    async def serve(self, handle: Callable[[Peer, bytes], None]) -> None:
        """Read and write until the link is gone, or was refused."""
        writer = asyncio.create_task(self._write(), name="edge-writer")
        try:
            while not self._is_ending:
                data = await self.link.receive()
                handle(self, data)
                wait_s = self._hear(len(data))
                if wait_s:
                    await asyncio.sleep(wait_s)
            await asyncio.wait([writer])  # the refusal is on its way
        except LinkClosed:
            pass
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self.link.close()

    def _hear(self, num_bytes: int) -> float:
        """Count what came in; how long until the next should be read."""
        now_s = asyncio.get_running_loop().time()
        self._counters.bytes_in += num_bytes
        if self.account is None:
            if self._early.take(1, now_s):
                self._counters.cut["no hello"] += 1
                self.refuse(Error(code=ErrorCode.UNAUTHORIZED, text="say HELLO before anything else"))
            return 0.0
        wait_s = self.account.hear(num_bytes, now_s)
        if wait_s:
            self._counters.num_slowed += 1
            if now_s - self._said_slowed_s >= SAY_SLOWED_EVERY_S:
                self._said_slowed_s = now_s
                quota = self.account.quota
                text = (
                    f"you send more than {quota.messages_per_s:g} messages or {quota.bytes_per_s:.0f} bytes "
                    "a second; this edge reads no faster"
                )
                self.tell(Error(code=ErrorCode.LIMIT, text=text, retry_after_ms=round(wait_s * 1000)))
        return wait_s

    async def _write(self) -> None:
        """Say what is due until the link is gone. A writer that fails takes the link with it."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (message := self._next_message()) is not None:
                    data = self._codec.encode(message)
                    must_arrive = not isinstance(message, Commit | Pong)  # these are followed by fresher ones
                    self._sending_since_s = loop.time()
                    await self.link.send(data, must_arrive=must_arrive)
                    self._sending_since_s = None
                    self._counters.bytes_out += len(data)
                    if self.account is not None:
                        self.account.usage.bytes_out += len(data)
                if self._is_ending:
                    return
        except LinkClosed:
            pass
        except Exception as error:
            log.error("the edge's writer failed: %r", error, exc_info=error)
        finally:
            await self.link.close()

    def _next_message(self) -> Message | None:
        """Answers first, then the sessions in turn: one that always has more does not starve the others."""
        if self._control:
            return self._control.popleft()
        if self._is_ending:
            return None
        now_s = asyncio.get_running_loop().time()
        while self._ready:
            session = next(iter(self._ready))
            del self._ready[session]
            commit = session.next_commit(now_s, self._pass_s())
            if commit is not None:
                self._ready[session] = None
                return commit
        return None
