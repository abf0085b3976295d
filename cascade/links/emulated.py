"""A link made worse on purpose: delay, jitter, rate, loss, duplication, reordering, outages; seeded.

Wraps any link. `Shaper` is the pure part: when does a message of this size, sent now, arrive, and how
often? Two kinds of link behave differently under loss: datagrams (MQTT at QoS 0) are dropped, a reliable
stream (TCP) stalls until the lost piece was sent again, and everything behind it waits.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TypeVar

from ..errors import LinkClosed, SettingsError
from ..settings import check_int, check_number
from .base import Link
from .inbox import Inbox

__all__ = ["Conditions", "EmulatedLink", "Shaper"]

T = TypeVar("T")

QUEUE_MESSAGES = 4096
"""Messages one direction holds; more are dropped, as a full router does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One direction of a link."""

    delay_s: float = 0.0
    """Base one-way delay."""
    jitter_s: float = 0.0
    """Added on top: exponential with this mean, order kept."""
    rate_bytes_per_s: float | None = None
    """Serialisation rate; None is unlimited."""
    queue_bytes: int = 1 << 20
    """What waits for the rate; beyond it datagrams are dropped (a stream's sender sees a growing delay)."""
    loss: float = 0.0
    """Chance that a message is lost (datagrams) or stalls the stream (reliable)."""
    duplication: float = 0.0
    """Chance that a datagram arrives twice."""
    reordering: float = 0.0
    """Chance that a datagram is held back by up to `reordering_s`, so that later ones overtake it."""
    reordering_s: float = 0.1
    outages: tuple[tuple[float, float], ...] = ()
    """(from, to) in seconds since the link was made: nothing gets through."""

    def __post_init__(self) -> None:
        check_number("delay_s", self.delay_s, low=0)
        check_number("jitter_s", self.jitter_s, low=0)
        check_number("reordering_s", self.reordering_s, low=0)
        check_int("queue_bytes", self.queue_bytes, low=1)
        if self.rate_bytes_per_s is not None:
            check_number("rate_bytes_per_s", self.rate_bytes_per_s, low=1)
        for field in ("loss", "duplication", "reordering"):
            check_number(field, getattr(self, field), low=0, high=1)
        for start_s, end_s in self.outages:
            check_number("outages", end_s - start_s, low=0)


class Shaper:
    """Decides when messages of one direction arrive. Times are seconds since the link was made."""

    def __init__(self, conditions: Conditions, *, seed: int, is_reliable: bool) -> None:
        if is_reliable and conditions.loss >= 1:
            raise SettingsError("loss", "must be below 1 on a reliable link, which repeats what was lost")
        self._conditions = conditions
        self._is_reliable = is_reliable
        self._random = random.Random(seed)
        self._wire_free_s = 0.0
        self._last_arrival_s = 0.0
        self.num_sent = 0
        self.num_dropped = 0

    def arrivals(self, now_s: float, num_bytes: int) -> tuple[float, ...]:
        """When a message sent now arrives: never, once, or (datagrams) twice."""
        this = self._conditions
        self.num_sent += 1
        if not self._is_reliable and (self._is_out(now_s) or self._is_lost()):
            self.num_dropped += 1
            return ()
        start_s = max(now_s, self._wire_free_s)
        if this.rate_bytes_per_s is not None:
            queued_bytes = (start_s - now_s) * this.rate_bytes_per_s
            if not self._is_reliable and queued_bytes + num_bytes > this.queue_bytes:
                self.num_dropped += 1
                return ()
            start_s += num_bytes / this.rate_bytes_per_s
            self._wire_free_s = start_s
        if self._is_reliable:
            start_s = self._after_stalls(start_s)
            self._wire_free_s = max(self._wire_free_s, start_s)
        arrival_s = start_s + this.delay_s + self._draw_jitter_s()
        if this.reordering and not self._is_reliable and self._random.random() < this.reordering:
            first_s = arrival_s + self._random.random() * this.reordering_s
        else:
            first_s = self._last_arrival_s = max(arrival_s, self._last_arrival_s)
        if this.duplication and not self._is_reliable and self._random.random() < this.duplication:
            return first_s, first_s + self._random.random() * this.reordering_s
        return (first_s,)

    def _after_stalls(self, start_s: float) -> float:
        """A lost piece of a stream is sent again after a timeout that doubles; outages are waited for."""
        timeout_s = max(0.2, 3 * self._conditions.delay_s)
        while self._is_out(start_s) or self._is_lost():
            start_s += timeout_s
            timeout_s = min(2 * timeout_s, 3.0)
        return start_s

    def _is_lost(self) -> bool:
        return bool(self._conditions.loss) and self._random.random() < self._conditions.loss

    def _is_out(self, now_s: float) -> bool:
        return any(start_s <= now_s < end_s for start_s, end_s in self._conditions.outages)

    def _draw_jitter_s(self) -> float:
        return self._random.expovariate(1 / self._conditions.jitter_s) if self._conditions.jitter_s else 0.0


class EmulatedLink:
    """The device's end of a link, with conditions put on both directions. Needs a running loop."""

    def __init__(
        self,
        inner: Link,
        *,
        up: Conditions | None = None,
        down: Conditions | None = None,
        seed: int = 0,
        is_reliable: bool = True,
    ) -> None:
        self._inner = inner
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._up = Shaper(up or Conditions(), seed=2 * seed, is_reliable=is_reliable)
        self._down = Shaper(down or Conditions(), seed=2 * seed + 1, is_reliable=is_reliable)
        self._outbox: Inbox[tuple[bytes, bool]] = Inbox(QUEUE_MESSAGES)
        self._inbox: Inbox[bytes] = Inbox(QUEUE_MESSAGES)
        self._num_overflown = 0
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
        return self._up.num_dropped + self._down.num_dropped + self._num_overflown

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if self._outbox.is_closed:
            raise LinkClosed("the link was closed")
        self._shape(self._up, self._outbox, (data, must_arrive), len(data))

    async def receive(self) -> bytes:
        return await self._inbox.get()

    async def close(self) -> None:
        self._shut()
        await self._inner.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _shape(self, shaper: Shaper, inbox: Inbox[T], item: T, num_bytes: int) -> None:
        for arrival_s in shaper.arrivals(self._loop.time() - self._start_s, num_bytes):
            self._loop.call_at(self._start_s + arrival_s, self._arrive, inbox, item)

    def _arrive(self, inbox: Inbox[T], item: T) -> None:
        if not inbox.offer(item) and not inbox.is_closed:
            self._num_overflown += 1

    async def _pump_up(self) -> None:
        try:
            while True:
                data, must_arrive = await self._outbox.get()
                await self._inner.send(data, must_arrive=must_arrive)
        except LinkClosed:
            self._shut()

    async def _pump_down(self) -> None:
        try:
            while True:
                data = await self._inner.receive()
                self._shape(self._down, self._inbox, data, len(data))
        except LinkClosed:
            self._shut()

    def _shut(self) -> None:
        self._outbox.close()
        self._inbox.close()
