"""Links inside one process: for tests, virtual time, and a device that lives beside its edge."""

from __future__ import annotations

import asyncio
import weakref

from ..errors import LinkClosed, LinkUnavailable
from .base import Dialer, Link
from .inbox import Inbox

__all__ = ["MemoryListener", "memory_dialer", "memory_pair"]

QUEUE_MESSAGES = 1024
"""Messages one direction holds before `send` waits."""

_LISTENING: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, MemoryListener]] = (
    weakref.WeakKeyDictionary()
)
"""Who listens under which name. Per event loop: futures do not cross from one to another."""


def memory_pair(*, device: str = "device", edge: str = "edge") -> tuple[Link, Link]:
    """Both ends of one link: the device's, then the edge's."""
    up: Inbox[bytes] = Inbox(QUEUE_MESSAGES)
    down: Inbox[bytes] = Inbox(QUEUE_MESSAGES)
    return _MemoryLink(edge, inbox=down, outbox=up), _MemoryLink(device, inbox=up, outbox=down)


def memory_dialer(name: str = "", *, device: str = "device") -> Dialer:
    """Dials whoever listens in this process under a name, or, without one, the only edge that does."""

    async def dial() -> Link:
        listening = _LISTENING.get(asyncio.get_running_loop(), {})
        if name in listening:
            return await listening[name].dial(device)
        if not name and len(listening) == 1:
            return await next(iter(listening.values())).dial(device)
        there = ", ".join(sorted(listening)) or "nobody"
        wanted = f"no edge called {name!r} listens" if name else "there is not just one edge"
        raise LinkUnavailable(f"{wanted} in this process (listening: {there}); name one as memory:NAME")

    return dial


class MemoryListener:
    """An edge's ear in this process: devices `dial` it, or find it by its name as `memory:name`."""

    def __init__(self, name: str = "edge") -> None:
        self.name = name
        self._arrivals: Inbox[Link] = Inbox(QUEUE_MESSAGES)

    async def dial(self, device: str = "device") -> Link:
        """Connect as `device`; raises `LinkUnavailable` when nobody listens."""
        ours, theirs = memory_pair(device=device, edge=self.name)
        if not self._arrivals.offer(theirs):
            raise LinkUnavailable(f"edge {self.name} does not listen")
        return ours

    async def accept(self) -> Link:
        if not self._arrivals.is_closed:
            _LISTENING.setdefault(asyncio.get_running_loop(), {})[self.name] = self
        return await self._arrivals.get()

    async def close(self) -> None:
        listening = _LISTENING.get(asyncio.get_running_loop(), {})
        if listening.get(self.name) is self:
            del listening[self.name]
        self._arrivals.close()
        while len(self._arrivals):
            await (await self._arrivals.get()).close()


class _MemoryLink:
    def __init__(self, peer: str, *, inbox: Inbox[bytes], outbox: Inbox[bytes]) -> None:
        self.peer = peer
        self._inbox = inbox
        self._outbox = outbox

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if self._inbox.is_closed:
            raise LinkClosed("the link was closed")
        await self._outbox.put(data)

    async def receive(self) -> bytes:
        return await self._inbox.get()

    async def close(self) -> None:
        self._inbox.close()
        self._outbox.close()
