"""When does what is sent now arrive? The pure part of an emulated link: no loop, no clock, one direction.

Two kinds of link behave differently. Datagrams (MQTT at QoS 0) are dropped when a packet is lost, when the
queue is full, and during outages. A reliable stream (TCP) drops nothing: it stalls until the lost packet was
sent again, everything behind it waits, and a full queue makes the sender wait.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from ..errors import SettingsError
from .conditions import PACKET_BYTES, Conditions
from .traces import Wire

__all__ = ["Drop", "LinkState", "Passage", "Shaper"]

SAME_TIME_S = 1e-9
"""Clocks that went through a sum."""
MIN_STALL_S = 0.2
MAX_STALL_S = 3.0
STATE_WINDOW_S = 1.0
"""A trace's rate now is what it lets through in so long."""


class Drop(StrEnum):
    """Why something never arrived."""

    LOST = "lost"
    OUTAGE = "outage"
    QUEUE = "queue full"
    READER = "reader slow"
    CLOSED = "link closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What became of one message."""

    arrivals_s: tuple[float, ...]
    """Never, once, or (datagrams) twice."""
    drop: Drop | None = None
    stalled_s: float = 0.0
    """How long a stream stood still for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """One direction now."""

    delay_s: float
    """What a byte that is sent now takes, the queue included, jitter on average."""
    rate_bytes_per_s: float | None
    queue_bytes: int
    is_out: bool


class Shaper:
    """Decides when messages of one direction arrive. Times are seconds since the link was made."""

    def __init__(self, conditions: Conditions, *, seed: int, is_reliable: bool) -> None:
        self._is_reliable = is_reliable
        self._random = random.Random(seed)
        self._free_s = 0.0
        """When the last byte handed over will be on the wire."""
        self._cut_until_s = 0.0
        self._last_arrival_s = 0.0
        self._queue: deque[tuple[float, int]] = deque()
        """(departure, bytes) of what is not yet on the wire."""
        self._queued_bytes = 0
        self.num_sent = 0
        self.num_dropped = 0
        self.num_stalled = 0
        self.change(conditions)

    @property
    def conditions(self) -> Conditions:
        return self._conditions

    def change(self, conditions: Conditions) -> None:
        """Other conditions for what is sent from now on; what is on its way arrives as it was."""
        if self._is_reliable and conditions.loss >= 1:
            raise SettingsError("loss", "must be below 1 on a reliable link, which repeats what was lost")
        self._conditions = conditions
        self._wire = _wire(conditions)

    def cut(self, now_s: float, duration_s: float) -> float:
        """Let nothing through for a while. Returns by how much a stream's bytes under way are put off."""
        until_s = now_s + duration_s
        more_s = max(0.0, until_s - max(now_s, self._cut_until_s))
        self._cut_until_s = max(until_s, self._cut_until_s)
        if self._is_reliable:
            self._queue = deque((departure_s + more_s, size) for departure_s, size in self._queue)
            self._free_s = max(now_s, self._free_s) + more_s
            if self._last_arrival_s > now_s:
                self._last_arrival_s += more_s
            return more_s
        return 0.0

    def room_s(self, now_s: float, num_bytes: int) -> float:
        """When a stream's queue has room for this; what is larger than the queue passes when it is empty."""
        self._drain(now_s)
        over_bytes = self._queued_bytes + num_bytes - self._conditions.queue_bytes
        when_s = now_s
        for departure_s, size in self._queue:
            if over_bytes <= 0:
                break
            when_s = departure_s
            over_bytes -= size
        return when_s

    def take(self, now_s: float, num_bytes: int) -> Passage:
        """A message is sent now."""
        this = self._conditions
        self.num_sent += 1
        self._drain(now_s)
        if not self._is_reliable:
            drop = self._drop(now_s, num_bytes)
            if drop is not None:
                self.num_dropped += 1
                return Passage(arrivals_s=(), drop=drop)
        departure_s = self._wire.finish_s(max(now_s, self._free_s), num_bytes)
        stalled_s = 0.0
        if self._is_reliable:
            stalled_s = self._stall_s(departure_s, num_bytes)
            departure_s += stalled_s
            self.num_stalled += stalled_s > 0
        self._free_s = departure_s
        if departure_s > now_s:
            self._queue.append((departure_s, num_bytes))
            self._queued_bytes += num_bytes
        arrival_s = departure_s + this.delay_s + self._draw_jitter_s()
        if this.reordering and not self._is_reliable and self._random.random() < this.reordering:
            first_s = arrival_s + self._random.random() * this.reordering_s
        else:
            first_s = self._last_arrival_s = max(arrival_s, self._last_arrival_s)
        if this.duplication and not self._is_reliable and self._random.random() < this.duplication:
            again_s = first_s + self._random.random() * this.reordering_s
            return Passage(arrivals_s=(first_s, again_s))
        return Passage(arrivals_s=(first_s,), stalled_s=stalled_s)

    def end_s(self, now_s: float) -> float:
        """When the news arrives that the sender is gone: behind everything, and never lost."""
        return max(now_s + self._conditions.delay_s, self._free_s, self._last_arrival_s, self._cut_until_s)

    def state(self, now_s: float) -> LinkState:
        self._drain(now_s)
        this = self._conditions
        rate = this.rate_bytes_per_s
        if this.trace is not None:
            rate = (this.trace.bytes_by(now_s + STATE_WINDOW_S) - this.trace.bytes_by(now_s)) / STATE_WINDOW_S
        return LinkState(
            delay_s=max(0.0, self._free_s - now_s) + this.delay_s + this.jitter_s,
            rate_bytes_per_s=rate,
            queue_bytes=self._queued_bytes,
            is_out=now_s < self._cut_until_s or this.is_out(now_s),
        )

    def _drop(self, now_s: float, num_bytes: int) -> Drop | None:
        if now_s < self._cut_until_s or self._conditions.is_out(now_s):
            return Drop.OUTAGE
        if self._is_lost(num_bytes):
            return Drop.LOST
        if self._queued_bytes + num_bytes > self._conditions.queue_bytes and self._is_rated:
            return Drop.QUEUE
        return None

    def _stall_s(self, start_s: float, num_bytes: int) -> float:
        """A lost packet of a stream is sent again after a timeout that doubles; outages are waited for."""
        stalled_s = 0.0
        timeout_s = max(MIN_STALL_S, 3 * self._conditions.delay_s)
        while self._conditions.is_out(start_s + stalled_s) or self._is_lost(num_bytes):
            stalled_s += timeout_s
            timeout_s = min(2 * timeout_s, max(MAX_STALL_S, timeout_s))
            num_bytes = 1  # only the packet that was lost travels again
        return stalled_s

    def _is_lost(self, num_bytes: int) -> bool:
        loss = self._conditions.loss
        if num_bytes > PACKET_BYTES:
            loss = 1 - (1 - loss) ** math.ceil(num_bytes / PACKET_BYTES)
        return bool(loss) and self._random.random() < loss

    @property
    def _is_rated(self) -> bool:
        return self._conditions.rate_bytes_per_s is not None or self._conditions.trace is not None

    def _draw_jitter_s(self) -> float:
        return self._random.expovariate(1 / self._conditions.jitter_s) if self._conditions.jitter_s else 0.0

    def _drain(self, now_s: float) -> None:
        while self._queue and self._queue[0][0] <= now_s + SAME_TIME_S:
            self._queued_bytes -= self._queue.popleft()[1]


def _wire(conditions: Conditions) -> Wire:
    if conditions.trace is not None:
        return conditions.trace.wire()
    return _ConstantWire(conditions.rate_bytes_per_s or math.inf)


@dataclass(frozen=True, slots=True)
class _ConstantWire:
    rate_bytes_per_s: float

    def finish_s(self, start_s: float, num_bytes: int) -> float:
        return start_s + num_bytes / self.rate_bytes_per_s
