"""Cascade mode: what device and edge say to each other, and what the app sees."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.decoding import Sampling
from cascade.device import AnswerStream, Device, Ledger, Policy
from cascade.device.audit import MAX_AUDITS
from cascade.device.cascade_stream import CascadeStream
from cascade.errors import SettingsError
from cascade.events import Source, Token
from cascade.lab.promise import own_picks
from cascade.links.base import Link
from cascade.models.base import Feed
from cascade.testing import (
    BetaAgreement,
    Conditions,
    EmulatedLink,
    MemoryListener,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)
from cascade.wire import Commit, Error, ErrorCode, Keep, Open, Pen
from cascade.wire.text import HashedText

from ..helpers import in_virtual_time
from .peers import (
    PROMPT,
    VOCAB_SIZE,
    Talker,
    device_for,
    edge_for,
    greedy,
    opening,
    read,
    talk_to,
    welcome_device,
)

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 60)
MIXED = BetaAgreement(mean=0.8, concentration=1)
PERFECT = BetaAgreement(mean=1 - 1e-6, concentration=1e6)
HOPELESS = BetaAgreement(mean=1e-6, concentration=1e6)


def rich_ledger(quality: float = 0.9, *, num_tokens: int = 10_000) -> Ledger:
    """With room to keep everything."""
    ledger = Ledger()
    ledger.note_lossless(num_tokens)
    return ledger


def draft(agreement: BetaAgreement = MIXED) -> SyntheticDraft:
    return SyntheticDraft(TARGET, agreement=agreement)


async def ask(device: Device, count: int = 40, **options: Any) -> list[Token]:
    return await read(device.stream(PROMPT, max_new_tokens=count, **options))


class Recorder(EmulatedLink):
    """Notes all bytes that go up."""

    said: list[bytes]

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        self.said.append(data)
        await super().send(data, must_arrive=must_arrive)


async def bytes_up(**options: Any) -> list[bytes]:
    listener = MemoryListener()
    said: list[bytes] = []

    async def dial() -> Link:
        one_way = Conditions(delay_s=0.05)
        link = Recorder(await listener.dial(), up=one_way, down=one_way, seed=1)
        link.said = said
        return link

    async with edge_for(listener), device_for(dial, draft=draft()) as device:
        assert [token.id for token in await ask(device, **options)] == ANSWER[:40]
    return said


def test_quality_1_sends_byte_for_byte_what_lossless_sends() -> None:
    lossless = run_virtual(bytes_up())
    assert len(lossless) > 10
    assert run_virtual(bytes_up(quality=1.0)) == lossless
    assert run_virtual(bytes_up(quality=1)) == lossless


@in_virtual_time
async def test_an_account_without_credit_keeps_nothing_at_first() -> None:
    listener = MemoryListener()
    async with edge_for(listener), device_for(listener.dial, draft=draft()) as device:
        tokens = await ask(device, quality=0.99)
    assert [token.id for token in tokens] == ANSWER[:40]
    assert all(token.source is not Source.KEPT for token in tokens)


@in_virtual_time
async def test_kept_tokens_come_at_once_and_everything_is_audited() -> None:
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener, pass_s=0.2),
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=60, quality=0.9, threshold=0.3)
        tokens = await read(stream)
        account = device.account(0.9)
    is_own = own_picks(TARGET, PROMPT, Sampling(), [token.id for token in tokens])
    assert not all(is_own), "nothing wrong was kept: this shows nothing"
    assert all(own or token.source is Source.KEPT for token, own in zip(tokens, is_own, strict=True))
    assert account.num_disputed == is_own.count(False)
    assert account.num_unaudited == 0
    assert (account.num_delivered, account.num_lossless) == (60, 10_000)
    summary = stream.summary
    assert summary.account == account
    assert summary.num_kept == sum(token.source is Source.KEPT for token in tokens)
    assert 0 < summary.num_at_once <= summary.num_kept
    assert "quality 0.9 promised" in str(summary)


@in_virtual_time
async def test_a_threshold_of_0_is_lossless_whatever_the_budget() -> None:
    listener, ledger = MemoryListener(), rich_ledger()
    async with edge_for(listener), device_for(listener.dial, draft=draft(), ledger=ledger) as device:
        tokens = await ask(device, quality=0.5, threshold=0.0)
    assert [token.id for token in tokens] == ANSWER[:40]


@in_virtual_time
async def test_lossless_streams_are_credit() -> None:
    listener = MemoryListener()
    async with edge_for(listener), device_for(listener.dial, draft=draft()) as device:
        await ask(device, 50)
        assert device.account(0.9).num_lossless == 50
        assert device.account(0.9).least_quality == 1


async def test_the_books_outlive_the_device(tmp_path: Path) -> None:
    listener, path = MemoryListener(), tmp_path / "ledger.json"
    async with edge_for(listener):
        async with device_for(listener.dial, draft=draft(), ledger=Ledger(path)) as device:
            await ask(device, 60, quality=0.5, threshold=0.5)
            account = device.account(0.5)
            assert account.num_disputed
        async with device_for(listener.dial, draft=draft(), ledger=Ledger(path)) as device:
            assert device.account(0.5) == account


async def test_a_second_device_on_one_file_is_lossless_or_refused(tmp_path: Path) -> None:
    listener, path = MemoryListener(), tmp_path / "ledger.json"
    async with (
        edge_for(listener),
        device_for(listener.dial, draft=draft(), ledger=Ledger(path)) as first,
        device_for(listener.dial, draft=draft(), ledger=Ledger(path), seed=4) as second,
    ):
        assert [token.id for token in await ask(second)] == ANSWER[:40]
        answer = await second.generate(PROMPT, max_new_tokens=5, on_disconnect="continue", revisions=True)
        assert list(answer.tokens) == ANSWER[:5]
        for options in ({"quality": 0.9}, {"on_disconnect": "continue"}):
            with pytest.raises(SettingsError, match=r"ledger.*another device uses it; name another file"):
                await ask(second, **options)
        await ask(first, quality=0.9)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("quality", {"quality": 0.2}),
        ("quality", {"quality": 1.1}),
        ("quality", {"quality": float("nan")}),
        ("threshold", {"quality": 0.9, "threshold": 2.0}),
        ("alpha", {"quality": 0.9, "alpha": 1.0}),
        ("alpha", {"quality": 1.0, "alpha": 0.5}),
        ("quality", {"quality": 0.9, "policy": Policy.cloud()}),
    ],
)
@in_virtual_time
async def test_impossible_wishes_are_named(field: str, options: dict[str, Any]) -> None:
    listener = MemoryListener()
    async with edge_for(listener), device_for(listener.dial, draft=draft()) as device:
        with pytest.raises(SettingsError, match=f"^{field}"):
            await ask(device, **options)


@in_virtual_time
async def test_a_cancelled_stream_gives_back_what_nobody_saw() -> None:
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener, pass_s=0.2),
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=60, quality=0.9, threshold=0.3)
        seen: list[Token] = []
        async with contextlib.aclosing(aiter(stream)) as tokens:
            async for token in tokens:
                seen.append(token)
                if len(seen) == 20:
                    break
        account = device.account(0.9)
    assert account.num_unaudited == 0
    wrong = own_picks(TARGET, PROMPT, Sampling(), [token.id for token in seen]).count(False)
    assert account.num_disputed >= wrong


@pytest.mark.parametrize("is_audited", [True, False])
@in_virtual_time
async def test_places_behind_an_open_guess_are_given_back_once(is_audited: bool) -> None:
    """Whenever the reader leaves."""
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener, pass_s=0.2),
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        num_behind = 0
        for number in range(12):
            prompt = (*PROMPT, number)
            stream = device.stream(prompt, max_new_tokens=60, quality=0.9, threshold=0.3)
            assert isinstance(stream, CascadeStream)
            await asyncio.sleep(0.05 + 0.06 * number)
            num_behind += stream.text_so_far.num_booked_unseen
            stream.cancel()
        if is_audited:
            await asyncio.sleep(30)
    assert num_behind > 0
    assert ledger.book(0.9).num_open == 0


class SecondBest(SyntheticTarget):
    """A draft that takes the target's second choice for every third text."""

    def forward(self, feeds: Sequence[Feed]) -> Any:
        logits = np.array(super().forward(feeds))
        for row in logits:
            best, second = row.argsort()[::-1][:2]
            if int(row.sum()) % 3 == 0:
                row[best], row[second] = row[second], row[best]
        return logits


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@in_virtual_time
async def test_lenient_acceptance_saves_corrections_and_is_booked(temperature: float) -> None:
    async def answer(alpha: float, ledger: Ledger) -> tuple[list[Token], Any]:
        listener = MemoryListener()
        async with (
            edge_for(listener),
            device_for(listener.dial, draft=SecondBest(vocab_size=VOCAB_SIZE), ledger=ledger) as device,
        ):
            stream = device.stream(
                PROMPT,
                max_new_tokens=200,
                quality=0.5,
                threshold=0.0,
                alpha=alpha,
                temperature=temperature,
                seed=1,
            )
            return await read(stream), stream.summary

    def own(tokens: list[Token]) -> list[bool]:
        sampling = Sampling(temperature=temperature, seed=1)
        return own_picks(TARGET, PROMPT, sampling, [token.id for token in tokens])

    strict, before = await answer(0.0, rich_ledger())
    assert all(own(strict))
    tokens, after = await answer(0.9, rich_ledger())
    num_wrong = own(tokens).count(False)
    assert num_wrong > (0 if temperature else 10)
    assert (after.account.num_disputed, after.account.num_unaudited) == (num_wrong, 0)
    assert all(token.source is not Source.KEPT for token in tokens)
    assert after.time_per_token_s <= before.time_per_token_s
    unpaid, _ = await answer(0.9, Ledger())
    assert all(own(unpaid)[:12]), "nobody is lenient while the ledger has no room"


