"""One direction of an emulated link at work: makes senders wait, delivers when it is time, keeps the log."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..errors import LinkClosed
from .conditions import Conditions
from .records import OnRecord, Record
from .shaper import Drop, LinkState, Shaper

__all__ = ["Deliver", "Lane"]

Deliver = Callable[[], bool]
"""Hands a message over at its time; False when the reader has no room for it."""

LATENESS_SAMPLES = 32
MAX_LATE_S = 0.001
"""More is not the timers' doing but a busy machine's, which will not be so the next time."""


@dataclass(order=True, slots=True)
class _Parcel:
    arrival_s: float
    number: int
    """Equal times are delivered in the order of sending."""
    record: Record | None = field(compare=False)
    deliver: Deliver = field(compare=False)


class Lane:
    """One direction, which one link or many connections share. Needs a running loop."""

    def __init__(
        self,
        way: str,
        conditions: Conditions,
        *,
        seed: int,
        is_reliable: bool,
        on_record: OnRecord | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._made_s = self._loop.time()
        self._way = way
        self._shaper = Shaper(conditions, seed=seed, is_reliable=is_reliable)
        self._is_reliable = is_reliable
        self._on_record = on_record
        self._lateness = _Lateness()
        self._under_way: list[_Parcel] = []
        """A heap."""
        self._num_parcels = 0
        self._timer: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()
        """Senders wait for room in the order in which they came."""
        self._changed = asyncio.Event()
        self._is_closed = False
        self.num_delivered_bytes = 0
        self.num_refused = 0
        """Messages that arrived at a reader without room."""

    @property
    def conditions(self) -> Conditions:
        return self._shaper.conditions

    @property
    def num_sent(self) -> int:
        return self._shaper.num_sent

    @property
    def num_dropped(self) -> int:
        return self._shaper.num_dropped + self.num_refused

    @property
    def num_stalled(self) -> int:
        return self._shaper.num_stalled

    @property
    def state(self) -> LinkState:
        return self._shaper.state(self._now_s())

    async def send(self, num_bytes: int, deliver: Deliver, *, connection: int = 0) -> None:
        """Hand over a message; a stream's sender waits for room in the queue. `LinkClosed` once closed."""
        if not self._is_reliable:
            self._take(num_bytes, deliver, connection)
            return
        async with self._turn:
            while not self._is_closed:
                room_s = self._shaper.room_s(self._now_s(), num_bytes)
                if room_s <= self._now_s():
                    break
                await self._wait_until(room_s)
            self._take(num_bytes, deliver, connection)

    def end(self, deliver: Deliver) -> None:
        """The sender is gone: say so behind everything that is under way."""
        now_s = self._now_s()
        end_s = self._shaper.end_s(now_s)
        if end_s <= now_s and not self._under_way:
            deliver()
        else:
            self._post(end_s, None, deliver)

    def change(self, conditions: Conditions) -> None:
        """For what is sent from now on."""
        self._shaper.change(conditions)
        self._changed.set()

    def cut(self, duration_s: float) -> None:
        """Let nothing through for a while: datagrams are lost, a stream stands still."""
        put_off_s = self._shaper.cut(self._now_s(), duration_s)
        if put_off_s and self._under_way:
            for parcel in self._under_way:
                parcel.arrival_s += put_off_s  # all alike, so the heap stays one
            self._set_timer()
        self._changed.set()

    def close(self) -> None:
        """What is under way is lost."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for parcel in sorted(self._under_way):
            if parcel.record is not None:
                self._log(replace(parcel.record, drop=Drop.CLOSED))
        self._under_way.clear()
        self._changed.set()

    def _take(self, num_bytes: int, deliver: Deliver, connection: int) -> None:
        if self._is_closed:
            raise LinkClosed("the link was closed")
        now_s = self._now_s()
        passage = self._shaper.take(now_s, num_bytes)
        record = Record(
            way=self._way,
            sent_s=now_s,
            num_bytes=num_bytes,
            drop=passage.drop,
            stalled_s=passage.stalled_s,
            connection=connection,
        )
        if passage.drop is not None:
            self._log(record)
        for arrival_s in passage.arrivals_s:
            self._post(arrival_s, record, deliver)

    def _post(self, arrival_s: float, record: Record | None, deliver: Deliver) -> None:
        self._num_parcels += 1
        parcel = _Parcel(arrival_s, self._num_parcels, record, deliver)
        heapq.heappush(self._under_way, parcel)
        if self._under_way[0] is parcel:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_s = self._due_s(self._under_way[0])
        is_ahead = due_s > self._loop.time()
        self._timer = self._loop.call_at(due_s, self._deliver_due, due_s if is_ahead else None)

    def _deliver_due(self, timer_s: float | None) -> None:
        self._timer = None
        if timer_s is not None:
            self._lateness.add(self._loop.time() - timer_s)
        # Compared as the timer was set: the difference of two clocks may fall a hair short for ever.
        while self._under_way and self._due_s(self._under_way[0]) <= self._loop.time():
            self._hand_over(heapq.heappop(self._under_way))
        if self._under_way:
            self._set_timer()

    def _due_s(self, parcel: _Parcel) -> float:
        return self._made_s + parcel.arrival_s - self._lateness.mean_s

    def _hand_over(self, parcel: _Parcel) -> None:
        is_taken = parcel.deliver()
        record = parcel.record
        if record is None:
            return
        if is_taken:
            self.num_delivered_bytes += record.num_bytes
        else:
            self.num_refused += 1
        if self._on_record is not None:
            fate = {"arrived_s": parcel.arrival_s} if is_taken else {"drop": Drop.READER}
            self._on_record(replace(record, **fate))

    def _log(self, record: Record) -> None:
        if self._on_record is not None:
            self._on_record(record)

    def _now_s(self) -> float:
        return self._loop.time() - self._made_s

    async def _wait_until(self, when_s: float) -> None:
        """Or until something changed."""
        self._changed.clear()
        timer = self._loop.call_at(self._made_s + when_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()


class _Lateness:
    """How late this loop's timers are on average: set so much earlier, they are right on average.

    In virtual time they are never late.
    """

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._num_samples = 0

    def add(self, late_s: float) -> None:
        self._num_samples = min(self._num_samples + 1, LATENESS_SAMPLES)
        self.mean_s += (min(max(late_s, 0.0), MAX_LATE_S) - self.mean_s) / self._num_samples
