"""Ctrl-C where stopping half-way would spoil something: noted at once, obeyed at the next good moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["deferred_interrupts"]


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C (or SIGTERM) only makes the yielded function true; a second one stops at once.

    Whoever asks and hears true puts things in order and raises KeyboardInterrupt. Only the main thread gets
    signals; in any other this does nothing. A signal that the process ignores stays ignored.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for which in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(which) is not signal.SIG_IGN:
                before[which] = signal.signal(which, note)
    try:
        yield lambda: came
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
