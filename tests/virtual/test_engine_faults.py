"""What goes wrong at the engine has a clear error at the device, and costs nobody else a token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest

from cascade.device import Device, Vocabulary
from cascade.edge import EdgeServer
from cascade.errors import ModelError, RefusedError, RunnerStopped
from cascade.models.base import Feed
from cascade.models.runner import ThreadRunner
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import Error

from ..helpers import in_virtual_time, tasks_left
from .peers import VOCAB_SIZE, device_for, edge_for, greedy, opening, talk_to

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
POISON = [63, 63, 63]

T = TypeVar("T")


async def read(device: Device, prompt: Sequence[int], count: int = 60) -> list[int]:
    return [token.id async for token in device.stream(prompt, max_new_tokens=count)]


class AllergicTarget(SyntheticTarget):
    """Cannot bear one prompt: every pass that feeds it fails, whoever else is in it."""

    def forward(self, feeds: Sequence[Feed]) -> Any:
        if any(list(feed.tokens[:3]) == POISON for feed in feeds):
            raise ModelError("cannot bear it")
        return super().forward(feeds)


@in_virtual_time
async def test_a_text_on_which_the_model_fails_ends_alone() -> None:
    listener = MemoryListener()
    prompts = [[number, 2, 3] for number in range(3)]
    answers = [greedy(TARGET, prompt, 60) for prompt in prompts]
    target = AllergicTarget(vocab_size=VOCAB_SIZE)
    async with edge_for(listener, target=target) as edge, device_for(listener.dial, agreement=1.0) as device:
        honest = [asyncio.create_task(read(device, prompt)) for prompt in prompts]
        await asyncio.sleep(0.1)
        with pytest.raises(RefusedError, match="cannot bear it") as refused:
            await read(device, POISON)
        assert refused.value.code == "internal"
        assert await asyncio.gather(*honest) == answers
        assert edge.engine.stats.num_failed > 1, "the device tried it again, and so did the edge"
        assert edge.engine.is_alive


class FlickeringTarget(SyntheticTarget):
    """Fails whenever there is more than one text in a pass."""

    def forward(self, feeds: Sequence[Feed]) -> Any:
        logits = super().forward(feeds)
        if len(feeds) > 1:
            raise ModelError("one at a time")  # and the caches have grown already
        return logits


@in_virtual_time
async def test_what_a_failed_step_left_in_the_caches_is_rolled_back() -> None:
    listener = MemoryListener()
    prompts = [[number, 2, 3] for number in range(5)]
    target = FlickeringTarget(vocab_size=VOCAB_SIZE)
    async with edge_for(listener, target=target) as edge, device_for(listener.dial) as device:
        answers = await asyncio.gather(*(read(device, prompt) for prompt in prompts))
        assert answers == [greedy(TARGET, prompt, 60) for prompt in prompts]
        assert edge.engine.stats.num_failed == 0


class MoodyTarget(SyntheticTarget):
    """Fails while it is out of sorts."""

    is_out_of_sorts = False

    def forward(self, feeds: Sequence[Feed]) -> Any:
        logits = super().forward(feeds)
        if self.is_out_of_sorts:
            raise ModelError("not today")
        return logits


@in_virtual_time
async def test_nobody_begins_with_what_a_failed_text_left_in_the_cache() -> None:
    listener, prompt = MemoryListener(), tuple(range(1, 41))
    target = MoodyTarget(vocab_size=VOCAB_SIZE)
    async with edge_for(listener, target=target) as edge, talk_to(listener) as talker:
        await talker.say(opening(tokens=prompt, prompt_length=40))
        await talker.hear_text(3, start=40)
        target.is_out_of_sorts = True
        assert "not today" in (await talker.hear(Error)).text
        target.is_out_of_sorts = False
        await talker.say(opening(session=b"next", alias=1, tokens=prompt, prompt_length=40))
        assert await talker.hear_text(40, start=40) == greedy(TARGET, prompt, 40)
        assert edge.engine.stats.num_hit == 0, "it is not to be trusted"


@in_virtual_time
async def test_a_prompt_that_exceeds_the_context_hurts_nobody() -> None:
    listener = MemoryListener()
    target = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=100)
    async with edge_for(listener, target=target) as edge, device_for(listener.dial) as device:
        honest = asyncio.create_task(read(device, [1, 2, 3], 500))
        await asyncio.sleep(0.1)
        with pytest.raises(RefusedError, match="a prompt of 120 tokens fills the context of 100") as refused:
            await read(device, [5] * 120)
        assert refused.value.code == "context"
        assert await honest == greedy(TARGET, [1, 2, 3], 97), "up to the context's end"
        assert edge.engine.stats.num_failed == 0


# The engine itself dies


class MortalRunner:
    """Runs so many passes, then its thread is gone."""

    num_left = 20

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        if not self.num_left:
            raise RunnerStopped("the model's thread is gone")
        self.num_left -= 1
        await asyncio.sleep(0.02)
        return work()

    def close(self) -> None: ...


@in_virtual_time
async def test_a_text_goes_on_at_another_edge_when_the_engine_dies() -> None:
    mortal, second = MemoryListener(), MemoryListener()
    async with (
        EdgeServer.of(TARGET, MortalRunner()) as edge,
        edge_for(second) as other,
        device_for(mortal.dial, second.dial) as device,
    ):
        edge.listen(mortal)
        assert await read(device, [1, 2, 3], 300) == greedy(TARGET, [1, 2, 3], 300)
        assert edge.engine_ended.is_set()
        assert other.engine.stats.num_committed < 300, "what the first had said was not said again"


@in_virtual_time
async def test_when_the_engine_dies_every_device_is_told_and_so_is_who_comes_later() -> None:
    listener = MemoryListener()
    async with (
        EdgeServer.of(TARGET, MortalRunner()) as edge,
        device_for(listener.dial) as one,
        device_for(listener.dial, seed=9) as two,
    ):
        edge.listen(listener)
        assert edge.engine.is_alive
        told = await asyncio.gather(
            *(read(device, [1, 2, 3], 900) for device in (one, one, two)), return_exceptions=True
        )
        for error in told:
            assert isinstance(error, RefusedError)
            assert error.code == "internal"
            assert "the engine is dead" in error.text
        assert not edge.engine.is_alive
        assert edge.num_sessions == 0
        with pytest.raises(RefusedError, match="the engine is dead"):
            await read(two, [1, 2, 3])


@pytest.mark.parametrize("way", ["closed", "exited"])
async def test_a_real_thread_that_is_killed_takes_no_more_than_the_engine_with_it(way: str) -> None:
    """In real time: the worker is shut down under a stream, or told to exit by what it runs."""

    class ExitingTarget(SyntheticTarget):
        is_to_exit = False

        def forward(self, feeds: Sequence[Feed]) -> Any:
            if self.is_to_exit:
                raise SystemExit(1)
            return super().forward(feeds)

    listener = MemoryListener()
    target, runner = ExitingTarget(vocab_size=VOCAB_SIZE), ThreadRunner()
    vocabulary = Vocabulary(size=VOCAB_SIZE, fingerprint=target.vocab_fingerprint)
    device = Device([listener.dial], vocabulary=vocabulary)
    async with EdgeServer.of(target, runner) as edge, device:
        edge.listen(listener)
        tokens = aiter(device.stream([1, 2, 3], max_new_tokens=100_000))
        await anext(tokens)
        if way == "closed":
            runner.close()
        else:
            target.is_to_exit = True
        with pytest.raises(RefusedError, match="the engine is dead"):
            _ = [token async for token in tokens]
        assert not edge.engine.is_alive
    assert tasks_left() == []


@in_virtual_time
async def test_an_edge_that_leaves_does_not_call_its_engine_dead() -> None:
    """Its devices must look for another edge, not give up."""
    listener, second = MemoryListener(), MemoryListener()
    async with device_for(listener.dial, second.dial) as device, edge_for(second):
        async with edge_for(listener):
            reading = asyncio.create_task(read(device, [1, 2, 3], 200))
            await asyncio.sleep(0.3)
        assert await reading == greedy(TARGET, [1, 2, 3], 200)
