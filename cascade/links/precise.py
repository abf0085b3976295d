"""A loop whose timers are right to a tenth of a millisecond, for programs that emulate delays.

On Linux asyncio waits with epoll, which counts whole milliseconds and rounds up, so a timer is a millisecond
late as a rule. `select` counts microseconds and can wait for an epoll object. Elsewhere loops count finely
enough, or nothing is to be done about them, and asyncio's own is taken.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["precise_loop", "run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` with such a loop."""
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(main)


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop to be run and closed by whoever asked for it."""
    if sys.platform != "linux":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_PreciseSelector())


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)
