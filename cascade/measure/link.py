"""Round trip and jitter, from stamps that ride on messages which are sent anyway."""

from __future__ import annotations

from .smooth import Smoothed

__all__ = ["LinkEstimator", "stamp_ms"]

STAMP_RANGE_MS = 1 << 16
"""Stamps are the low 16 bits of loop time in milliseconds: three bytes, and a minute is enough."""


class LinkEstimator:
    """What one link is like."""

    def __init__(self) -> None:
        self._rtt = Smoothed(1 / 8)  # the weights of RFC 6298 are 1/8 and 1/4; one weight serves us

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

    def add_round_trip(self, rtt_s: float) -> None:
        self._rtt.add(rtt_s)

    def add_echo(self, now_s: float, echo_ms: int, held_ms: int) -> None:
        """A stamp of ours came back, after the edge had held it for `held_ms`."""
        gone_ms = (stamp_ms(now_s) - echo_ms) % STAMP_RANGE_MS - held_ms
        if 0 <= gone_ms < STAMP_RANGE_MS // 2:
            self._rtt.add(gone_ms / 1000)


def stamp_ms(now_s: float) -> int:
    return round(now_s * 1000) % STAMP_RANGE_MS