@in_virtual_time
async def test_an_answer_ends_with_a_token_that_was_asked_about() -> None:
    """Then everything has its verdict when it ends."""
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener),
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        whole = await ask(device, 40, quality=0.5, threshold=1.0)
        kept = next(token for token in whole[10:] if token.source is Source.KEPT)
        tokens = await ask(device, 40, quality=0.5, threshold=1.0, stop_ids=frozenset({kept.id}))
        assert tokens[-1].id == kept.id
        assert tokens[-1].source is not Source.KEPT
        assert Source.KEPT in {token.source for token in tokens}


@in_virtual_time
async def test_what_a_cancelled_stream_kept_is_audited_afterwards() -> None:
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener, pass_s=0.2) as edge,
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=60, quality=0.5, threshold=1.0)
        seen = await read_until(stream, 20)
        account = device.account(0.5)
        assert account.num_unaudited == 20, "no verdict yet"
        await asyncio.sleep(5)
        account = device.account(0.5)
        num_committed = edge.engine.stats.num_committed
        await asyncio.sleep(5)
        assert edge.engine.stats.num_committed == num_committed, "and then the edge rests"
    wrong = own_picks(TARGET, PROMPT, Sampling(), [token.id for token in seen]).count(False)
    assert (account.num_disputed, account.num_unaudited) == (wrong, 0)
    assert 0 < wrong < 20


