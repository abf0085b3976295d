"""A link made worse on purpose: delay, jitter, rate, loss, duplication, reordering, outages; seeded.

Wraps any link in this process, in real and in virtual time. `shaper.py` decides when a message arrives,
`lane.py` delivers it then.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from ..errors import LinkClosed, MessageTooLong
from .base import Link
from .conditions import Conditions
from .credit import WINDOW_BYTES, WINDOW_MESSAGES, Credit, cost
from .inbox import Inbox
from .lane import Lane
from .records import OnRecord
from .shaper import LinkState

__all__ = ["EmulatedLink"]

log = logging.getLogger(__name__)

QUEUE_MESSAGES = 4096
"""Datagrams that wait for a slow reader; more are dropped. On a stream the sender waits, see `credit.py`."""


class EmulatedLink:
    """The device's end of a link, with conditions put on both directions. Needs a running loop.

    The conditions may change while it runs. Closing it loses what is under way; when the other side closes,
    what was under way arrives first.
    """

    def __init__(
        self,
        inner: Link,
        *,
        up: Conditions | None = None,
        down: Conditions | None = None,
        seed: int = 0,
        is_reliable: bool = True,
        on_record: OnRecord | None = None,
    ) -> None:
        self._inner = inner
        self._is_reliable = is_reliable
        self._up = Lane("up", up or Conditions(), seed=2 * seed, is_reliable=is_reliable, on_record=on_record)
        self._down = Lane(
            "down", down or Conditions(), seed=2 * seed + 1, is_reliable=is_reliable, on_record=on_record
        )
        num_messages = WINDOW_MESSAGES if is_reliable else QUEUE_MESSAGES
        self._outbox: Inbox[tuple[bytes, bool]] = Inbox(num_messages)
        self._inbox: Inbox[bytes] = Inbox(num_messages)
        self._up_credit = Credit(WINDOW_BYTES)
        self._down_credit = Credit(WINDOW_BYTES)
        self._tasks = (
            asyncio.create_task(self._pump_up(), name="emulated-up"),
            asyncio.create_task(self._pump_down(), name="emulated-down"),
        )

    @property
    def peer(self) -> str:
        return self._inner.peer

    @property
    def num_dropped(self) -> int:
        """Messages that never arrived, both directions together."""
        return self._up.num_dropped + self._down.num_dropped

    @property
    def state(self) -> tuple[LinkState, LinkState]:
        """Up and down, now."""
        return self._up.state, self._down.state

    def change(self, *, up: Conditions, down: Conditions) -> None:
        """Other conditions for what is sent from now on."""
        self._up.change(up)
        self._down.change(down)

    def cut(self, duration_s: float) -> None:
        """Let nothing through for a while, either way."""
        self._up.cut(duration_s)
        self._down.cut(duration_s)

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if self._outbox.is_closed:
            raise LinkClosed("the link was closed")
        if self._is_reliable:
            await self._up_credit.take(cost(data))
        await self._up.send(len(data), partial(self._outbox.offer, (data, must_arrive)))

    async def receive(self) -> bytes:
        data = await self._inbox.get()
        if self._is_reliable:
            self._down_credit.give(cost(data))
        return data

    async def close(self) -> None:
        self._shut()
        await self._inner.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump_up(self) -> None:
        try:
            while True:
                data, must_arrive = await self._outbox.get()
                try:
                    await self._inner.send(data, must_arrive=must_arrive)
                except MessageTooLong as error:
                    log.warning("the link below does not take a message: %s", error)  # its sender went on
                if self._is_reliable:
                    self._up_credit.give(cost(data))
        except LinkClosed:
            pass  # the other pump sees it, too, and what came before it

    async def _pump_down(self) -> None:
        try:
            while True:
                data = await self._inner.receive()
                if self._is_reliable:
                    await self._down_credit.take(cost(data))
                await self._down.send(len(data), partial(self._inbox.offer, data))
        except LinkClosed:
            self._down.end(self._shut)

    def _shut(self) -> bool:
        self._outbox.close()
        self._inbox.close()
        self._up.close()
        self._down.close()
        self._up_credit.close()
        self._down_credit.close()
        return True
