"""Seeded schedules of cuts: streams wait, go on, revise, begin without an edge. A replay is the judge."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from cascade.decoding import Sampling
from cascade.device import Device, Ledger, ReconnectSettings
from cascade.errors import LinkUnavailable
from cascade.events import Event, Revision, Token, Verified
from cascade.lab.promise import own_picks
from cascade.links.base import Link
from cascade.testing import (
    BetaAgreement,
    Conditions,
    EmulatedLink,
    MemoryListener,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

from .peers import VOCAB_SIZE, device_for, edge_for
from .test_offline import AFTER_S, collect, replay_from

NUM_USUAL, NUM_ALL = 20, 200
EOS = 7
LIMIT_S = 2000.0
AUDITED_S = 30.0
"""After the last cut everything has its verdict by then."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    prompt: list[int]
    sampling: Sampling
    max_new_tokens: int
    quality: float
    continues: bool
    revises: bool
    begins_s: float
    stop_ids: frozenset[int]


@dataclass(kw_only=True)
class Run:
    ask: Ask
    events: list[Event] = field(default_factory=list)
    finish_reason: str = ""


class Way:
    """To one of two edges, with cuts, some of which nobody tells about."""

    def __init__(self, listeners: list[MemoryListener], dice: random.Random) -> None:
        self._listeners, self._dice = listeners, dice
        self._conditions = Conditions(
            delay_s=dice.choice([0.001, 0.02, 0.1]),
            loss=dice.choice([0.0, 0.0, 0.1]),
            duplication=dice.choice([0.0, 0.1]),
            reordering=dice.choice([0.0, 0.1]),
        )
        self._is_reliable = dice.random() < 0.5
        self._links: list[EmulatedLink] = []
        self.is_cut = False

    async def dial(self) -> Link:
        if self.is_cut:
            raise LinkUnavailable("it is cut")
        link = EmulatedLink(
            await self._dice.choice(self._listeners).dial(),
            up=self._conditions,
            down=self._conditions,
            seed=len(self._links),
            is_reliable=self._is_reliable,
        )
        self._links.append(link)
        return link

    async def live(self, *, begins_cut: bool) -> None:
        dice = self._dice
        for number in range(3):
            if number or not begins_cut:
                await asyncio.sleep(dice.choice([0.1, 0.5, 2.0]) * dice.uniform(0.5, 1.5))
            for_s = dice.choice([0.3, AFTER_S, 2 * AFTER_S, 10]) * dice.uniform(0.5, 1.5)
            if self._links and dice.random() < 0.5:
                self._links[-1].cut(for_s)
                await asyncio.sleep(for_s)
                continue
            self.is_cut = True
            if self._links:
                await self._links[-1].close()
            await asyncio.sleep(for_s)
            self.is_cut = False


def draw(dice: random.Random) -> Ask:
    continues = dice.random() < 0.8
    return Ask(
        prompt=[dice.randrange(VOCAB_SIZE) for _ in range(dice.randint(1, 20))],
        sampling=Sampling(temperature=dice.choice([0.0, 1.0]), seed=dice.getrandbits(32)),
        max_new_tokens=dice.randint(1, 300),
        quality=dice.choice([1.0, 1.0, 0.9]),
        continues=continues,
        revises=continues and dice.random() < 0.5,
        begins_s=dice.choice([0.0, 0.0, 0.5, 2.0]),
        stop_ids=frozenset({EOS}) if dice.random() < 0.3 else frozenset(),
    )


async def read(device: Device, ask: Ask) -> Run:
    await asyncio.sleep(ask.begins_s)
    stream = device.stream(
        ask.prompt,
        max_new_tokens=ask.max_new_tokens,
        temperature=ask.sampling.temperature,
        seed=ask.sampling.seed,
        stop_ids=ask.stop_ids,
        quality=ask.quality,
        on_disconnect="continue" if ask.continues else "wait",
        offline_after_s=AFTER_S,
        revisions=ask.revises,
    )
    run = Run(ask=ask, events=await collect(stream))
    run.finish_reason = stream.summary.finish_reason
    assert stream.tokens == replay_from(len(ask.prompt), run.events)
    return run


