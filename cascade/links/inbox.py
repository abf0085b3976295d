"""A bounded queue that can be closed: what every link is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from ..errors import LinkClosed

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """First in, first out, one reader.

    Full: `put` waits, `offer` refuses. Closed: what is inside is still read.
    """

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._reader: asyncio.Future[None] | None = None
        self._writers: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def offer(self, item: T) -> bool:
        """Put without waiting; False when there is no room (or nobody to read it)."""
        if self._is_closed or len(self._items) >= self._capacity:
            return False
        self._items.append(item)
        _wake(self._reader)
        return True

    async def put(self, item: T) -> None:
        while not self.offer(item):
            if self._is_closed:
                raise LinkClosed("the link was closed")
            room = asyncio.get_running_loop().create_future()
            self._writers.append(room)
            await room

    async def get(self) -> T:
        while not self._items:
            if self._is_closed:
                raise LinkClosed("the link was closed")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        item = self._items.popleft()
        self._wake_writers()
        return item

    def close(self) -> None:
        self._is_closed = True
        _wake(self._reader)
        self._wake_writers()

    def _wake_writers(self) -> None:
        """All of them: one that was cancelled meanwhile would swallow a wake-up meant for the next."""
        while self._writers:
            _wake(self._writers.popleft())


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
