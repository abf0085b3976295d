"""An app may be cancelled wherever it waits, at any moment, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from cascade.device import Device, Policy
from cascade.errors import LinkClosed
from cascade.links.base import Link
from cascade.models.runner import constant_cost
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
)

from ..helpers import in_virtual_time, tasks_left
from .peers import DRAFT_S, PASS_S, PROMPT, VOCAB_SIZE, ask, edge_for, greedy, read

MOMENTS_S = [0.0, *(number * 0.0037 for number in range(1, 110))]
"""Half a second: dialling, opening, a prefill, passes with and without hints."""
POLICIES = [
    pytest.param(Policy.cloud(), id="cloud"),
    pytest.param(Policy.ask_and_wait(4), id="ask-and-wait"),
    pytest.param(Policy.adaptive(), id="adaptive"),
]


def drafting(listener: MemoryListener) -> Device:
    async def dial() -> Link:
        way = Conditions(delay_s=0.02)
        return EmulatedLink(await listener.dial(), up=way, down=way)

    target = SyntheticTarget(vocab_size=VOCAB_SIZE)
    draft, runner = SyntheticDraft(target, agreement=0.8), PacedRunner(constant_cost(DRAFT_S))
    return Device([dial], draft=draft, runner=runner, seed=3)


async def cancelled_after(seconds: float, work: Awaitable[object]) -> None:
    """It ends by that, unless it is over before, and by nothing else."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_reading_and_waiting_for_a_whole_answer(policy: Policy) -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, drafting(listener) as device:
        await ask(device, 4, policy=policy)
        await asyncio.sleep(2)
        before = tasks_left()
        for moment_s in MOMENTS_S:
            stream = device.stream(PROMPT, max_new_tokens=500, policy=policy)
            await cancelled_after(moment_s, read(stream))
            await cancelled_after(moment_s, device.generate(PROMPT, max_new_tokens=500, policy=policy))
        await asyncio.sleep(2)
        assert edge.num_sessions == 0
        assert tasks_left() == before
        expected = greedy(SyntheticTarget(vocab_size=VOCAB_SIZE), PROMPT, 40)
        assert await ask(device, policy=policy) == expected, "the device is as good as new"


@in_virtual_time
async def test_the_end_of_a_block_waits_for_the_last_step_and_may_be_cancelled() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, drafting(listener) as device:

        async def block() -> None:
            async with device.stream(PROMPT, max_new_tokens=500) as stream:
                async for token in stream:
                    if token.position > 20:
                        break

        await ask(device, 4)
        await asyncio.sleep(2)
        before = tasks_left()
        for moment_s in MOMENTS_S:
            await cancelled_after(0.3 + moment_s, block())
        await asyncio.sleep(1)
        assert (tasks_left(), edge.num_sessions) == (before, 0)


class _Mute:
    """A link on which nothing ever goes out or comes in."""

    def __init__(self) -> None:
        self.peer = "mute"
        self._closed = asyncio.Event()

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        await self._closed.wait()
        raise LinkClosed("closed")

    async def receive(self) -> bytes:
        await self._closed.wait()
        raise LinkClosed("closed")

    async def close(self) -> None:
        self._closed.set()


async def _dial_mute() -> Link:
    return _Mute()


async def _enter_and_ask_the_edge() -> None:
    async with Device([_dial_mute]):  # it knows no vocabulary, so it waits for an edge's word
        raise AssertionError("nobody told it")


async def _leave_with_a_goodbye_that_is_not_taken() -> None:
    target = SyntheticTarget(vocab_size=VOCAB_SIZE)
    draft, runner = SyntheticDraft(target, agreement=0.8), PacedRunner(constant_cost(DRAFT_S))
    async with Device([_dial_mute], draft=draft, runner=runner) as device:
        device.stream(PROMPT, max_new_tokens=500)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("life", [_enter_and_ask_the_edge, _leave_with_a_goodbye_that_is_not_taken])
@in_virtual_time
async def test_entering_and_leaving_a_device(life: Callable[[], Awaitable[None]]) -> None:
    for moment_s in (*MOMENTS_S, 0.55, 0.6, 0.61, 0.7):
        await cancelled_after(moment_s, life())
        await asyncio.sleep(PASS_S)
        assert tasks_left() == []