async def play(seed: int) -> tuple[list[Run], Ledger]:
    dice = random.Random(seed)
    listeners = [MemoryListener("one"), MemoryListener("two")]
    way = Way(listeners, dice)
    begins_cut = way.is_cut = dice.random() < 0.3
    draft = SyntheticDraft(TARGET, agreement=BetaAgreement(mean=dice.choice([0.6, 0.9]), concentration=1))
    ledger = Ledger()
    ledger.note_lossless(200)
    asks = [draw(dice) for _ in range(2)]
    async with edge_for(listeners[0], target=TARGET), edge_for(listeners[1], target=TARGET):
        reconnect = ReconnectSettings(ceiling_s=0.5, silent_s=dice.choice([2.0, 6.0]))
        async with device_for(way.dial, draft=draft, ledger=ledger, reconnect=reconnect, seed=seed) as device:
            living = asyncio.create_task(way.live(begins_cut=begins_cut))
            runs = await asyncio.gather(*(read(device, ask) for ask in asks))
            await living
            await asyncio.sleep(AUDITED_S)
    return list(runs), ledger


TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE, seed=5)


def judge(runs: list[Run], ledger: Ledger) -> None:
    num_wrong = 0
    for run in runs:
        ask, events = run.ask, run.events
        standing = standing_of(events, len(ask.prompt))
        tokens = [token.id for token in standing]
        is_own = own_picks(TARGET, ask.prompt, ask.sampling, tokens)
        num_wrong += is_own.count(False)
        if not ask.continues:
            assert not any(isinstance(event, Token) and event.is_provisional for event in events)
        if not ask.revises:
            assert all(isinstance(event, Token) for event in events)
        if ask.quality == 1 and (ask.revises or not ask.continues):
            assert all(is_own), "the text is not the lossless one"
        for token, own in zip(standing, is_own, strict=True):
            assert own or token.source.value == "kept"
            assert own or ask.quality < 1 or token.is_provisional
        if ask.revises:
            verified = max((each.position for each in events if isinstance(each, Verified)), default=0)
            assert all(token.position < verified for token in standing if token.is_provisional)
        ends_by_stop = tokens[-1] in ask.stop_ids
        assert run.finish_reason == ("stop" if ends_by_stop else "length")
        assert ends_by_stop or len(tokens) == ask.max_new_tokens
        assert not ask.stop_ids & set(tokens[:-1])
    books = [ledger.book(quality) for quality in (1.0, 0.9)]
    assert all(book.num_provisional == 0 == book.num_open for book in books)
    assert sum(book.num_disputed for book in books) == num_wrong
    num_tokens = sum(len(standing_of(run.events, len(run.ask.prompt))) for run in runs)
    assert sum(book.num_delivered for book in books) + ledger.num_lossless == 200 + num_tokens


def standing_of(events: list[Event], start: int) -> list[Token]:
    tokens: list[Token] = []
    for event in events:
        if isinstance(event, Token):
            tokens.append(event)
        elif isinstance(event, Revision):
            del tokens[event.position - start :]
    return tokens


def check(seed: int) -> list[Run]:
    runs, ledger = run_virtual(play(seed), limit_s=LIMIT_S)
    judge(runs, ledger)
    return runs


@pytest.mark.parametrize("seed", range(NUM_USUAL))
def test_what_stands_is_what_was_said(seed: int) -> None:
    check(seed)


def test_the_schedules_contain_what_they_claim() -> None:
    events = [event for seed in range(NUM_USUAL) for run in check(seed) for event in run.events]
    assert sum(isinstance(event, Revision) for event in events) >= 5
    assert sum(isinstance(event, Verified) for event in events) >= 5
    assert sum(isinstance(event, Token) and event.is_provisional for event in events) > 500


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(NUM_USUAL, NUM_ALL))
def test_what_stands_is_what_was_said_always(seed: int) -> None:
    check(seed)
