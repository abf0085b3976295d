"""Timers that are late, and a loop whose timers are not. How late they are on this machine is not judged."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import statistics
import sys
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from cascade.links import precise
from cascade.links.conditions import Conditions
from cascade.links.emulated import EmulatedLink
from cascade.links.memory import memory_pair
from cascade.testing import VirtualTimeLoop


class LateLoop(VirtualTimeLoop):
    """Every timer is late, now less and now more, as those of a loop are that counts whole milliseconds."""

    LATE_S: tuple[float, ...] = (0.0002, 0.0009, 0.0004, 0.0005)
    _num_late = 0

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if when > self.time():
            when += self.LATE_S[self._num_late % len(self.LATE_S)]
            self._num_late += 1
        return super().call_at(when, callback, *args, context=context)


async def delays_s(delay_s: float, num_packets: int) -> list[float]:
    loop = asyncio.get_running_loop()
    device, edge = memory_pair()
    link = EmulatedLink(device, up=Conditions(delay_s=delay_s))
    taken_s = []
    for _ in range(num_packets):
        sent_s = loop.time()
        await link.send(b"ping")
        await edge.receive()
        taken_s.append(loop.time() - sent_s)
    await link.close()
    return taken_s


@pytest.mark.parametrize("delay_s", [0.001, 0.03])
def test_late_timers_are_made_up_for(delay_s: float) -> None:
    """The first packets teach it; from then on the delay is right on average."""
    with asyncio.Runner(loop_factory=LateLoop) as runner:
        taken_s = runner.run(delays_s(delay_s, 464))
    assert taken_s[0] == pytest.approx(delay_s + LateLoop.LATE_S[0])
    assert statistics.fmean(taken_s[64:]) == pytest.approx(delay_s, abs=0.00002)


def test_a_timer_that_was_far_too_late_teaches_no_more_than_a_millisecond() -> None:
    """A machine that stood still for a second does not make the next packets early by one."""

    class StuckLoop(LateLoop):
        LATE_S = (1.0,)

    with asyncio.Runner(loop_factory=StuckLoop) as runner:
        taken_s = runner.run(delays_s(0.03, 64))
    assert min(taken_s) >= 0.03 + 1.0 - 0.001 - 1e-9


def test_a_precise_loop_is_woken_by_bytes_timers_threads_and_signals() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        woken: list[str] = []
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            loop.call_later(0.001, far.send, b"!")
            async with asyncio.timeout(20):  # a timer under way all along, so that every wait has an end
                await loop.sock_recv(near, 1)
                woken.append("bytes")
                await asyncio.to_thread(woken.append, "thread")
                if sys.platform != "win32":
                    signalled = asyncio.Event()
                    loop.add_signal_handler(signal.SIGUSR1, signalled.set)
                    loop.call_later(0.001, os.kill, os.getpid(), signal.SIGUSR1)
                    await signalled.wait()
                    loop.remove_signal_handler(signal.SIGUSR1)
                woken.append("signal")
        return woken

    assert precise.run(main()) == ["bytes", "thread", "signal"]


def test_timers_of_a_precise_loop_are_never_early_and_keep_their_order() -> None:
    async def main() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, float]] = []
        done = asyncio.Event()
        start_s = loop.time()

        def fire(due_s: float) -> None:
            fired.append((due_s, loop.time()))

        for number in range(20):
            due_s = start_s + 0.0003 * number
            loop.call_at(due_s, fire, due_s)
        loop.call_at(start_s + 0.0003 * 20, done.set)
        await done.wait()
        return fired

    fired = precise.run(main())
    assert [due_s for due_s, _ in fired] == sorted(due_s for due_s, _ in fired)
    assert len(fired) == 20
    assert all(at_s >= due_s - 1e-6 for due_s, at_s in fired)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio's own loop is taken")
def test_a_wait_shorter_than_a_millisecond_is_not_rounded_up() -> None:
    """What the kernel is asked for, not how long it takes."""
    asked: list[float | None] = []
    original = select.select

    def spy(read: Any, write: Any, error: Any, timeout: float | None = None) -> Any:
        asked.append(timeout)
        return original(read, write, error, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "select", spy)
        precise.run(asyncio.sleep(0.0004))
    assert asked
    assert all(timeout is not None and timeout <= 0.0004 for timeout in asked)
