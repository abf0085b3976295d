"""Runners: one piece of work at a time, slept or in a thread."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from cascade.models.runner import PacedRunner, ThreadRunner, constant_cost

from ..helpers import in_virtual_time


@in_virtual_time
async def test_a_paced_step_takes_its_declared_time() -> None:
    loop = asyncio.get_running_loop()
    runner = PacedRunner(lambda rows: 0.01 * rows)
    assert await runner.run(lambda: "done", rows=5) == "done"
    assert loop.time() == pytest.approx(0.05)
    assert await PacedRunner(constant_cost(1.0)).run(lambda: 7, rows=100) == 7
    assert loop.time() == pytest.approx(1.05)


@in_virtual_time
async def test_paced_steps_queue_for_one_processor() -> None:
    loop = asyncio.get_running_loop()
    runner = PacedRunner(constant_cost(0.1))
    ended_s: list[float] = []

    async def step() -> None:
        await runner.run(lambda: None, rows=1)
        ended_s.append(loop.time())

    await asyncio.gather(*(step() for _ in range(3)))
    assert ended_s == pytest.approx([0.1, 0.2, 0.3])
    await asyncio.sleep(1)
    await step()
    assert ended_s[-1] == pytest.approx(1.4), "an idle processor saves nothing up"


@in_virtual_time
async def test_a_failing_paced_step_raises() -> None:
    runner = PacedRunner(constant_cost(0.1))
    with pytest.raises(ZeroDivisionError):
        await runner.run(lambda: 1 // 0, rows=1)
    assert await runner.run(lambda: 1, rows=1) == 1
    runner.close()


async def test_a_thread_runner_leaves_the_loop_free_and_keeps_order() -> None:
    runner = ThreadRunner("test-model")
    may_end = threading.Event()
    names: list[str] = []

    def slow() -> str:
        may_end.wait(10)
        names.append(threading.current_thread().name)
        return "slow"

    first = asyncio.create_task(runner.run(slow, rows=1))
    second = asyncio.create_task(runner.run(lambda: names.append("second"), rows=1))
    await asyncio.sleep(0)
    assert not first.done()
    may_end.set()
    assert await first == "slow"
    await second
    assert [names[0].startswith("test-model"), names[1]] == [True, "second"]
    with pytest.raises(ZeroDivisionError):
        await runner.run(lambda: 1 // 0, rows=1)
    runner.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
async def test_a_thread_with_a_core_of_its_own() -> None:
    allowed = os.sched_getaffinity(0)
    runner = ThreadRunner("test-model", core=max(allowed))
    assert await runner.run(lambda: os.sched_getaffinity(0), rows=1) == {max(allowed)}
    assert os.sched_getaffinity(0) == allowed, "the others keep theirs"
    runner.close()
