"""When nothing comes from an edge: how long that is normal, and when to ask again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .timer import Timer

__all__ = ["FIRST_REPEAT_S", "MAX_REPEAT_S", "SilenceWatch"]

FIRST_REPEAT_S = 1.0
"""Silence before the device asks for a repeat, while it knows nothing of the link."""
MAX_REPEAT_S = 4.0
ROUNDING_S = 1e-9


class SilenceWatch:
    """Calls `on_silence` when nothing was heard for longer than is normal, and then ever more rarely."""

    def __init__(self, on_silence: Callable[[], None]) -> None:
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._repeat_after_s = FIRST_REPEAT_S
        self._timer = Timer(self._look)

    def start(self) -> None:
        """From now on, or anew: whatever was silent before does not count."""
        self._heard_s = self._loop.time()
        self._repeat_after_s = min(self._repeat_after_s, FIRST_REPEAT_S)
        self._wait()

    def _wait(self) -> None:
        self._timer.set(max(self._heard_s + self._repeat_after_s, self._loop.time()))

    def stop(self) -> None:
        self._timer.stop()

    def note_heard(self, now_s: float, *, normal_s: float) -> None:
        """`normal_s`: how long nothing may come from here on before something is wrong."""
        self._heard_s = now_s
        self._repeat_after_s = min(normal_s, MAX_REPEAT_S)

    def _look(self) -> None:
        now_s = self._loop.time()
        is_silent = now_s >= self._heard_s + self._repeat_after_s - ROUNDING_S
        if is_silent:
            self._heard_s = now_s
            self._repeat_after_s = min(2 * self._repeat_after_s, MAX_REPEAT_S)
        self._wait()
        if is_silent:
            self._on_silence()  # last, for it may stop us
