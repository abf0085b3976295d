"""What a run costs the machine that runs it. Not part of its figures: it differs from machine to machine."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from time import process_time

__all__ = ["Effort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Of a process, so far; or of a run, which may be spread over many processes."""

    num_events: int
    """That the virtual loop ran; 0 in real time."""
    cpu_s: float
    peak_bytes: int
    """The most memory that a process had; 0 where the system does not say."""
    num_tokens: int = 0
    """What came of it."""

    @classmethod
    def so_far(cls) -> Effort:
        """Of this process; of its loop, if one runs."""
        try:
            num_events = getattr(asyncio.get_running_loop(), "num_events", 0)
        except RuntimeError:
            num_events = 0
        return cls(num_events=num_events, cpu_s=process_time(), peak_bytes=_peak_bytes())

    @classmethod
    def of_all(cls, parts: Iterable[Effort]) -> Effort:
        """Of runs in processes of their own, or one after the other."""
        parts = list(parts)
        return cls(
            num_events=sum(part.num_events for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
            peak_bytes=max((part.peak_bytes for part in parts), default=0),
            num_tokens=sum(part.num_tokens for part in parts),
        )

    def spent(self, num_tokens: int) -> Effort:
        """Since this was taken, before the loop ran, which runs still."""
        now = Effort.so_far()
        num_events, cpu_s = now.num_events - self.num_events, now.cpu_s - self.cpu_s
        return dataclasses.replace(now, num_events=num_events, cpu_s=cpu_s, num_tokens=num_tokens)

    @property
    def events_per_s(self) -> float:
        """Of CPU."""
        return self.num_events / self.cpu_s if self.cpu_s else 0.0

    @property
    def us_per_token(self) -> float:
        """Of CPU."""
        return 1e6 * self.cpu_s / self.num_tokens if self.num_tokens else 0.0

    def __str__(self) -> str:
        events = f"{self.num_events:,} events, {self.events_per_s:,.0f} a second; " if self.num_events else ""
        return (
            f"{events}{self.cpu_s:.1f} s of CPU, {self.us_per_token:.0f} µs for each of "
            f"{self.num_tokens:,} tokens; at most {self.peak_bytes / 2**20:,.0f} MiB in a process"
        )


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024
