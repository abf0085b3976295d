"""The virtual-time loop: jumps, keeps order, and refuses the real world."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cascade.errors import VirtualTimeError
from cascade.testing import VirtualTimeLoop, run_virtual


def test_sleeping_takes_no_time_and_exactly_as_long_as_said() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        stamps = [loop.time()]
        for delay_s in (0, 0.1, 3600, 1e7):
            await asyncio.sleep(delay_s)
            stamps.append(loop.time())
        return stamps

    assert run_virtual(main()) == [0, 0, 0.1, 3600.1, 10003600.1]


def test_equal_timers_fire_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        fired: list[int] = []
        for number in (3, 1, 4, 1, 5, 9, 2, 6):
            loop.call_at(7.0, fired.append, number)
        loop.call_at(6.0, loop.call_at, 7.0, fired.append, 0)
        cancelled = loop.call_at(7.0, fired.append, -1)
        cancelled.cancel()
        await asyncio.sleep(8)
        return fired

    assert run_virtual(main()) == [3, 1, 4, 1, 5, 9, 2, 6, 0]


def test_what_is_ready_runs_before_time_moves() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        happened: list[str] = []
        loop.call_later(0, happened.append, "timer of now")
        loop.call_soon(happened.append, "soon")
        loop.call_soon(lambda: loop.call_soon(happened.append, "sooner than any timer"))
        await asyncio.sleep(1)
        return happened

    assert run_virtual(main()) == ["soon", "sooner than any timer", "timer of now"]


def test_timeouts_follow_the_loops_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 10


async def _in_thread() -> None:
    await asyncio.to_thread(print)


async def _in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def _connect() -> None:
    await asyncio.open_connection("localhost", 1)


async def _serve() -> None:
    await asyncio.start_server(lambda _reader, _writer: None, "localhost", 0)


async def _datagrams() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol)


async def _look_up() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def _run_program() -> None:
    await asyncio.create_subprocess_exec("true")


async def _run_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _watch_file() -> None:
    asyncio.get_running_loop().add_reader(0, print)


@pytest.mark.parametrize(
    "attempt",
    [
        _in_thread,
        _in_executor,
        _connect,
        _serve,
        _datagrams,
        _look_up,
        _run_program,
        _run_shell,
        _watch_file,
    ],
)
def test_the_real_world_is_refused(attempt: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with pytest.raises(VirtualTimeError, match=r"virtual time|declared costs"):
            await attempt()

    run_virtual(main())


def test_a_call_from_another_thread_is_refused() -> None:
    raised: list[Exception] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    run_virtual(main())
    assert [type(error) for error in raised] == [VirtualTimeError]


def test_a_deadlock_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(VirtualTimeError, match="deadlock"):
        run_virtual(main())


def test_a_limit_ends_what_never_ends() -> None:
    async def main() -> None:
        for _ in range(1000):
            await asyncio.sleep(1)

    with pytest.raises(VirtualTimeError, match="100 virtual seconds"):
        run_virtual(main(), limit_s=100)


def test_errors_and_results_come_out() -> None:
    async def works() -> int:
        return 5

    async def fails() -> int:
        raise ZeroDivisionError

    assert run_virtual(works()) == 5
    with pytest.raises(ZeroDivisionError):
        run_virtual(fails())


def test_async_generators_are_closed_when_nobody_reads_them() -> None:
    closed: list[float] = []

    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.5)
            closed.append(asyncio.get_running_loop().time())

    async def main() -> None:
        async for _number in numbers():
            break
        await asyncio.sleep(1)

    run_virtual(main())
    assert closed == [0.5]


def test_two_runs_are_equal_step_by_step() -> None:
    async def main() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        trace: list[tuple[float, int]] = []
        queue: asyncio.Queue[int] = asyncio.Queue(3)

        async def produce(number: int) -> None:
            for step in range(20):
                await asyncio.sleep((number * 7 + step * 3) % 5 / 10)
                await queue.put(number)

        async def consume() -> None:
            while True:
                trace.append((loop.time(), await queue.get()))
                await asyncio.sleep(0.05)

        consumers = [asyncio.create_task(consume()) for _ in range(2)]
        await asyncio.gather(*(produce(number) for number in range(6)))
        for consumer in consumers:
            consumer.cancel()
        return trace

    first = run_virtual(main())
    assert len(first) > 100
    assert run_virtual(main()) == first


def test_timers_of_a_closed_loop_are_refused() -> None:
    loop = VirtualTimeLoop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_later(1, print)