@in_virtual_time
async def test_what_nobody_can_audit_any_more_is_disputed() -> None:
    listener, ledger = MemoryListener(), rich_ledger()
    async with (
        edge_for(listener, pass_s=0.2),
        device_for(listener.dial, draft=draft(), ledger=ledger) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=60, quality=0.5, threshold=1.0)
        assert len(await read_until(stream, 20)) == 20
    account = ledger.book(0.5).account
    assert (account.num_disputed, account.num_unaudited) == (20, 0)


@in_virtual_time
async def test_audits_are_not_gathered_for_ever() -> None:
    """A device whose edge hangs: the oldest are given up."""
    listener, ledger = MemoryListener(), rich_ledger()
    async with device_for(listener.dial, draft=draft(), ledger=ledger) as device:
        talker = await welcome_device(listener)
        for _ in range(MAX_AUDITS + 2):
            stream = device.stream(PROMPT, max_new_tokens=60, quality=0.5, threshold=1.0)
            await read_until(stream, 3)
        assert (await talker.hear(Open)).tokens == PROMPT
        account = device.account(0.5)
        assert account.num_disputed >= 2 * 3
        assert account.num_unaudited >= MAX_AUDITS * 3
    assert ledger.book(0.5).num_open == 0


async def read_until(stream: AnswerStream, count: int) -> list[Token]:
    seen: list[Token] = []
    async with contextlib.aclosing(aiter(stream)) as tokens:
        async for token in tokens:
            seen.append(token)
            if len(seen) == count:
                break
    return seen


# The edge, spoken to by hand


def keep(text: list[int], tokens: list[int], kept: list[bool], **fields: Any) -> Keep:
    plain: dict[str, Any] = {"alias": 0, "generation": 1, "known": len(PROMPT)}
    return Keep(
        position=len(text),
        prefix_hash=HashedText(text).state_before(len(text)),
        tokens=tuple(tokens),
        kept=tuple(kept),
        **(plain | fields),
    )


@contextlib.asynccontextmanager
async def opened(**fields: Any) -> AsyncIterator[Talker]:
    listener = MemoryListener()
    async with edge_for(listener, pass_s=0.02), talk_to(listener) as talker:
        await talker.say(opening(**fields))
        yield talker


