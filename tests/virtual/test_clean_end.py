"""However a stream ends, it leaves nothing behind: no task, no session, no timer, no cache, no memory."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Sequence
from types import FunctionType, ModuleType
from typing import Any

import pytest

from cascade.device import AnswerStream, Device, Policy
from cascade.edge import EdgeServer
from cascade.links.base import Link
from cascade.models.base import Feed
from cascade.models.hashed import HashedSequence
from cascade.models.runner import constant_cost
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget, VirtualTimeLoop

from ..helpers import in_virtual_time, tasks_left
from .peers import DRAFT_S, PASS_S, PROMPT, VOCAB_SIZE, ask, edge_for, greedy, read

LEASE_S = 10.0
POLICIES = [
    pytest.param(Policy.cloud(), id="cloud"),
    pytest.param(Policy.ask_and_wait(4), id="ask-and-wait"),
    pytest.param(Policy.hint_driven(), id="hint-driven"),
    pytest.param(Policy.hint_driven(patience_s=0.05), id="patient"),
    pytest.param(Policy.adaptive(), id="adaptive"),
]


class Held(HashedSequence):
    """A cache whose model knows when it is given back."""

    held: set[int]
    number: int

    def release(self) -> None:
        super().release()
        self.held.discard(self.number)

    def __del__(self) -> None:
        if not self.length:  # made to ask what it would take, and never filled: there is nothing to give back
            self.held.discard(self.number)


class Target(SyntheticTarget):
    def __init__(self, **options: Any) -> None:
        super().__init__(vocab_size=VOCAB_SIZE, **options)
        self.held: set[int] = set()
        self.num_made = 0

    def new_sequence(self) -> HashedSequence:
        sequence = Held([self._start])
        sequence.held, sequence.number = self.held, self.num_made
        self.num_made += 1
        self.held.add(sequence.number)
        return sequence


class Draft(SyntheticDraft):
    """Counts its steps, too."""

    def __init__(self) -> None:
        self.target = Target()
        super().__init__(self.target, agreement=0.8)
        self.num_steps = 0

    @property
    def held(self) -> set[int]:
        return self.target.held

    def forward(self, feeds: Sequence[Feed]) -> Any:
        self.num_steps += 1
        return super().forward(feeds)


class Place:
    """A device and an edge, and what is in use on both."""

    def __init__(self) -> None:
        self.target, self.draft = Target(), Draft()
        self.listener = MemoryListener()
        self.edge = edge_for(self.listener, target=self.target, lease_s=LEASE_S, keep_kv_s=LEASE_S)
        runner = PacedRunner(constant_cost(DRAFT_S))
        self.device = Device([self.listener.dial], draft=self.draft, runner=runner, seed=3)

    def expect_clean(self, server: EdgeServer, streams: Sequence[weakref.ref[AnswerStream]]) -> None:
        gc.collect()
        assert [stream() for stream in streams] == [None] * len(streams), "a stream is still held"
        assert self.draft.held == set(), "a cache on the device"
        assert self.target.held == set(), "a cache at the edge"
        assert server.num_sessions == 0
        assert list(server._sessions) == [], "a tombstone"
        timers = timers_of("")  # the edge's leases, the device's watch, this test's sleep
        assert len(timers) <= 3, timers


def timers_of(name: str) -> list[str]:
    """What the loop is going to call, and whose name has this in it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    timers = [str(timer) for _, _, timer in loop._timers if not timer.cancelled()]
    return [timer for timer in timers if name in timer]


async def leave_early(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=5000, policy=policy)
    async for token in stream:
        if token.position > 40:
            break
    return weakref.ref(stream)


async def fail_in_the_loop(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=5000, policy=policy)

    async def app() -> None:
        async for token in stream:
            if token.position > 40:
                raise ZeroDivisionError("the app's own mistake")

    with pytest.raises(ZeroDivisionError):
        await app()
    return weakref.ref(stream)


async def be_cancelled(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=5000, policy=policy)
    reader = asyncio.create_task(read(stream))
    await asyncio.sleep(0.5)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return weakref.ref(stream)


async def run_out_of_time(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=5000, policy=policy)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await read(stream)
    return weakref.ref(stream)


async def never_read(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=50, policy=policy)
    await asyncio.sleep(5)
    assert stream.is_ended
    return weakref.ref(stream)


async def read_to_the_end(device: Device, policy: Policy) -> weakref.ref[AnswerStream]:
    stream = device.stream(PROMPT, max_new_tokens=50, policy=policy)
    await read(stream)
    return weakref.ref(stream)


WAYS = [leave_early, fail_in_the_loop, be_cancelled, run_out_of_time, never_read, read_to_the_end]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_nothing_is_left_and_edge_and_drafter_stop_within_a_step(policy: Policy, way: Any) -> None:
    place = Place()
    async with place.edge as edge, place.device as device:
        await ask(device, 1)
        await asyncio.sleep(1)
        before = tasks_left()
        stream = await way(device, policy)
        # A pass and a draft step that run already are run to their ends.
        await asyncio.sleep(PASS_S + 2 * DRAFT_S)
        num_passes, num_steps = edge.engine.stats.num_passes, place.draft.num_steps
        assert edge.num_sessions == 0
        await asyncio.sleep(2)
        assert (edge.engine.stats.num_passes, place.draft.num_steps) == (num_passes, num_steps)
        assert tasks_left() == before
        await asyncio.sleep(4 * LEASE_S)
        place.expect_clean(edge, [stream])
        assert await ask(device) == greedy(SyntheticTarget(vocab_size=VOCAB_SIZE), PROMPT, 40)


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_a_device_closed_in_mid_stream(policy: Policy) -> None:
    place = Place()
    async with place.edge as edge:
        async with place.device as device:
            streams = [device.stream(PROMPT, max_new_tokens=5000, policy=policy) for _ in range(3)]
            readers = [asyncio.create_task(read(stream)) for stream in streams]
            await asyncio.sleep(0.5)
        assert all(stream.is_settled for stream in streams)
        assert timers_of("_say_goodbye_again") == []
        answers = await asyncio.gather(*readers)
        assert all(0 < len(tokens) < 5000 for tokens in answers)
        await asyncio.sleep(2 * PASS_S)
        assert edge.num_sessions == 0, "it was told"
        references = [weakref.ref(stream) for stream in streams]
        del streams, readers, device
        await asyncio.sleep(4 * LEASE_S)
        place.expect_clean(edge, references)


