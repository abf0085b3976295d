"""Seeded fault schedules: a device, two edges, bad links, restarts; and the oracle that judges the text."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import scipy.special

from cascade.decoding import Sampling, pick
from cascade.device import Device, Policy, ReconnectSettings
from cascade.edge import EdgeServer, EdgeSettings
from cascade.errors import LinkUnavailable
from cascade.events import Token
from cascade.links.base import Dialer, Link
from cascade.models.base import Feed, LanguageModel
from cascade.testing import (
    BetaAgreement,
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)
from cascade.wire import Codec, Open

EOS = 7
LIMIT_S = 900.0
VOCAB_SIZE = 64
CODEC = Codec(VOCAB_SIZE)
OPEN_TYPE = 3
"""The first field of an OPEN; a one-byte integer behind the array's one byte."""


@dataclass(frozen=True)
class Ask:
    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop_ids: frozenset[int]
    policy: Policy

    @property
    def wants_logprobs(self) -> bool:
        """Some do. What the text is must not depend on it, so no dice are thrown for it."""
        return len(self.prompt) % 4 == 0


@dataclass(frozen=True)
class Answer:
    ask: Ask
    tokens: list[Token]
    finish_reason: str
    num_opens: int


@dataclass
class Report:
    """What one schedule contained, so that a campaign can show that its faults really happened."""

    answers: list[Answer]
    num_restarts: int
    """Edges that were killed and came back."""
    num_reopens: int
    """Streams opened again."""
    num_resumes: int
    """Of these, with part of the answer already there."""
    edges_used: frozenset[str]
    num_lost: int
    """Messages that the links dropped."""


def target_alone(target: LanguageModel, ask: Ask) -> list[int]:
    """The oracle: the target decodes by itself, one token a pass."""
    sequence = target.new_sequence()
    text = list(ask.prompt)
    fed = text
    while len(text) < len(ask.prompt) + ask.max_new_tokens and len(text) < target.context_length:
        logits = target.forward([Feed(sequence, fed, 1)])
        token = pick(logits[0], ask.sampling, len(text))
        text.append(token)
        fed = [token]
        if token in ask.stop_ids:
            break
    return text[len(ask.prompt) :]


def logprobs_alone(target: LanguageModel, ask: Ask, tokens: list[int]) -> list[Any]:
    """The oracle for log-probabilities: the definition, over all rows at once, in what the wire carries."""
    rows = target.forward([Feed(target.new_sequence(), [*ask.prompt, *tokens[:-1]], len(tokens))])
    chances = scipy.special.log_softmax(np.asarray(rows, dtype=np.float64), axis=1)
    return [pytest.approx(float(row[token]), abs=1e-5) for row, token in zip(chances, tokens, strict=True)]


def check(target: LanguageModel, answer: Answer) -> None:
    """Every stream equals the target alone, each position once and in order."""
    expected = target_alone(target, answer.ask)
    assert [token.id for token in answer.tokens] == expected
    first = len(answer.ask.prompt)
    assert [token.position for token in answer.tokens] == list(range(first, first + len(expected)))
    if answer.ask.wants_logprobs:
        assert [token.logprob for token in answer.tokens] == logprobs_alone(target, answer.ask, expected)
    assert answer.finish_reason == ("stop" if expected[-1] in answer.ask.stop_ids else "length")


def run_schedule(seed: int) -> Report:
    """Run one schedule and judge every answer."""
    dice = random.Random(seed)
    target = SyntheticTarget(seed=seed, vocab_size=VOCAB_SIZE, eos_ids=frozenset({EOS}))
    report = run_virtual(_run(dice, target), limit_s=LIMIT_S)
    for answer in report.answers:
        check(target, answer)
    return report


class FlakyEdge:
    """An edge that is killed and comes back, having forgotten everything."""

    def __init__(self, name: str, target: SyntheticTarget, dice: random.Random) -> None:
        self.name = name
        self.num_restarts = 0
        self.num_dialled = 0
        self._target = target
        self._dice = random.Random(dice.random())
        self._listener: MemoryListener | None = None
        self._settings = EdgeSettings(
            max_fed_hints=dice.choice([1, 4, 16]),
            run_ahead=dice.choice([8, 32, 256]),
            lease_s=dice.choice([5.0, 60.0]),
        )
        self._stall_chance = dice.choice([0.0, 0.0, 0.02])

    async def dial(self) -> Link:
        if self._listener is None:
            raise LinkUnavailable(f"{self.name} is down")
        self.num_dialled += 1
        return await self._listener.dial("phone")

    async def live(self) -> None:
        dice = self._dice
        while True:
            self._listener = MemoryListener(self.name)
            server = EdgeServer.of(
                self._target, PacedRunner(self._cost_s), name=self.name, settings=self._settings
            )
            async with server:
                server.listen(self._listener)
                await asyncio.sleep(dice.choice([0.3, 1.0, 3.0, 10.0]) * dice.uniform(0.5, 2))
                if dice.random() < 0.3:
                    await asyncio.Event().wait()  # this one stays up
                self._listener = None
            self.num_restarts += 1
            await asyncio.sleep(dice.uniform(0.05, 2))

    def _cost_s(self, rows: int) -> float:
        stall_s = self._dice.uniform(0.5, 3) if self._dice.random() < self._stall_chance else 0.0
        return 0.02 + 0.0005 * rows + stall_s


