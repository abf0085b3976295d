"""Who is answered next: things take turns, and each one's questions keep their order."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Generic, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns(Generic[T]):
    """A bounded queue for each thing, and a round over all who have something in theirs.

    Whoever asks fifty things at once waits for his own; one who asks a single one waits for a round at most.
    """

    def __init__(self, *, max_each: int, max_all: int) -> None:
        self._max_each = max_each
        self._max_all = max_all
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        """In the order of their turns."""
        self._num_waiting = 0
        self._has_some = asyncio.Condition()

    def __len__(self) -> int:
        return self._num_waiting

    def has_room(self, thing: str) -> bool:
        return self._num_waiting < self._max_all and len(self._waiting.get(thing, ())) < self._max_each

    async def put(self, thing: str, item: T) -> bool:
        """False, and nothing done, where there is no room."""
        if not self.has_room(thing):
            return False
        self._waiting.setdefault(thing, deque()).append(item)
        self._num_waiting += 1
        async with self._has_some:
            self._has_some.notify()
        return True

    async def take(self) -> T:
        async with self._has_some:
            await self._has_some.wait_for(lambda: self._num_waiting > 0)
            thing, items = self._waiting.popitem(last=False)
            item = items.popleft()
            self._num_waiting -= 1
            if items:
                self._waiting[thing] = items  # behind all others
            return item
