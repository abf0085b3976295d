"""How much may be under way: a receiver's window, so that a reader that stands still holds the sender."""

from __future__ import annotations

import asyncio

from ..errors import LinkClosed

__all__ = ["Credit"]


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
