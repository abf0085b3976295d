"""Files that change while a server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

__all__ = ["watch"]

LOOK_EVERY_S = 1.0

State = tuple[tuple[int, int, int] | None, ...]


async def watch(
    paths: Iterable[Path], on_change: Callable[[], Awaitable[None]], *, every_s: float = LOOK_EVERY_S
) -> None:
    """Call `on_change` whenever one of the files was written or replaced; until cancelled."""
    paths = tuple(paths)
    state = await asyncio.to_thread(_look, paths)
    while True:
        await asyncio.sleep(every_s)
        now = await asyncio.to_thread(_look, paths)
        if now != state:
            state = now
            await on_change()


def _look(paths: tuple[Path, ...]) -> State:
    return tuple(_state(path) for path in paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
