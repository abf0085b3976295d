"""Everything a test or a laboratory needs to run the whole system in virtual time.

    from cascade.testing import run_virtual

    run_virtual(main())     # the loop jumps to the next timer instead of sleeping

The same library code runs here and in real time, because it reads time from the loop only. Virtual time
is deterministic: timers that fall due together fire in the order in which they were set. Threads, real
sockets and subprocesses cannot be simulated, so they are refused with a `VirtualTimeError`.

Why not `async-solipsism`: it runs executors inline instead of refusing them, quantises the clock, and
its licence (LGPL) is one more thing for users of an Apache library to weigh.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from asyncio.events import TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Never, TypeVar

from .errors import VirtualTimeError
from .links.conditions import Conditions
from .links.emulated import EmulatedLink
from .links.memory import MemoryListener, memory_pair
from .models.runner import PacedRunner
from .models.synthetic import BetaAgreement, SyntheticDraft, SyntheticTarget

__all__ = [
    "BetaAgreement",
    "Conditions",
    "EmulatedLink",
    "MemoryListener",
    "PacedRunner",
    "SyntheticDraft",
    "SyntheticTarget",
    "VirtualTimeLoop",
    "memory_pair",
    "run_virtual",
]

T = TypeVar("T")


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An event loop whose clock jumps to the next timer whenever nothing is left to do."""

    def __init__(self, *, limit_s: float | None = None) -> None:
        super().__init__()
        self._now_s = 0.0
        self._limit_s = limit_s
        self._timers: list[tuple[float, int, TimerHandle]] = []
        """A heap by time; among equals, by the order in which they were set."""
        self._num_timers = 0
        self.num_events = 0
        """Callbacks that were run, or were due when they were cancelled."""

    def time(self) -> float:
        return self._now_s

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        self._num_timers += 1
        timer = TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self._num_timers, timer))
        return timer

    def _run_once(self) -> None:
        """What `run_forever` repeats: advance to the next timers if idle, then run what is ready."""
        ready = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._advance(ready)
        self.num_events += len(ready)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _advance(self, ready: deque[asyncio.Handle]) -> None:
        """Jump to the earliest timer that still counts, and make all timers of that moment ready."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise VirtualTimeError("every task waits for something that no timer will bring: a deadlock")
        self._now_s = max(self._now_s, timers[0][0])
        if self._limit_s is not None and self._now_s > self._limit_s:
            raise VirtualTimeError(f"still running after {self._limit_s:g} virtual seconds")
        while timers and timers[0][0] <= self._now_s:
            ready.append(heapq.heappop(timers)[2])

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """Nothing to count: cancelled timers leave the heap when their time comes."""

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != getattr(self, "_thread_id", None):
            raise VirtualTimeError("another thread called into virtual time; run this in real time")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Never:  # type: ignore[override]
        raise VirtualTimeError("threads take real time; use a PacedRunner with declared costs")

    def _refuse(self, *_args: Any, **_options: Any) -> Never:
        raise VirtualTimeError("sockets and processes are real; use memory links in virtual time")

    create_connection = create_server = create_datagram_endpoint = _refuse
    create_unix_connection = create_unix_server = connect_accepted_socket = _refuse
    getaddrinfo = getnameinfo = subprocess_exec = subprocess_shell = _refuse
    add_reader = add_writer = _refuse  # type: ignore[assignment]
    sock_recv = sock_sendall = sock_connect = sock_accept = _refuse


def run_virtual(main: Coroutine[Any, Any, T], *, limit_s: float | None = None) -> T:
    """Run a coroutine to its end in virtual time; refuse to go past `limit_s` virtual seconds."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_s=limit_s)) as runner:
        return runner.run(main)