async def hear_all(talker: Talker, *, for_s: float) -> tuple[list[int], list[bool]]:
    """The text and its verdict, put together from commits."""
    text: list[int] = []
    verdict: list[bool] = []
    for message in await talker.hear_all(for_s=for_s):
        if isinstance(message, Commit):
            num_known = len(PROMPT) + len(text) - message.position
            assert num_known >= 0
            text += message.tokens[num_known:]
            flags = (True,) * len(message.tokens) if message.verdict is None else message.verdict
            verdict += flags[num_known:]
    return text, verdict


@in_virtual_time
async def test_the_edge_absorbs_what_is_kept_and_says_what_it_thinks() -> None:
    wrong = (ANSWER[1] + 1) % VOCAB_SIZE
    async with opened() as talker:
        await talker.say(keep(list(PROMPT), [ANSWER[0], wrong], [False, True], pen=Pen.DEVICE))
        text, verdict = await hear_all(talker, for_s=2.0)
    assert text == [ANSWER[0], wrong]
    assert verdict == [True, False]


@in_virtual_time
async def test_an_edge_is_lenient_with_guesses_that_say_so() -> None:
    """The second best token at T = 0, with all the leniency there is and with none."""
    sequence = TARGET.new_sequence()
    logits = TARGET.forward([Feed(sequence, list(PROMPT), 1)])[0]
    best, second = (int(token) for token in logits.argsort()[::-1][:2])
    gap = float(logits[best] - logits[second])
    needed = math.ceil(256 * (1 - math.exp(-gap)))
    assert needed <= 255, "this toy has no close second here"
    for leniency, first in ((needed, second), (needed - 2, best), (0, best)):
        async with opened() as talker:
            await talker.say(keep(list(PROMPT), [second], [False], leniency=leniency))
            text, verdict = await hear_all(talker, for_s=1.0)
        assert (text[0], verdict[0]) == (first, first == best)


@in_virtual_time
async def test_without_the_pen_the_edge_corrects_and_waits() -> None:
    wrong = (ANSWER[0] + 1) % VOCAB_SIZE
    async with opened() as talker:
        await talker.say(keep(list(PROMPT), [wrong, 5, 6], [False, True, True], pen=Pen.DEVICE))
        text, _ = await hear_all(talker, for_s=2.0)
        assert text == ANSWER[:1]
        now = [*PROMPT, ANSWER[0]]
        await talker.say(keep(now, [ANSWER[1]], [False], pen=Pen.EDGE))
        commit = await talker.hear(Commit)
        assert commit.tokens[0] == ANSWER[1]
        assert (await talker.hear(Commit)).tokens  # and it goes on


@in_virtual_time
async def test_the_app_has_the_last_word() -> None:
    """The edge went on alone; the app has seen another token meanwhile."""
    seen = (ANSWER[1] + 1) % VOCAB_SIZE
    async with opened(max_new_tokens=20) as talker:
        assert await talker.hear_text(20) == ANSWER[:20]  # finished, even
        prefix = [*PROMPT, ANSWER[0]]
        await talker.say(keep(prefix, [seen], [True], generation=2, raised=1))
        start = len(prefix)
        text: list[int] = []
        while len(text) < 19:
            commit = await talker.hear(Commit)
            assert commit.generation == 2
            num_known = start + len(text) - commit.position
            assert num_known >= 0
            if not text and commit.tokens:
                assert commit.verdict is not None
                assert commit.verdict[0] is False
            text += commit.tokens[num_known:]
    assert text == [seen, *greedy(TARGET, [*prefix, seen], 18)]


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 3, "raised": 1},  # an OPEN between was lost
        {"generation": 2, "raised": 0},
        {"generation": 2, "raised": 1, "prefix_hash": 12},
        {"generation": 2, "raised": 1, "position": 500},
    ],
)
@in_virtual_time
async def test_an_edge_that_cannot_follow_asks_for_everything(fields: dict[str, Any]) -> None:
    async with opened(max_new_tokens=5) as talker:
        await talker.hear_text(5)
        await talker.say(dataclasses.replace(keep([*PROMPT, ANSWER[0]], [9], [True]), **fields))
        error = await talker.hear(Error)
        assert error.code is ErrorCode.UNKNOWN_SESSION
        assert error.generation == fields["generation"]


# The device, spoken to by hand