class Slow:
    """A link that takes its time for every message."""

    def __init__(self, inner: Link) -> None:
        self._inner, self.peer = inner, inner.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        await asyncio.sleep(0.05)
        await self._inner.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        return await self._inner.receive()

    async def close(self) -> None:
        await self._inner.close()


@in_virtual_time
async def test_a_device_that_ends_waits_until_its_goodbyes_are_out() -> None:
    place = Place()

    async def dial() -> Link:
        return Slow(await place.listener.dial())

    async with place.edge as edge:
        async with Device([dial], draft=place.draft, runner=PacedRunner(constant_cost(DRAFT_S))) as device:
            streams = [device.stream(PROMPT, max_new_tokens=5000) for _ in range(3)]
            await asyncio.sleep(2)
            assert edge.num_sessions == 3
        await asyncio.sleep(2 * PASS_S)
        assert edge.num_sessions == 0
        assert all(stream.is_settled for stream in streams)


@in_virtual_time
async def test_a_device_left_by_an_exception() -> None:
    place = Place()
    async with place.edge as edge:

        async def app() -> None:
            async with place.device as device:
                async for _token in device.stream(PROMPT, max_new_tokens=5000):
                    raise ZeroDivisionError("the app's own mistake")

        with pytest.raises(ZeroDivisionError):
            await app()
        await asyncio.sleep(2 * PASS_S)
        assert edge.num_sessions == 0


@in_virtual_time
async def test_an_edge_closed_in_mid_stream_and_then_the_device() -> None:
    place = Place()
    async with place.device as device:
        async with place.edge:
            stream = device.stream(PROMPT, max_new_tokens=5000)
            reader = asyncio.create_task(read(stream))
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        assert not stream.is_ended, "an edge may come back"
    assert 0 < len(await reader) < 5000
    assert stream.is_settled
    assert place.draft.held == set()


@in_virtual_time
async def test_thirty_two_streams_share_the_drafter_fairly_and_leave_nothing() -> None:
    place = Place()
    async with place.edge as edge, place.device as device:
        prompts = [[number + 1, 2, 3] for number in range(32)]
        streams = [device.stream(prompt, max_new_tokens=100) for prompt in prompts]
        readers = [asyncio.create_task(read(stream)) for stream in streams]
        await asyncio.sleep(1.0)
        drafted = [stream.summary.num_drafted for stream in streams]
        # At the outset all want to draft: each gets a turn before any gets another.
        assert min(drafted) > 5
        assert max(drafted) <= 1.5 * min(drafted) + 2
        for prompt, tokens in zip(prompts, await asyncio.gather(*readers), strict=True):
            assert [token.id for token in tokens] == greedy(
                SyntheticTarget(vocab_size=VOCAB_SIZE), prompt, 100
            )
        references = [weakref.ref(stream) for stream in streams]
        del streams, readers, tokens
        await asyncio.sleep(4 * LEASE_S)
        place.expect_clean(edge, references)


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_ten_thousand_tokens(policy: Policy) -> None:
    num_tokens = 10_000
    place = Place()
    async with place.edge as edge, place.device as device:

        async def bytes_held() -> int:
            """By device and edge, once all leases of what was there before have ended."""
            await asyncio.sleep(4 * LEASE_S)
            await ask(device, 4, policy=policy)  # a pass that is over is remembered until the next
            await asyncio.sleep(4 * LEASE_S)
            gc.collect()
            return reachable_bytes(device, edge)

        # What is learnt of passes and links has a bounded place, which is filled first.
        await ask(device, 3000, policy=policy)
        before = await bytes_held()
        stream = device.stream(PROMPT, max_new_tokens=num_tokens, policy=policy)
        last = -1
        async for token in stream:
            last = token.position
            if last == num_tokens // 2:
                assert reachable_bytes(device, edge) > before + 100_000, "the ruler measures something"
        assert last == len(PROMPT) + num_tokens - 1
        assert stream.summary.num_tokens == num_tokens
        reference = weakref.ref(stream)
        del stream, token
        assert await bytes_held() < before + 2 * num_tokens, "no token of it is kept: each takes eight bytes"
        place.expect_clean(edge, [reference])


def reachable_bytes(*roots: object) -> int:
    """Of everything that is reachable from here but code."""
    seen: set[int] = set()
    size = 0
    todo = list(roots)
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(
            thing, type | ModuleType | FunctionType | asyncio.AbstractEventLoop
        ):
            continue
        seen.add(id(thing))
        size += sys.getsizeof(thing)
        todo += gc.get_referents(thing)
    return size
