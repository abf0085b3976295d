"""How much may be under way: a receiver's window, so that a reader that stands still holds the sender."""

from __future__ import annotations

import asyncio

from ..errors import LinkClosed

__all__ = ["WINDOW_BYTES", "WINDOW_MESSAGES", "Credit", "cost"]

WINDOW_BYTES = 8 << 20
"""Under way or unread in one direction, before the sender has to wait; fast and far links hold half of it."""
LEAST_COST_BYTES = 256
"""What the smallest message takes in memory, so that a window full of tiny ones is bounded, too."""
WINDOW_MESSAGES = WINDOW_BYTES // LEAST_COST_BYTES + 2


class Credit:
    """`take` waits while too much is out; `give` says that some of it was read. First come, first served."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._taken = 0
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._is_closed = False

    async def take(self, amount: int) -> None:
        """What is larger than all there is passes alone. Raises `LinkClosed` once closed."""
        async with self._turn:
            while not self._is_closed and self._taken and self._taken + amount > self._capacity:
                self._news.clear()
                await self._news.wait()
            if self._is_closed:
                raise LinkClosed("the link was closed")
            self._taken += amount

    def give(self, amount: int) -> None:
        self._taken -= amount
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()


def cost(data: bytes) -> int:
    """What a message takes of the window."""
    return max(len(data), LEAST_COST_BYTES)