class WatchedLink(EmulatedLink):
    """Counts what goes up to resume a session."""

    num_resumes = 0

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if data[1] == OPEN_TYPE:
            message = CODEC.decode(data)
            self.num_resumes += isinstance(message, Open) and len(message.tokens) > message.prompt_length
        await super().send(data, must_arrive=must_arrive)


async def _run(dice: random.Random, target: SyntheticTarget) -> Report:
    agreements: list[float | BetaAgreement] = [
        dice.uniform(0, 1),
        dice.uniform(0.6, 0.95),
        1.0,
        BetaAgreement(mean=0.8, concentration=1),
    ]
    agreement = dice.choice(agreements)
    draft = SyntheticDraft(target, agreement=agreement, seed=dice.getrandbits(30))
    edges = [FlakyEdge(f"edge-{number}", target, dice) for number in range(2)]
    lives = [asyncio.create_task(edge.live()) for edge in edges]
    await asyncio.sleep(0)
    link_dice = random.Random(dice.random())
    conditions = [_bad_conditions(dice) for _ in range(2)]
    is_reliable = dice.random() < 0.25

    links: list[WatchedLink] = []

    def dialer(edge: FlakyEdge) -> Dialer:
        async def dial() -> Link:
            link = WatchedLink(
                await edge.dial(),
                up=conditions[0],
                down=conditions[1],
                seed=link_dice.getrandbits(30),
                is_reliable=is_reliable,
            )
            links.append(link)
            return link

        return dial

    device = Device(
        [dialer(edge) for edge in edges],
        draft=draft,
        runner=PacedRunner(lambda rows: 0.003),
        identity="phone",
        seed=dice.getrandbits(30),
        reconnect=ReconnectSettings(ceiling_s=1.0, silent_s=dice.choice([2.0, 6.0])),
    )
    answers: list[Answer] = []
    async with device:
        for _round in range(2):  # the second round finds the aliases of the first in use again
            asks = [_draw_ask(dice) for _ in range(dice.choice([1, 1, 2]))]
            answers += await asyncio.gather(*(_read(device, ask) for ask in asks))
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"the run left tasks behind: {left}"
    return Report(
        answers,
        num_restarts=sum(edge.num_restarts for edge in edges),
        num_reopens=sum(answer.num_opens - 1 for answer in answers),
        num_resumes=sum(link.num_resumes for link in links),
        edges_used=frozenset(edge.name for edge in edges if edge.num_dialled),
        num_lost=sum(link.num_dropped for link in links),
    )


async def _read(device: Device, ask: Ask) -> Answer:
    stream = device.stream(
        ask.prompt,
        max_new_tokens=ask.max_new_tokens,
        **asdict(ask.sampling),
        stop_ids=ask.stop_ids,
        policy=ask.policy,
        logprobs=ask.wants_logprobs,
    )
    async with contextlib.aclosing(aiter(stream)) as tokens:
        collected = [token async for token in tokens]
    return Answer(ask, collected, stream.summary.finish_reason, stream.summary.num_opens)


def _draw_ask(dice: random.Random) -> Ask:
    has_cuts = dice.random() < 0.5
    temperature = dice.choice([0.0, 0.7, 1.0])
    return Ask(
        prompt=tuple(dice.randrange(VOCAB_SIZE) for _ in range(dice.randint(1, 40))),
        max_new_tokens=dice.randint(1, 50),
        sampling=Sampling(
            temperature=temperature,
            top_k=dice.choice([0, 8]) if has_cuts else 0,
            top_p=dice.choice([1.0, 0.9]) if has_cuts else 1.0,
            min_p=dice.choice([0.0, 0.05]) if has_cuts else 0.0,
            seed=dice.getrandbits(64),
        ),
        stop_ids=frozenset({EOS}) if dice.random() < 0.5 else frozenset(),
        policy=dice.choice(
            [
                Policy.cloud(),
                Policy.ask_and_wait(dice.randint(1, 8)),
                Policy.hint_driven(),
                Policy.hint_driven(patience_s=dice.uniform(0.01, 0.5)),
            ]
        ),
    )


def _bad_conditions(dice: random.Random) -> Conditions:
    first_s, second_s = sorted(dice.uniform(0, 12) for _ in range(2))
    return Conditions(
        delay_s=dice.choice([0.0, 0.01, 0.05, 0.2]),
        jitter_s=dice.choice([0.0, 0.005, 0.05]),
        rate_bytes_per_s=dice.choice([None, None, 20_000.0]),
        loss=dice.choice([0.0, 0.05, 0.3]),
        duplication=dice.choice([0.0, 0.2]),
        reordering=dice.choice([0.0, 0.2]),
        reordering_s=dice.choice([0.05, 0.5]),
        outages=(
            (first_s, first_s + dice.uniform(0.1, 4)),
            (second_s, second_s + dice.uniform(0.1, 4)),
        )
        if dice.random() < 0.4
        else (),
    )
