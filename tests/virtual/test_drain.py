"""An edge that goes down sends its devices away, and nobody can tell by the text."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from cascade.device import Policy
from cascade.edge import EdgeServer, State
from cascade.errors import LinkUnavailable
from cascade.links.base import Dialer, Link
from cascade.testing import MemoryListener, PacedRunner, SyntheticTarget
from cascade.wire import Commit, Error, ErrorCode, Move

from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, Talker, device_for, edge_for, greedy, greeting, opening, read, talk_to

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)


def to_whichever_is_up(listeners: list[MemoryListener]) -> Dialer:
    """One address, as behind a load balancer."""

    async def dial() -> Link:
        for listener in listeners:
            with contextlib.suppress(LinkUnavailable):
                return await listener.dial()
        raise LinkUnavailable("nobody is up")

    return dial


@pytest.mark.parametrize("patience_s", [0.0, 0.2])
@in_virtual_time
async def test_streams_move_to_the_other_edge_and_the_text_is_the_same(patience_s: float) -> None:
    old, new = MemoryListener("old"), MemoryListener("new")
    async with (
        edge_for(old) as old_edge,
        edge_for(new) as new_edge,
        device_for(old.dial, new.dial) as device,
    ):
        policy = Policy.hint_driven(patience_s=patience_s)
        streams = [device.stream((*PROMPT, k), max_new_tokens=100, policy=policy) for k in range(4)]
        reading = asyncio.gather(*(read(stream) for stream in streams))
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert await old_edge.drain(10)
        assert loop.time() - began_s < 1
        assert old_edge.health().state is State.DRAINING
        for k, tokens in enumerate(await reading):
            assert [token.id for token in tokens] == greedy(TARGET, (*PROMPT, k), 100)
            assert [token.position for token in tokens] == list(range(4, 104))
        assert all(stream.summary.num_opens == 2 for stream in streams)
        assert old_edge.counters.ended == {"moved": 4}
        assert new_edge.counters.ended == {"finished": 4}
        # And what begins now begins at the other edge.
        late = device.stream(PROMPT, max_new_tokens=10)
        assert [token.id for token in await read(late)] == greedy(TARGET, PROMPT, 10)
        assert new_edge.counters.num_sessions == 5


@in_virtual_time
async def test_with_one_address_the_device_comes_back_to_whoever_answers_there() -> None:
    old, new = MemoryListener("old"), MemoryListener("new")
    async with contextlib.AsyncExitStack() as stack:
        old_edge = await stack.enter_async_context(edge_for(old))
        device = await stack.enter_async_context(device_for(to_whichever_is_up([old, new])))
        stream = device.stream(PROMPT, max_new_tokens=100)
        reading = asyncio.create_task(read(stream))
        await asyncio.sleep(0.3)
        await old_edge.drain(1)
        await old.close()  # the process ends, and a second later another one stands there
        await asyncio.sleep(1)
        await stack.enter_async_context(edge_for(new))
        assert [token.id for token in await reading] == greedy(TARGET, PROMPT, 100)


@in_virtual_time
async def test_an_open_that_meets_a_draining_edge_goes_to_another_one() -> None:
    """The MOVE came before the stream began: the refusal says it again."""
    old, new = MemoryListener("old"), MemoryListener("new")
    async with edge_for(old) as old_edge, edge_for(new), device_for(old.dial, new.dial) as device:
        await asyncio.sleep(0.1)
        old_edge._books.is_draining = True
        stream = device.stream(PROMPT, max_new_tokens=30)
        assert [token.id for token in await read(stream)] == greedy(TARGET, PROMPT, 30)


@in_virtual_time
async def test_a_device_that_stays_may_finish_until_the_deadline_and_not_after() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener, "a") as talker, talk_to(listener, "b") as slow:
        await talker.say(opening(max_new_tokens=40))
        await slow.say(opening(max_new_tokens=100_000))
        await talker.hear_text(2)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        draining = asyncio.create_task(edge.drain(3.0))
        move = await talker.hear(Move)
        assert (move.edge, move.deadline_ms) == ("", 3000)
        assert (await talker.hear(Commit)).tokens  # it goes on
        await talker.say(opening(session=b"another", alias=1, generation=2))
        refusal = await talker.hear(Error)
        assert (refusal.code, refusal.retry_after_ms) == (ErrorCode.DRAINING, 1000)
        late = Talker(await listener.dial("c"))
        await late.say(greeting(identity="c"))
        assert (await late.hear(Error)).code is ErrorCode.DRAINING
        await late.link.close()
        assert not await draining  # `slow` has too much to say
        assert loop.time() - began_s == pytest.approx(3.0)
        assert edge.counters.ended["finished"] == 1


@in_virtual_time
async def test_a_drain_without_sessions_is_over_at_once() -> None:
    async with EdgeServer.of(TARGET, PacedRunner(lambda rows: 0.01)) as edge:
        assert await edge.drain(60)
        assert asyncio.get_running_loop().time() < 1
