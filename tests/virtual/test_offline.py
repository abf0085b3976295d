"""Streams whose link is cut, or that begin without one: what the app sees, and what the books say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cascade.decoding import Sampling
from cascade.device import AnswerStream, Device, Ledger, Policy, ReconnectSettings, Vocabulary
from cascade.errors import CascadeError, LinkUnavailable, RefusedError, SettingsError
from cascade.events import Event, Revision, Source, Token, Verified
from cascade.lab.promise import own_picks
from cascade.links.base import Link
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)
from cascade.wire import Commit, Hint, Keep, Open, Pen, Ping

from ..helpers import in_virtual_time
from .peers import DRAFT_S, PROMPT, VOCAB_SIZE, device_for, edge_for, greedy, read, welcome_device

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
NUM_TOKENS = 60
ANSWER = greedy(TARGET, PROMPT, NUM_TOKENS)
AFTER_S = 1.0
START = len(PROMPT)


class CutLink:
    """A way to the edge that can be cut, and mended."""

    def __init__(self, listener: MemoryListener, *, is_cut: bool = False, is_silent: bool = False) -> None:
        """`is_silent`: nothing gets through, and nothing says so."""
        self._listener = listener
        self._is_cut, self._is_silent = is_cut, is_silent
        self._link: EmulatedLink | None = None

    async def dial(self) -> Link:
        if self._is_cut and not self._is_silent:
            raise LinkUnavailable("it is cut")
        one_way = Conditions(delay_s=0.01)
        self._link = EmulatedLink(await self._listener.dial(), up=one_way, down=one_way)
        return self._link

    async def cut(self, for_s: float) -> None:
        self._is_cut = True
        if self._link is not None and self._is_silent:
            self._link.cut(for_s)
        elif self._link is not None:
            await self._link.close()

    def mend(self) -> None:
        self._is_cut = False


@contextlib.asynccontextmanager
async def cuttable(
    *, is_cut: bool = False, is_silent: bool = False, agreement: float = 0.8, **options: Any
) -> AsyncIterator[tuple[CutLink, Device]]:
    listener = MemoryListener()
    way = CutLink(listener, is_cut=is_cut, is_silent=is_silent)
    options.setdefault("reconnect", ReconnectSettings(first_s=0.005, ceiling_s=0.01))
    async with (
        edge_for(listener),
        device_for(way.dial, draft=SyntheticDraft(TARGET, agreement=agreement), **options) as device,
    ):
        yield way, device


async def collect(stream: AnswerStream) -> list[Event]:
    return [event async for event in stream.events()]


async def cut_between(way: CutLink, begin_s: float, end_s: float) -> None:
    await asyncio.sleep(begin_s)
    await way.cut(end_s - begin_s)
    await asyncio.sleep(end_s - begin_s)
    way.mend()


def replay(events: list[Event]) -> list[int]:
    return replay_from(START, events)


def replay_from(start: int, events: list[Event]) -> list[int]:
    """What stands in the end. Every position comes in order, and what is withdrawn was provisional."""
    tokens: list[Token] = []
    num_verified = 0
    for event in events:
        match event:
            case Token():
                assert event.position == start + len(tokens)
                tokens.append(event)
            case Revision():
                withdrawn = tokens[event.position - start :]
                assert withdrawn
                assert len(withdrawn) == event.num_withdrawn
                assert all(token.is_provisional for token in withdrawn)
                assert event.position - start >= num_verified
                del tokens[event.position - start :]
            case Verified():
                assert num_verified < event.position - start <= len(tokens)
                num_verified = event.position - start
    return [token.id for token in tokens]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def provisional(tokens: list[Token]) -> list[int]:
    return [token.position - START for token in tokens if token.is_provisional]


# Wait, the default


@in_virtual_time
async def test_a_stream_that_waits_says_nothing_until_an_edge_is_back() -> None:
    async with cuttable() as (way, device):
        cutting = asyncio.create_task(cut_between(way, 0.3, 10))
        tokens = await read(device.stream(PROMPT, max_new_tokens=NUM_TOKENS))
        await cutting
    assert [token.id for token in tokens] == ANSWER
    assert not provisional(tokens)
    assert not [token for token in tokens if 0.5 < token.time_s < 10]


# Continue, and the text stands


@pytest.mark.parametrize("is_silent", [False, True])
@in_virtual_time
async def test_a_cut_stream_goes_on_and_its_text_stands(is_silent: bool) -> None:
    async with cuttable(is_silent=is_silent) as (way, device):
        began_s = asyncio.get_running_loop().time()
        cutting = asyncio.create_task(cut_between(way, 0.3, 0.3 + AFTER_S + 20 * DRAFT_S))
        stream = device.stream(
            PROMPT, max_new_tokens=2 * NUM_TOKENS, on_disconnect="continue", offline_after_s=AFTER_S
        )
        tokens = await read(stream)
        await cutting
        account = device.account(1.0)
    is_own = own_picks(TARGET, PROMPT, Sampling(), [token.id for token in tokens])
    places = provisional(tokens)
    assert places
    assert places == list(range(places[0], places[-1] + 1))
    first = tokens[places[0]]
    assert first.source is Source.KEPT
    assert began_s + 0.3 + AFTER_S <= first.time_s + 0.1 <= began_s + 0.3 + AFTER_S + 0.3
    assert all(own or token.is_provisional for own, token in zip(is_own, tokens, strict=True))
    assert not all(is_own), "the draft was right by chance: this shows nothing"
    assert account.num_provisional == 0, "all of it was audited"
    assert account.num_disputed == is_own.count(False)
    assert account.num_delivered + account.num_lossless == 2 * NUM_TOKENS
    assert (stream.summary.num_provisional, stream.summary.num_revised) == (len(places), 0)
    assert f"without an edge: {len(places)} provisional, 0 revised" in str(stream.summary)


@in_virtual_time
async def test_a_short_cut_is_waited_for() -> None:
    async with cuttable() as (way, device):
        cutting = asyncio.create_task(cut_between(way, 0.3, 0.3 + AFTER_S - 0.6))
        stream = device.stream(
            PROMPT, max_new_tokens=NUM_TOKENS, on_disconnect="continue", offline_after_s=AFTER_S
        )
        tokens = await read(stream)
        await cutting
    assert [token.id for token in tokens] == ANSWER
    assert not provisional(tokens)


@in_virtual_time
async def test_an_edge_that_is_slow_but_alive_is_waited_for() -> None:
    """It is asked for a sign of life, and gives it."""
    listener = MemoryListener()
    async with (
        edge_for(listener, pass_s=3.0),
        device_for(listener.dial, draft=SyntheticDraft(TARGET, agreement=0.8)) as device,
    ):
        tokens = await read(
            device.stream(PROMPT, max_new_tokens=8, on_disconnect="continue", offline_after_s=0.5)
        )
    assert [token.id for token in tokens] == ANSWER[:8]
    assert not provisional(tokens)


@in_virtual_time
async def test_what_ends_without_an_edge_is_audited_when_one_is_back() -> None:
    async with cuttable(is_cut=True) as (way, device):
        stream = device.stream(
            PROMPT, max_new_tokens=NUM_TOKENS, on_disconnect="continue", offline_after_s=AFTER_S
        )
        tokens = await read(stream)
        assert provisional(tokens) == list(range(NUM_TOKENS))
        assert device.account(1.0).num_provisional == NUM_TOKENS
        assert device.account(1.0).num_disputed == 0
        assert stream.summary.finish_reason == "length"
        way.mend()
        await asyncio.sleep(5)
        account = device.account(1.0)
    is_own = own_picks(TARGET, PROMPT, Sampling(), [token.id for token in tokens])
    assert account.num_provisional == 0
    assert account.num_disputed == is_own.count(False) > 0
    assert account.num_lossless == is_own.count(True)


@in_virtual_time
async def test_what_nobody_audits_stays_outside_of_the_promise() -> None:
    ledger = Ledger()
    async with cuttable(is_cut=True, ledger=ledger) as (_way, device):
        await read(device.stream(PROMPT, max_new_tokens=9, quality=0.9, on_disconnect="continue"))
    account = ledger.book(0.9).account
    assert (account.num_provisional, account.num_delivered, account.num_disputed) == (9, 0, 0)
    assert "9 provisional" in str(account)


@in_virtual_time
async def test_a_promise_that_was_overdrawn_is_paid_back_first() -> None:
    """Offline tokens enter the book when they are audited: nothing is kept until it has room again."""
    ledger = Ledger()
    ledger.note_lossless(40)
    async with cuttable(is_cut=True, ledger=ledger, agreement=0.3) as (way, device):
        await read(device.stream(PROMPT, max_new_tokens=40, quality=0.9, on_disconnect="continue"))
        way.mend()
        await asyncio.sleep(5)
        account = device.account(0.9)
        assert account.num_disputed > 8
        assert account.least_quality < 0.9
        tokens = await read(device.stream((9, 9), max_new_tokens=40, quality=0.9, threshold=1.0))
    assert all(token.source is not Source.KEPT for token in tokens)


# Continue, with revisions


@pytest.mark.parametrize("quality", [1.0, 0.9])
@in_virtual_time
async def test_revisions_bring_the_text_back_to_the_targets(quality: float) -> None:
    async with cuttable() as (way, device):
        cutting = asyncio.create_task(cut_between(way, 0.3, 0.3 + AFTER_S + 20 * DRAFT_S))
        stream = device.stream(
            PROMPT,
            max_new_tokens=NUM_TOKENS,
            quality=quality,
            threshold=0.0,
            on_disconnect="continue",
            offline_after_s=AFTER_S,
            revisions=True,
        )
        events = await collect(stream)
        await cutting
        account = device.account(quality)
    assert replay(events) == ANSWER
    assert stream.tokens == ANSWER
    assert kinds(events).count(Revision) == 1
    assert Verified in kinds(events)
    revision = next(event for event in events if isinstance(event, Revision))
    summary = stream.summary
    assert summary.num_tokens == NUM_TOKENS
    assert summary.num_revised == revision.num_withdrawn > 0
    assert summary.num_provisional == sum(isinstance(each, Token) and each.is_provisional for each in events)
    assert (account.num_provisional, account.num_disputed) == (0, 0)
    assert account.num_delivered + account.num_lossless == NUM_TOKENS


@in_virtual_time
async def test_an_answer_that_reached_its_end_offline_waits_for_its_verdict() -> None:
    async with cuttable(is_cut=True) as (way, device):
        stream = device.stream(
            PROMPT,
            max_new_tokens=NUM_TOKENS,
            on_disconnect="continue",
            offline_after_s=AFTER_S,
            revisions=True,
        )
        events: list[Event] = []
        reading = asyncio.create_task(collect(stream))
        await asyncio.sleep(AFTER_S + 1)
        assert len(stream.tokens) == NUM_TOKENS
        assert not reading.done()
        way.mend()
        events = await reading
    assert provisional([event for event in events[:NUM_TOKENS] if isinstance(event, Token)]) == list(
        range(NUM_TOKENS)
    )
    assert replay(events) == ANSWER
    assert stream.summary.finish_reason == "length"


@in_virtual_time
async def test_a_draft_that_is_right_is_verified_and_nothing_else() -> None:
    async with cuttable(is_cut=True, agreement=1.0) as (way, device):
        stream = device.stream(
            PROMPT,
            max_new_tokens=10,
            on_disconnect="continue",
            offline_after_s=AFTER_S,
            revisions=True,
            stop_ids=ANSWER[6:7],
        )
        reading = asyncio.create_task(collect(stream))
        await asyncio.sleep(AFTER_S + 1)
        way.mend()
        events = await reading
    stop = ANSWER.index(ANSWER[6]) + 1
    assert kinds(events)[:stop] == [Token] * stop
    assert set(kinds(events)[stop:]) == {Verified}
    assert events[-1] == Verified(START + stop, events[-1].time_s)
    assert stream.summary.finish_reason == "stop"
    assert stream.summary.num_revised == 0


@in_virtual_time
async def test_tokens_that_may_be_withdrawn_are_not_read_as_if_they_were_not() -> None:
    async with cuttable() as (_way, device):
        stream = device.stream(PROMPT, max_new_tokens=5, on_disconnect="continue", revisions=True)
        with pytest.raises(CascadeError, match="events"):
            await read(stream)
        answer = await device.generate(PROMPT, max_new_tokens=5, on_disconnect="continue", revisions=True)
        assert list(answer.tokens) == ANSWER[:5]


@in_virtual_time
async def test_texts_are_revised_as_a_whole() -> None:
    """Also where a character was half said, and where a stop string was provisional."""
    from cascade.models.echo import EchoModel

    listener = MemoryListener()
    way = CutLink(listener, is_cut=True)
    prompt = "<user>Grüße 🙂 an alle, und stop hier<end><assistant>"
    async with (
        edge_for(listener, target=EchoModel()),
        device_for(way.dial, draft=EchoModel(slip=0.3)) as device,
    ):
        for stop in ((), ("hier", "🙂")):
            await way.cut(0.0)
            await asyncio.sleep(0.1)
            stream = device.stream(
                prompt, max_new_tokens=80, stop=stop, on_disconnect="continue", revisions=True
            )
            shown = ""
            mending = asyncio.create_task(cut_between(way, 0.0, 5.0))
            async for event in stream.events():
                if isinstance(event, Token):
                    shown += event.text
                elif isinstance(event, Revision):
                    shown = event.text
            await mending
            lossless = await device.generate(prompt, max_new_tokens=80, stop=stop)
            assert stream.summary.num_revised > 0
            assert shown == stream.text == lossless.text
            assert stream.tokens == list(lossless.tokens)


@pytest.mark.parametrize("revisions", [False, True])
@in_virtual_time
async def test_a_draft_with_a_longer_context_than_the_edge(revisions: bool) -> None:
    """Nobody knew. What the edge cannot read is withdrawn, or stands without a verdict."""
    listener = MemoryListener()
    way = CutLink(listener, is_cut=True)
    short = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=START + 20)
    async with (
        edge_for(listener, target=short),
        device_for(way.dial, draft=SyntheticDraft(TARGET, agreement=0.8)) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=40, on_disconnect="continue", revisions=revisions)
        reading = asyncio.create_task(collect(stream))
        await asyncio.sleep(5)
        way.mend()
        events = await reading
        await asyncio.sleep(5)
        account = device.account(1.0)
    if revisions:
        assert replay(events) == ANSWER[:20]
        assert account.num_provisional == 0
    else:
        assert len(replay(events)) == 40
        assert account.num_provisional == 20
    assert stream.summary.finish_reason == "length"


# What is asked for, and what goes over the wire


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("on_disconnect", {"on_disconnect": "stop"}),
        ("on_disconnect", {"on_disconnect": "continue", "policy": Policy.cloud()}),
        ("offline_after_s", {"on_disconnect": "continue", "offline_after_s": 0}),
        ("revisions", {"revisions": True}),
    ],
)
@in_virtual_time
async def test_impossible_wishes_are_named(field: str, options: dict[str, Any]) -> None:
    async with cuttable() as (_way, device):
        with pytest.raises(SettingsError, match=f"^{field}"):
            device.stream(PROMPT, max_new_tokens=5, **options)


@in_virtual_time
async def test_a_device_without_a_model_cannot_go_on() -> None:
    listener = MemoryListener()
    vocabulary = Vocabulary(size=VOCAB_SIZE, fingerprint=TARGET.vocab_fingerprint)
    async with Device([listener.dial], draft="suffix", vocabulary=vocabulary) as device:
        with pytest.raises(SettingsError, match="on_disconnect"):
            device.stream(PROMPT, max_new_tokens=5, on_disconnect="continue")


@in_virtual_time
async def test_an_edge_of_another_vocabulary_ends_what_began_without_it() -> None:
    listener = MemoryListener()
    way = CutLink(listener, is_cut=True)
    async with (
        edge_for(listener, target=SyntheticTarget(vocab_size=128)),
        device_for(way.dial, draft=SyntheticDraft(TARGET, agreement=0.8)) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=5, on_disconnect="continue", revisions=True)
        reading = asyncio.create_task(collect(stream))
        await asyncio.sleep(5)
        assert len(stream.tokens) == 5
        way.mend()
        with pytest.raises(RefusedError, match="vocabulary"):
            await reading


@pytest.mark.parametrize("revisions", [False, True])
@in_virtual_time
async def test_what_is_provisional_goes_up_in_one_message(revisions: bool) -> None:
    listener = MemoryListener()
    way = CutLink(listener, is_cut=True)
    quickly = ReconnectSettings(first_s=0.005, ceiling_s=0.01)
    draft = SyntheticDraft(TARGET, agreement=0.8)
    async with device_for(way.dial, draft=draft, reconnect=quickly) as device:
        stream = device.stream(
            PROMPT,
            max_new_tokens=200,
            on_disconnect="continue",
            revisions=revisions,
            stop_ids=[],
        )
        await asyncio.sleep(2.0 + 150 * DRAFT_S)
        count = len(stream.tokens)
        assert 100 < count < 200
        way.mend()
        talker = await welcome_device(listener)
        assert (await talker.hear(Open)).tokens == PROMPT
        message: Hint | Keep = await talker.hear(Hint if revisions else Keep)
        assert message.position == START
        assert list(message.tokens) == stream.tokens[: len(message.tokens)]
        assert len(message.tokens) >= count
        if isinstance(message, Keep):
            assert all(message.kept)
            assert message.pen is Pen.EDGE


@in_virtual_time
async def test_an_edge_that_is_silent_is_probed_first() -> None:
    listener = MemoryListener()
    async with device_for(listener.dial, draft=SyntheticDraft(TARGET, agreement=0.8)) as device:
        stream = device.stream(PROMPT, max_new_tokens=9, on_disconnect="continue", revisions=True)
        talker = await welcome_device(listener)
        await talker.hear(Open)
        await talker.hear(Ping)
        assert stream.tokens == []
        await asyncio.sleep(1.5)
        assert len(stream.tokens) == 9
        await talker.say(Commit(alias=0, generation=1, position=START, tokens=tuple(ANSWER[:9])))
        events = await collect(stream)
    assert replay(events) == ANSWER[:9]


def test_a_stream_that_may_go_on_says_what_lossless_says_while_it_need_not() -> None:
    from .test_cascade_mode import bytes_up

    lossless = run_virtual(bytes_up())
    assert run_virtual(bytes_up(on_disconnect="continue")) == lossless
    assert run_virtual(bytes_up(on_disconnect="continue", revisions=False, quality=1)) == lossless
