"""What a command does when it is told to end, or to read its files again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

__all__ = ["ENDING", "on_signals"]

ENDING = ("SIGINT", "SIGTERM")


def on_signals(handler: Callable[[], object], *names: str) -> None:
    """Have the running loop call it on these signals, those that a system does not have left out."""
    loop = asyncio.get_running_loop()
    for name in names:
        number = getattr(signal, name, None)
        if number is not None:
            try:
                loop.add_signal_handler(number, handler)
            except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt, which ends the loop
                return
