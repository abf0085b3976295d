"""An edge whose engine cannot do everything: WELCOME says it, and whoever demands it is refused by name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cascade.decoding import Sampling
from cascade.edge import EdgeServer, VerifyRequest
from cascade.errors import RefusedError, SettingsError
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import Codec, Commit, Error, ErrorCode, Feature, Keep, Limits, Welcome
from cascade.wire.text import HashedText

from ..engines.plain import PlainEngine
from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, Talker, device_for, greedy, greeting, hint, opening

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 40)
ALL = Feature.SHARED_NOISE | Feature.KEEP | Feature.LOGPROBS


@contextlib.asynccontextmanager
async def poor_edge(lacks: Feature = ALL) -> AsyncIterator[tuple[MemoryListener, EdgeServer]]:
    """Its engine asserts that nobody asks for what it lacks."""
    listener = MemoryListener()
    async with EdgeServer(PlainEngine(TARGET, lacks=lacks)) as edge:
        edge.listen(listener)
        yield listener, edge


@contextlib.asynccontextmanager
async def talking_to_a_poor_edge(lacks: Feature = ALL) -> AsyncIterator[Talker]:
    async with poor_edge(lacks) as (listener, _edge):
        talker = Talker(await listener.dial())
        await talker.say(greeting())
        assert (await talker.hear(Welcome)).lacks == lacks
        yield talker
        await talker.link.close()


def keep(**fields: Any) -> Keep:
    return Keep(
        alias=0,
        generation=1,
        position=len(PROMPT),
        prefix_hash=HashedText(PROMPT).state_before(len(PROMPT)),
        tokens=(ANSWER[0],),
        kept=(True,),
        known=len(PROMPT),
        **fields,
    )


@pytest.mark.parametrize(
    ("fields", "lacks", "names"),
    [
        ({"temperature": 0.7}, Feature.SHARED_NOISE, "shared noise"),
        ({"wants_logprobs": True}, Feature.LOGPROBS, "log-probabilities"),
        ({"temperature": 0.7, "wants_logprobs": True}, ALL, "shared noise.*; .*log-probabilities"),
    ],
)
@in_virtual_time
async def test_an_open_is_refused_by_the_name_of_what_is_lacking(
    fields: dict[str, Any], lacks: Feature, names: str
) -> None:
    async with talking_to_a_poor_edge(lacks) as talker:
        await talker.say(opening(**fields))
        error = await talker.hear(Error)
        assert error.code is ErrorCode.LIMIT
        assert (error.alias, error.generation) == (0, 1)
        assert re.search(names, error.text)


@in_virtual_time
async def test_an_open_that_does_without_is_served() -> None:
    async with talking_to_a_poor_edge() as talker:
        await talker.say(opening(temperature=0.7, takes_any_noise=True))
        assert (await talker.hear(Commit)).generation == 1


@in_virtual_time
async def test_a_keep_is_refused_again_and_again_and_hints_go_on() -> None:
    async with talking_to_a_poor_edge() as talker:
        await talker.say(opening(), keep(), keep(), keep())
        error = await talker.hear(Error)
        assert error.code is ErrorCode.LIMIT
        assert (error.alias, error.generation) == (0, 1)
        assert "KEEP" in error.text
        said: list[int] = []
        while len(said) < 40:
            commit = await talker.hear(Commit)
            assert commit.position == len(PROMPT) + len(said)
            said += commit.tokens
            await talker.say(hint([*PROMPT, *said], known=len(PROMPT) + len(said)))
        assert said == ANSWER, "what was kept is no part of it"
        assert not [each for each in await talker.hear_all(for_s=1.0) if isinstance(each, Error)], "said once"


@in_virtual_time
async def test_a_draft_is_judged_at_temperature_0_only() -> None:
    async with poor_edge() as (_listener, edge):
        verdict = await edge.verify("curl", VerifyRequest(tokens=PROMPT, draft=(), sampling=Sampling()))
        assert verdict.token == ANSWER[0]
        hot = VerifyRequest(tokens=PROMPT, draft=(), sampling=Sampling(temperature=1.0))
        with pytest.raises(SettingsError, match="shared noise"):
            await edge.verify("curl", hot)


@pytest.mark.parametrize("is_welcomed", [False, True])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"temperature": 1.0}, "any_noise=True"),
        ({"logprobs": True}, "without logprobs"),
        ({"quality": 0.9}, "quality=1"),
        ({"on_disconnect": "continue"}, "on_disconnect='wait'"),
    ],
)
@in_virtual_time
async def test_a_device_that_was_welcomed_does_not_ask(
    options: dict[str, Any], names: str, is_welcomed: bool
) -> None:
    async with poor_edge() as (listener, edge), device_for(listener.dial, agreement=1.0) as device:
        if is_welcomed:
            await device.generate(PROMPT, max_new_tokens=2)
            assert device.is_connected
        num_before = edge.counters.num_sessions
        with pytest.raises(RefusedError, match=names) as refused:
            await device.generate(PROMPT, max_new_tokens=20, **options)
        assert refused.value.code == "limit"
        if is_welcomed:
            assert edge.counters.num_sessions == num_before
            assert not edge.counters.refused
        answer = await device.generate(PROMPT, max_new_tokens=40)
        assert list(answer.tokens) == ANSWER, "the link is well"


@in_virtual_time
async def test_a_device_that_takes_any_noise_is_served() -> None:
    async with poor_edge() as (listener, _edge), device_for(listener.dial) as device:
        answer = await device.generate(PROMPT, max_new_tokens=20, temperature=1.0, any_noise=True)
        assert len(answer.tokens) == 20


@in_virtual_time
async def test_no_route_leads_where_nothing_is_kept() -> None:
    async with poor_edge() as (listener, _edge), device_for(listener.dial, agreement=1.0) as device:
        await device.generate(PROMPT, max_new_tokens=2)
        answer = await device.generate(PROMPT, max_new_tokens=10, quality=0.9, route="auto")
        assert len(answer.tokens) == 10
        with pytest.raises(SettingsError, match="'cascade' is no way"):
            device.stream(PROMPT, max_new_tokens=10, quality=0.9, route="cascade")


def test_features_of_a_later_version_are_passed_over() -> None:
    codec = Codec(VOCAB_SIZE)
    known = Welcome(
        version=1,
        edge="",
        model="",
        vocab_fingerprint="",
        vocab_size=VOCAB_SIZE,
        numerics="",
        limits=Limits(max_sessions=1, run_ahead=1, context_length=1, max_message_bytes=1),
        lacks=Feature.KEEP,
    )
    data = codec.encode(known)
    assert data[-1] == Feature.KEEP
    later = codec.decode(data[:-1] + bytes([Feature.KEEP | 64]))
    assert later == known
