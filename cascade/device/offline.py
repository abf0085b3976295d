"""When is there no edge? A stream that may go on without one watches the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from .timer import Timer

__all__ = ["Lifeline", "OfflineWatch"]

ROUNDING_S = 1e-9


class Lifeline(Protocol):
    """The way to an edge."""

    @property
    def is_welcomed(self) -> bool:
        """An edge says that it serves us."""
        ...

    @property
    def silent_since_s(self) -> float:
        """The last message, while an edge serves us; else the time at which that ended."""
        ...

    def probe(self) -> None:
        """Ask for a sign of life."""
        ...


class OfflineWatch:
    """Calls `on_offline` once there was no sign of an edge for so long; an edge that serves us is asked for
    one after half that time."""

    def __init__(self, lifeline: Lifeline, *, after_s: float, on_offline: Callable[[], None]) -> None:
        self._lifeline = lifeline
        self._after_s = after_s
        self._on_offline = on_offline
        self._loop = asyncio.get_running_loop()
        self._started_s = 0.0
        self._timer = Timer(self._look)

    def start(self) -> None:
        """From now on something is expected of the edge. If there has been none for long, `on_offline` is
        called at once, but not from here."""
        self._started_s = self._loop.time()
        self._timer.set(self._started_s)

    def stop(self) -> None:
        self._timer.stop()

    def _look(self) -> None:
        now_s, since_s = self._loop.time(), self._lifeline.silent_since_s
        next_s = since_s + self._after_s
        if self._lifeline.is_welcomed:
            # An idle link is silent because nothing was asked.
            since_s = max(since_s, self._started_s)
            next_s = since_s + self._after_s
            probe_s = since_s + self._after_s / 2
            if now_s < probe_s - ROUNDING_S:
                next_s = probe_s
            elif now_s < next_s - ROUNDING_S:
                self._lifeline.probe()
        if now_s >= next_s - ROUNDING_S:
            self._on_offline()
        else:
            self._timer.set(next_s)
