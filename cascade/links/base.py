"""The one interface between bytes and everything above them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

__all__ = ["Dialer", "Link", "Listener"]


class Link(Protocol):
    """Moves byte strings both ways and says when it is gone.

    Messages may be lost, doubled or reordered, never altered: whoever stands above repeats what matters.
    A link does not reconnect; that belongs to the session above it.
    """

    @property
    def peer(self) -> str:
        """Who is at the other end, as the link authenticated it; empty where it cannot know."""
        ...

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        """Hand over one message. Waits while the link is congested; raises `LinkClosed` when it is gone, and
        `MessageTooLong` for what it does not carry.

        `must_arrive` asks a link that loses messages to take more care of this one (MQTT: QoS 1): set it for
        what nothing fresher replaces.
        """
        ...

    async def receive(self) -> bytes:
        """The next message. Raises `LinkClosed` when the link is gone and all that came was read."""
        ...

    async def close(self) -> None:
        """End it. Both sides see `LinkClosed`; closing twice is harmless."""
        ...


class Listener(Protocol):
    """Where an edge finds devices that dialled."""

    async def accept(self) -> Link:
        """The next device's link. Raises `LinkClosed` when the listener was closed."""
        ...

    async def close(self) -> None: ...


Dialer = Callable[[], Awaitable[Link]]
"""Dials one edge; raises `LinkError` when it cannot."""
