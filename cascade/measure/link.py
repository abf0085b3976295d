"""Round trip, jitter, bandwidth and loss, from stamps that ride on messages which are sent anyway."""

from __future__ import annotations

import math

from .bandwidth import BandwidthEstimator
from .smooth import Smoothed

__all__ = ["LinkEstimator", "stamp_ms"]

STAMP_RANGE_MS = 1 << 16
"""Stamps are the low 16 bits of loop time in milliseconds: three bytes, and a minute is enough."""
LOSS_FORGETTING = 0.98
MIN_STAMPS = 8
"""Fewer say nothing about losses."""


class LinkEstimator:
    """What one link is like."""

    def __init__(self) -> None:
        self._rtt = Smoothed(1 / 8)  # the weights of RFC 6298 are 1/8 and 1/4; one weight serves us
        self._bandwidth = BandwidthEstimator()
        self._num_stamps = self._num_lost = 0.0
        """Lately."""

    @property
    def rtt_s(self) -> float | None:
        """Smoothed round trip, the edge's holding time taken out; None before the first echo."""
        return self._rtt.value

    @property
    def jitter_s(self) -> float:
        """Mean deviation of the round trip."""
        return self._rtt.deviation

    @property
    def is_in_doubt(self) -> bool:
        """The last round trip was far from those before: worth asking again."""
        return self._rtt.is_in_doubt

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        """Of the way up; None where nothing that was sent was long enough for it to show."""
        return self._bandwidth.bytes_per_s

    @property
    def loss(self) -> float | None:
        """The chance that a message is lost, both ways taken for alike; None before some stamps were sent."""
        if self._num_stamps < MIN_STAMPS:
            return None
        return 1 - math.sqrt(1 - self._num_lost / self._num_stamps)

    def add_round_trip(self, rtt_s: float, *, num_bytes: int) -> None:
        """A message of so many bytes was answered at once."""
        self._rtt.add(rtt_s)
        self._bandwidth.add(num_bytes, rtt_s)

    def add_echo(self, now_s: float, echo_ms: int, held_ms: int, *, num_bytes: int | None = None) -> None:
        """A stamp of ours came back, which the edge had held for `held_ms`; its message had `num_bytes`."""
        gone_ms = (stamp_ms(now_s) - echo_ms) % STAMP_RANGE_MS - held_ms
        if 0 <= gone_ms < STAMP_RANGE_MS // 2:
            self._rtt.add(gone_ms / 1000)
            if num_bytes is not None:
                self._bandwidth.add(num_bytes, gone_ms / 1000)

    def count_stamp(self, *, is_lost: bool) -> None:
        """A stamp came back, or never will."""
        self._num_stamps = LOSS_FORGETTING * self._num_stamps + 1
        self._num_lost = LOSS_FORGETTING * self._num_lost + is_lost


def stamp_ms(now_s: float) -> int:
    return round(now_s * 1000) % STAMP_RANGE_MS
