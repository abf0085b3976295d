"""How a model's step takes time: in a thread of its own, or declared and slept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from ..errors import RunnerStopped

__all__ = ["PacedRunner", "Runner", "ThreadRunner", "constant_cost"]

T = TypeVar("T")


class Runner(Protocol):
    """One processor: runs one piece of work at a time, off the event loop's path."""

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        """Run `work`, a step that is `rows` tokens wide, and return what it returns."""
        ...

    def close(self) -> None: ...


class ThreadRunner:
    """Real models: a worker thread of its own, so that the loop goes on while torch computes."""

    def __init__(self, name: str = "cascade-model", *, core: int | None = None) -> None:
        """`core`: the only one that the thread may compute on (Linux); threads that torch itself starts are
        not bound by it."""
        begin = None if core is None else lambda: os.sched_setaffinity(0, {core})
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=begin)

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, _within_thread, work)
        except RuntimeError as error:
            raise RunnerStopped(f"the model's thread is gone: {error}") from error
        return await future

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


class PacedRunner:
    """Synthetic and paced models: computed inline, then the declared cost is slept, so virtual time works."""

    def __init__(self, cost_s: Callable[[int], float]) -> None:
        self._cost_s = cost_s
        self._free_at_s = 0.0

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        loop = asyncio.get_running_loop()
        self._free_at_s = max(loop.time(), self._free_at_s) + self._cost_s(rows)
        result = work()  # takes time itself where time is real: part of the cost, not on top of it
        await asyncio.sleep(max(0.0, self._free_at_s - loop.time()))
        return result

    def close(self) -> None:
        """Nothing to give back."""


def _within_thread(work: Callable[[], T]) -> T:
    try:
        return work()
    except (SystemExit, KeyboardInterrupt) as error:
        # Meant for this thread; on the event loop they would end the whole program.
        raise RunnerStopped(f"the model's thread was stopped by {error!r}") from error


def constant_cost(seconds: float) -> Callable[[int], float]:
    """A step that takes the same time whatever its width."""
    return lambda rows: seconds
