"""What one direction of a link does to what is sent over it: figures only, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError
from ..settings import check_int, check_number
from .traces import Trace

__all__ = ["PACKET_BYTES", "Conditions"]

PACKET_BYTES = 1500
"""A longer message travels as several packets, and needs them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """One direction of a link."""

    delay_s: float = 0.0
    """Base one-way delay."""
    jitter_s: float = 0.0
    """Added on top: exponential with this mean, order kept."""
    rate_bytes_per_s: float | None = None
    """Serialisation rate; None is unlimited."""
    trace: Trace | None = None
    """A rate that was recorded, in place of a constant one; it begins with the link and wraps around."""
    queue_bytes: int = 1 << 20
    """What may wait for the rate. Beyond it datagrams are dropped, and a stream's sender waits."""
    loss: float = 0.0
    """Chance that a packet is lost: a datagram is dropped, a reliable stream stalls until it was repeated."""
    duplication: float = 0.0
    """Chance that a datagram arrives twice."""
    reordering: float = 0.0
    """Chance that a datagram is held back by up to `reordering_s`, so that later ones overtake it."""
    reordering_s: float = 0.1
    """How long a datagram is held back at most."""
    outages: tuple[tuple[float, float], ...] = ()
    """(from, to) in seconds since the link was made: nothing gets through."""
    outages_every_s: float | None = None
    """The schedule of outages begins anew after so long; None: it happens once."""

    def __post_init__(self) -> None:
        check_number("delay_s", self.delay_s, low=0)
        check_number("jitter_s", self.jitter_s, low=0)
        check_number("reordering_s", self.reordering_s, low=0)
        check_int("queue_bytes", self.queue_bytes, low=1)
        if self.rate_bytes_per_s is not None:
            check_number("rate_bytes_per_s", self.rate_bytes_per_s, low=1)
            if self.trace is not None:
                raise SettingsError("trace", "is a rate already; leave the constant rate out")
        for field in ("loss", "duplication", "reordering"):
            check_number(field, getattr(self, field), low=0, high=1)
        for start_s, end_s in self.outages:
            check_number("outages", start_s, low=0)
            check_number("outages", end_s - start_s, low=0)
        if self.outages_every_s is not None:
            last_s = max((end_s for _, end_s in self.outages), default=0.0)
            check_number("outages_every_s", self.outages_every_s, low=0.001)
            if last_s >= self.outages_every_s:
                reason = (
                    f"the schedule lasts {last_s:g} s and cannot begin anew every {self.outages_every_s:g} s"
                )
                raise SettingsError("outages_every_s", reason)

    def is_out(self, now_s: float) -> bool:
        """Does the schedule say that nothing gets through now?"""
        if self.outages_every_s is not None:
            now_s %= self.outages_every_s
        return any(start_s <= now_s < end_s for start_s, end_s in self.outages)

    @property
    def mean_rate_bytes_per_s(self) -> float | None:
        """In the long run, a sender that always has more; outages and losses not counted."""
        return self.rate_bytes_per_s if self.trace is None else self.trace.mean_rate_bytes_per_s
