"""Timers of a stream, moment by moment: when something is called, and that nothing is called afterwards."""

from __future__ import annotations

import asyncio

import pytest

from cascade.device.offline import OfflineWatch
from cascade.device.refusals import Refusals
from cascade.device.silence import FIRST_REPEAT_S, MAX_REPEAT_S, SilenceWatch
from cascade.device.timer import Timer
from cascade.errors import RefusedError
from cascade.wire import Error, ErrorCode

from ...helpers import in_virtual_time


class Calls:
    """When it was called."""

    def __init__(self) -> None:
        self.at_s: list[float] = []

    def __call__(self) -> None:
        self.at_s.append(asyncio.get_running_loop().time())


@in_virtual_time
async def test_a_timer_calls_once_at_the_time_that_was_set_last() -> None:
    calls = Calls()
    timer = Timer(calls)
    start_s = asyncio.get_running_loop().time()
    timer.set(start_s + 1)
    timer.set(start_s + 3)
    assert timer.is_set
    await asyncio.sleep(10)
    assert calls.at_s == [start_s + 3]
    assert not timer.is_set
    timer.set(start_s + 11)
    timer.stop()
    assert not timer.is_set
    await asyncio.sleep(10)
    assert len(calls.at_s) == 1


@pytest.mark.parametrize(("when_s", "expected_s"), [(7, 5), (2, 2)])
@in_virtual_time
async def test_a_planned_call_is_put_forward_and_never_off(when_s: float, expected_s: float) -> None:
    calls = Calls()
    timer = Timer(calls)
    timer.set_by(5)
    timer.set_by(when_s)
    await asyncio.sleep(10)
    assert calls.at_s == [expected_s]


@in_virtual_time
async def test_a_timer_may_be_set_again_by_what_it_calls() -> None:
    loop = asyncio.get_running_loop()
    start_s, at_s = loop.time(), list[float]()

    def call() -> None:
        at_s.append(loop.time() - start_s)
        if len(at_s) < 3:
            timer.set(loop.time() + 2)

    timer = Timer(call)
    timer.set(start_s + 1)
    await asyncio.sleep(20)
    assert at_s == [1, 3, 5]


# Silence


@in_virtual_time
async def test_silence_is_told_ever_more_rarely() -> None:
    calls = Calls()
    start_s = asyncio.get_running_loop().time()
    watch = SilenceWatch(calls)
    watch.start()
    await asyncio.sleep(20)
    watch.stop()
    await asyncio.sleep(20)
    assert MAX_REPEAT_S == 4 * FIRST_REPEAT_S
    assert [at_s - start_s for at_s in calls.at_s] == pytest.approx([1, 3, 7, 11, 15, 19])


@in_virtual_time
async def test_what_is_heard_puts_it_off_by_as_long_as_is_normal() -> None:
    calls = Calls()
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    watch = SilenceWatch(calls)
    watch.start()
    for _ in range(10):
        await asyncio.sleep(0.9)
        watch.note_heard(loop.time(), normal_s=2.5)
    assert calls.at_s == []
    await asyncio.sleep(5)
    assert [at_s - start_s for at_s in calls.at_s] == pytest.approx([9 + 2.5])
    watch.note_heard(loop.time(), normal_s=1000)
    heard_s = loop.time()
    watch.start()
    await asyncio.sleep(2)
    watch.stop()
    assert [at_s - heard_s for at_s in calls.at_s[1:]] == pytest.approx([FIRST_REPEAT_S])


@in_virtual_time
async def test_a_watch_that_is_stopped_by_what_it_calls_stays_so() -> None:
    calls = Calls()

    def on_silence() -> None:
        calls()
        watch.stop()

    watch = SilenceWatch(on_silence)
    watch.start()
    await asyncio.sleep(100)
    assert len(calls.at_s) == 1


# No edge


class Way:
    """To an edge that says something now and then."""

    def __init__(self) -> None:
        self.is_welcomed = True
        self.silent_since_s = 0.0
        self.probe = Calls()


@in_virtual_time
async def test_an_idle_link_is_asked_after_half_the_time_and_given_up_after_all_of_it() -> None:
    loop = asyncio.get_running_loop()
    way, calls = Way(), Calls()
    watch = OfflineWatch(way, after_s=4.0, on_offline=calls)
    await asyncio.sleep(100)
    watch.start()
    await asyncio.sleep(3)
    assert way.probe.at_s == pytest.approx([102]), "what was silent before is nobody's fault"
    way.silent_since_s = loop.time()  # the answer
    await asyncio.sleep(3.5)
    assert way.probe.at_s == pytest.approx([102, 105])
    assert calls.at_s == []
    await asyncio.sleep(10)
    assert calls.at_s == pytest.approx([107])
    watch.start()
    watch.stop()
    await asyncio.sleep(10)
    assert len(calls.at_s) == 1


@in_virtual_time
async def test_without_a_welcome_nobody_is_asked() -> None:
    way, calls = Way(), Calls()
    way.is_welcomed = False
    way.silent_since_s = 1.0
    watch = OfflineWatch(way, after_s=4.0, on_offline=calls)
    watch.start()
    await asyncio.sleep(100)
    assert calls.at_s == pytest.approx([5])
    watch.start()
    await asyncio.sleep(1)
    assert calls.at_s == pytest.approx([5, 100]), "there has been none for long"
    assert way.probe.at_s == []


# Refusals


def refusal(code: ErrorCode = ErrorCode.OVERLOADED, retry_after_ms: int | None = None) -> Error:
    return Error(code=code, text="full", alias=0, generation=1, retry_after_ms=retry_after_ms)


def waits_s(refusals: Refusals, error: Error, **options: object) -> list[float]:
    """Until it is given up."""
    waits = []
    try:
        while True:
            facts = {"has_answer": True, "num_other_edges": 0} | options
            waits.append(refusals.retry_after_s(error, **facts))  # type: ignore[arg-type]
    except RefusedError:
        return waits


def test_a_text_in_progress_asks_ever_more_rarely_and_not_for_ever() -> None:
    assert waits_s(Refusals(), refusal()) == [0.5, 1, 2, 4, 5, 5, 5, 5]
    assert waits_s(Refusals(), refusal(ErrorCode.INTERNAL)) == [0.5, 1, 2]
    assert waits_s(Refusals(), refusal(ErrorCode.LIMIT)) == []


def test_it_waits_as_long_as_the_edge_says_or_longer() -> None:
    assert waits_s(Refusals(), refusal(retry_after_ms=3000)) == [3, 3, 3, 4, 5, 5, 5, 5]


def test_a_text_without_a_token_asks_every_edge_once() -> None:
    assert len(waits_s(Refusals(), refusal(), has_answer=False)) == 0
    assert len(waits_s(Refusals(), refusal(), has_answer=False, num_other_edges=2)) == 2
    failing = refusal(ErrorCode.INTERNAL)
    assert len(waits_s(Refusals(), failing, has_answer=False)) == 3, "a step may fail once and not again"


def test_a_token_in_between_and_they_are_forgotten() -> None:
    refusals = Refusals()
    waits_s(refusals, refusal())
    refusals.forget()
    assert waits_s(refusals, refusal()) == [0.5, 1, 2, 4, 5, 5, 5, 5]