@contextlib.asynccontextmanager
async def keeping(agreement: BetaAgreement = PERFECT) -> AsyncIterator[tuple[Talker, Any, Device]]:
    listener = MemoryListener()
    device = device_for(listener.dial, draft=draft(agreement), ledger=rich_ledger())
    async with device:
        policy = Policy.hint_driven(window=8)
        stream = device.stream(PROMPT, max_new_tokens=30, quality=0.9, threshold=0.5, policy=policy)
        talker = await welcome_device(listener)
        await talker.hear(Open)
        yield talker, stream, device


async def hear_kept(talker: Talker, count: int) -> list[Keep]:
    heard: list[Keep] = []
    while sum(len(message.tokens) for message in heard) < count:
        heard.append(await talker.hear(Keep))
    return heard


@in_virtual_time
async def test_a_new_edge_gets_unaudited_tokens_as_kept_ones() -> None:
    """They were delivered, and still no edge may take them for its own text."""
    async with keeping() as (talker, stream, device):
        await hear_kept(talker, 8)
        assert stream.tokens == ANSWER[:8]
        await talker.say(Commit(alias=0, generation=1, position=3, tokens=tuple(ANSWER[:3]), num_hinted=3))
        await asyncio.sleep(0.1)
        await talker.say(Error(code=ErrorCode.UNKNOWN_SESSION, text="who?", alias=0, generation=1))
        again = await talker.hear(Open)
        assert again.tokens == (*PROMPT, *ANSWER[:3])
        messages = await hear_kept(talker, 5)
        assert messages[0].position == 6
        assert all(all(message.kept) for message in messages)
        assert all(message.generation == again.generation for message in messages)
        assert device.account(0.9).num_unaudited >= 5


@in_virtual_time
async def test_what_the_app_has_seen_is_not_taken_back() -> None:
    async with keeping() as (talker, stream, device):
        await hear_kept(talker, 8)
        other = (ANSWER[1] + 1) % VOCAB_SIZE
        await talker.say(Commit(alias=0, generation=1, position=3, tokens=(ANSWER[0], other, 9)))
        overruling = await talker.hear(Keep)
        while overruling.raised == 0:
            overruling = await talker.hear(Keep)
        assert (overruling.position, overruling.raised) == (4, 1)
        assert overruling.generation == 2
        assert overruling.prefix_hash == HashedText([*PROMPT, ANSWER[0]]).state_before(4)
        assert overruling.tokens[0] == ANSWER[1]
        # What the edge says of the old text meanwhile is void.
        await talker.say(Commit(alias=0, generation=1, position=6, tokens=(9, 9)))
        verdict = (False, True, True)
        tokens = tuple(ANSWER[1:4])
        await talker.say(
            Commit(alias=0, generation=2, position=4, tokens=tokens, num_hinted=3, verdict=verdict)
        )
        await asyncio.sleep(0.1)
        assert stream.tokens[:8] == ANSWER[:8]
        assert device.account(0.9).num_disputed == 1


@in_virtual_time
async def test_a_generation_may_be_raised_by_more_than_one() -> None:
    """Another stream of the device has opened meanwhile: the edge still knows which OPEN was the last."""
    async with keeping() as (talker, _stream, device):
        await hear_kept(talker, 8)
        other = device.stream(PROMPT, max_new_tokens=30)
        assert (await talker.hear(Open)).generation == 2
        wrong = (ANSWER[0] + 1) % VOCAB_SIZE
        await talker.say(Commit(alias=0, generation=1, position=3, tokens=(wrong,)))
        overruling = await talker.hear(Keep)
        while overruling.generation == 1:
            overruling = await talker.hear(Keep)
        assert (overruling.generation, overruling.raised) == (3, 2)
        other.cancel()


@in_virtual_time
async def test_nothing_is_seen_behind_a_guess_that_is_open() -> None:
    async with keeping(HOPELESS) as (talker, stream, device):
        (message,) = await hear_kept(talker, 1)
        assert not any(message.kept)
        assert stream.tokens == []
        assert device.account(0.9).num_unaudited == 0


@in_virtual_time
async def test_a_verdict_of_the_wrong_length_is_no_message() -> None:
    """And does not stop anything: the stream hears the next one."""
    async with keeping() as (talker, stream, _device):
        await hear_kept(talker, 8)
        await talker.link.send(bytes.fromhex("97060001 03c4022a00 01 c402ffff".replace(" ", "")))
        await talker.say(Commit(alias=0, generation=1, position=3, tokens=tuple(ANSWER[:8]), num_hinted=8))
        await hear_kept(talker, 8)
        assert stream.tokens[:8] == ANSWER[:8]
        assert len(stream.tokens) == 16
