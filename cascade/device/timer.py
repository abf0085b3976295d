"""One call that is to come: set, put off, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Timer"]


class Timer:
    """Calls back once, at the time that was set last."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._handle is not None

    def set(self, when_s: float) -> None:
        self.stop()
        self._handle = self._loop.call_at(when_s, self._fire)

    def set_by(self, when_s: float) -> None:
        """At this time, or earlier if it was set so: nothing is put off."""
        if self._handle is None or self._handle.when() > when_s:
            self.set(when_s)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._call()
