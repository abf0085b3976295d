"""`Device.connect`: from addresses to a device that streams, and what is said where there is none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascade.device import Device, ReconnectSettings, Vocabulary
from cascade.edge import EdgeServer
from cascade.errors import CascadeError, LinkUnavailable, RefusedError, SettingsError
from cascade.events import Source
from cascade.links.base import Link
from cascade.models.runner import constant_cost
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget, memory_pair
from cascade.wire import Commit, Error, ErrorCode, Hello, Hint, Open

from ..helpers import in_virtual_time
from .peers import DRAFT_S, PROMPT, VOCAB_SIZE, Talker, ask, edge_for, greedy, read, welcome_device

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 120)
DRAFT = SyntheticDraft(TARGET, agreement=0.8)
QUICK = ReconnectSettings(first_s=0.1, ceiling_s=0.5, silent_s=6.0)


def runner() -> PacedRunner:
    return PacedRunner(constant_cost(DRAFT_S))


@in_virtual_time
async def test_an_edge_in_this_process_is_found_by_name() -> None:
    async with (
        edge_for(MemoryListener("kitchen")),
        edge_for(MemoryListener("cellar"), target=SyntheticTarget(vocab_size=VOCAB_SIZE, seed=5)),
        Device.connect("memory:kitchen", draft=DRAFT, runner=runner()) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=60)
        tokens = await read(stream)
        assert [token.id for token in tokens] == ANSWER[:60]
        assert stream.summary.num_hinted > 20
        assert {token.source for token in tokens} == {Source.HINTED, Source.DRIVEN}


@in_virtual_time
async def test_the_next_edge_serves_where_one_is_down() -> None:
    async with edge_for(MemoryListener("second")):
        urls = ("memory:first", "memory:second")
        async with Device.connect(*urls, draft=DRAFT, runner=runner(), reconnect=QUICK) as device:
            assert await ask(device) == ANSWER[:40]


@pytest.mark.parametrize("draft", [None, "suffix"])
@in_virtual_time
async def test_a_device_without_a_vocabulary_learns_it_from_the_edge(draft: Any) -> None:
    async with edge_for(MemoryListener()) as edge, Device.connect("memory:", draft=draft) as device:
        stream = device.stream(PROMPT, max_new_tokens=100)
        assert [token.id for token in await read(stream)] == ANSWER[:100]
        assert (stream.request.policy.window > 0) == (draft is not None)
        assert (stream.summary.num_drafted > 0) == (draft is not None)
        with pytest.raises(SettingsError, match="prompt"):
            device.stream([VOCAB_SIZE], max_new_tokens=1)
        assert edge.engine.stats.num_passes <= 100


@in_virtual_time
async def test_suffix_drafting_goes_on_as_the_text_did() -> None:
    period = [7, 8, 9, 10, 11]
    prompt = period * 8
    listener = MemoryListener()
    vocabulary = Vocabulary(size=VOCAB_SIZE, fingerprint=TARGET.vocab_fingerprint)
    async with Device([listener.dial], draft="suffix", vocabulary=vocabulary) as device:
        stream = device.stream(prompt, max_new_tokens=20)
        edge = await welcome_device(listener)
        first = await edge.hear(Hint)
        assert first.tokens == tuple((period * 8)[: len(first.tokens)])
        stream.cancel()
        await edge.link.close()


@in_virtual_time
async def test_hello_without_a_vocabulary_and_nothing_else_before_welcome() -> None:
    listener = MemoryListener()

    async def enter() -> Device:
        return await Device([listener.dial]).__aenter__()

    entering = asyncio.create_task(enter())
    edge = Talker(await listener.accept())
    heard = await edge.hear_all(for_s=5)
    assert len(heard) >= 2, "HELLO may be lost: it is said again"
    assert {type(message) for message in heard} == {Hello}
    assert isinstance(heard[0], Hello)
    assert (heard[0].vocab_fingerprint, heard[0].vocab_size) == ("", 0)
    await edge.link.close()
    edge = await welcome_device(listener)
    device = await entering
    stream = device.stream(PROMPT, max_new_tokens=1)
    assert (await edge.hear(Open)).tokens == PROMPT
    await edge.say(Commit(alias=0, generation=1, position=len(PROMPT), tokens=(1,)))
    assert [token.id for token in await read(stream)] == [1]
    await device.__aexit__()


@in_virtual_time
async def test_no_edge_in_time_is_an_error_that_says_why_and_leaves_nothing() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(LinkUnavailable, match=r"within 3 s.*'attic'"):
        async with Device.connect("memory:attic", connect_timeout_s=3):
            pass
    assert loop.time() == pytest.approx(3)


@in_virtual_time
async def test_a_refused_device_hears_it_on_entering() -> None:
    async with edge_for(MemoryListener(), authenticate=lambda who, token: token == "secret"):
        with pytest.raises(RefusedError, match="unauthorized"):
            async with Device.connect("memory:", token="guess"):
                pass
        async with Device.connect("memory:", token="secret") as device:
            assert await ask(device) == ANSWER[:40]


@in_virtual_time
async def test_cancelled_while_entering_leaves_nothing() -> None:
    entering = asyncio.create_task(Device.connect("memory:nobody").__aenter__())
    await asyncio.sleep(1)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    assert entering.cancelled()


@in_virtual_time
async def test_a_device_with_a_draft_needs_no_edge_to_start() -> None:
    async with Device.connect("memory:", draft=DRAFT, runner=runner(), reconnect=QUICK) as device:
        reader = asyncio.create_task(ask(device))
        await asyncio.sleep(5)
        async with edge_for(MemoryListener()):
            assert await reader == ANSWER[:40]


def test_impossible_settings_are_refused_at_once() -> None:
    for urls, options, field in (
        ((), {}, "edges"),
        (("nonsense",), {}, "url"),
        (("memory:",), {"runner": runner()}, "runner"),
        (("memory:",), {"connect_timeout_s": -1.0}, "connect_timeout_s"),
    ):
        with pytest.raises(SettingsError, match=field):
            Device.connect(*urls, **options)


@in_virtual_time
async def test_devices_and_edges_are_entered_once() -> None:
    async with edge_for(MemoryListener()) as edge:
        with pytest.raises(CascadeError, match="entered before"):
            async with edge:
                pass
        async with Device.connect("memory:") as device:
            with pytest.raises(CascadeError, match="entered before"):
                async with device:
                    pass
            assert await ask(device) == ANSWER[:40], "it goes on"
        with pytest.raises(CascadeError, match="entered before"):
            async with device:
                pass
    with pytest.raises(CascadeError, match="entered before"):
        async with edge:
            pass


# Edges that refuse


@pytest.mark.parametrize(
    "code", [ErrorCode.VERSION, ErrorCode.UNAUTHORIZED, ErrorCode.VOCABULARY, ErrorCode.MODEL]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@in_virtual_time
async def test_one_edges_refusal_is_not_the_end(code: ErrorCode, order: tuple[int, int]) -> None:
    refusing = MemoryListener("refusing")
    num_refused = 0

    async def refuse() -> None:
        nonlocal num_refused
        while True:
            edge = Talker(await refusing.accept())
            await edge.hear(Hello)
            num_refused += 1
            await edge.say(Error(code=code, text="not here"))
            await edge.link.close()

    refuser = asyncio.create_task(refuse())
    serving = MemoryListener("serving")
    urls = ["memory:refusing", "memory:serving"]
    async with Device.connect(
        *(urls[place] for place in order), draft=DRAFT, runner=runner(), reconnect=QUICK
    ) as device:
        async with edge_for(serving):
            await asyncio.sleep(1)
            stream = device.stream(PROMPT, max_new_tokens=120)
            reader = asyncio.create_task(read(stream))
            await asyncio.sleep(0.3)
        await asyncio.sleep(3)
        async with edge_for(MemoryListener("serving")):
            assert [token.id for token in await reader] == ANSWER
        assert num_refused == 1, "it is not asked twice"
    refuser.cancel()
    await asyncio.gather(refuser, return_exceptions=True)


@in_virtual_time
async def test_when_all_edges_have_refused_the_device_says_so() -> None:
    async with (
        edge_for(MemoryListener("first"), authenticate=lambda who, token: False),
        edge_for(MemoryListener("second"), authenticate=lambda who, token: False),
        Device.connect("memory:first", "memory:second", draft=DRAFT, runner=runner()) as device,
    ):
        with pytest.raises(RefusedError, match="unauthorized"):
            await ask(device)
        with pytest.raises(RefusedError, match="unauthorized"):
            device.stream(PROMPT, max_new_tokens=1)


# One text, one numerics class


@in_virtual_time
async def test_a_text_does_not_go_on_at_an_edge_of_another_class() -> None:
    other = SyntheticTarget(vocab_size=VOCAB_SIZE, seed=9)
    urls = ("memory:first", "memory:other")
    device = Device.connect(*urls, draft=DRAFT, runner=runner(), reconnect=QUICK)
    async with edge_for(MemoryListener("other"), target=other) as stranger:
        async with edge_for(MemoryListener("first")):
            await asyncio.sleep(0)
            await device.__aenter__()
            stream = device.stream(PROMPT, max_new_tokens=120)
            reader = asyncio.create_task(read(stream))
            await asyncio.sleep(0.5)
        num_known = len(stream.tokens)
        assert 0 < num_known < 120
        await asyncio.sleep(5)
        assert stranger.engine.stats.num_passes == 0
        assert len(stream.tokens) == num_known
        async with edge_for(MemoryListener("first")):
            assert [token.id for token in await reader] == ANSWER
            await device.__aexit__()


@in_virtual_time
async def test_a_text_whose_class_nobody_has_any_more_fails_and_the_next_is_served() -> None:
    other = SyntheticTarget(vocab_size=VOCAB_SIZE, seed=9)
    async with Device.connect("memory:edge", draft=DRAFT, runner=runner(), reconnect=QUICK) as device:
        async with edge_for(MemoryListener()):
            reader = asyncio.create_task(ask(device, 120))
            await asyncio.sleep(0.5)
        async with edge_for(MemoryListener(), target=other):
            with pytest.raises(RefusedError, match="begin it anew"):
                await reader
            assert await ask(device) == greedy(other, PROMPT, 40)


@in_virtual_time
async def test_a_link_that_no_listener_accepted_is_served() -> None:
    asked_for: list[str] = []

    def knows(identity: str, token: str) -> bool:
        asked_for.append(identity)
        return token == "secret"

    async with EdgeServer.of(TARGET, PacedRunner(constant_cost(0.05))) as edge:

        async def dial() -> Link:
            ours, theirs = memory_pair(device="phone")
            edge.serve(theirs, authenticate=knows)
            return ours

        async with Device([dial], token="secret") as device:
            answer = await device.generate(PROMPT, max_new_tokens=5)
        with pytest.raises(RefusedError, match="unknown identity"):
            async with Device([dial], token="wrong") as device:
                await device.generate(PROMPT, max_new_tokens=5)
    assert list(answer.tokens) == ANSWER[:5]
    assert set(asked_for) == {"phone"}
