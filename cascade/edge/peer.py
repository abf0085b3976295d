"""One link to one device: what comes in is decoded and handed on, what goes out is built when it can go.

The writer keeps no queue of commits: it keeps the *set* of sessions that have something to say, and asks
each for its commit when the link takes it. A slow reader thus costs a set entry, not memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from ..errors import LinkClosed
from ..links.base import Link
from ..wire import Codec, Commit, Error, Message, Pong
from .session import Session

__all__ = ["Peer"]

log = logging.getLogger(__name__)

MAX_CONTROL_MESSAGES = 32
"""Answers other than commits that wait for a slow link; more are dropped, the oldest first."""
SAY_UNKNOWN_EVERY_S = 0.5


class Peer:
    """The edge's end of a device's link."""

    def __init__(self, link: Link, codec: Codec, pass_s: Callable[[], float]) -> None:
        self.link = link
        self.identity: str | None = None
        """Known once HELLO was accepted."""
        self.sessions: dict[int, Session] = {}
        """By alias. Aliases are this link's own: another device of the same identity has others."""
        self._codec = codec
        self._pass_s = pass_s
        self._control: deque[Message] = deque(maxlen=MAX_CONTROL_MESSAGES)
        self._ready: dict[Session, None] = {}
        self._wake = asyncio.Event()
        self._is_ending = False
        self._said_unknown: dict[int, tuple[int, float]] = {}

    def tell(self, message: Message) -> None:
        """Send a message other than a commit."""
        self._control.append(message)
        self._wake.set()

    def refuse(self, error: Error) -> None:
        """Say why, then hang up."""
        self._is_ending = True
        self.tell(error)

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

    def hush(self, session: Session) -> None:
        """It has nothing to say any more; its alias still wards off what comes late."""
        self._ready.pop(session, None)

    def forget(self, session: Session) -> None:
        """It is another link's now, or nobody's."""
        self.hush(session)
        if self.sessions.get(session.alias) is session:
            del self.sessions[session.alias]

    async def serve(self, handle: Callable[[Peer, bytes], None]) -> None:
        """Read and write until the link is gone."""
        writer = asyncio.create_task(self._write(), name="edge-writer")
        try:
            while True:
                handle(self, await self.link.receive())
        except LinkClosed:
            pass
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self.link.close()

    async def _write(self) -> None:
        """Say what is due until the link is gone. A writer that fails takes the link with it."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (message := self._next_message()) is not None:
                    must_arrive = not isinstance(message, Commit | Pong)  # these are followed by fresher ones
                    await self.link.send(self._codec.encode(message), must_arrive=must_arrive)
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
        now_s = asyncio.get_running_loop().time()
        while self._ready:
            session = next(iter(self._ready))
            del self._ready[session]
            commit = session.next_commit(now_s, self._pass_s())
            if commit is not None:
                self._ready[session] = None
                return commit
        return None
