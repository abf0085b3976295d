"""Is the promise of cascade mode kept, whatever happens? Seeded runs with every fault, and an honest replay.

A run is one account: several streams, at two edges that are killed and forget, over links that lose, double,
reorder, break and change, with a draft whose promises are right in one topic and wrong in the next. The
replay feeds every delivered token to the target alone and counts those that are not its own pick.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding import Sampling, pick
from ..device import AnswerStream, Device, Ledger, ReconnectSettings
from ..device.cascade_stream import CascadeStream
from ..edge import EdgeServer, EdgeSettings
from ..errors import LinkUnavailable
from ..events import Source, Token
from ..links.base import Dialer, Link
from ..models.base import Feed
from ..models.hashed import HashedSequence
from ..models.runner import PacedRunner, constant_cost
from ..models.synthetic import BetaAgreement, SyntheticDraft, SyntheticTarget
from ..testing import Conditions, EmulatedLink, MemoryListener, run_virtual

__all__ = ["PromiseRun", "keep_promise", "own_picks"]

VOCAB_SIZE = 64
LIMIT_S = 50_000.0
TOPIC_TOKENS = 150
HONEST = BetaAgreement(mean=0.8, concentration=1)
TOPICS = (
    (HONEST, HONEST),
    (BetaAgreement(mean=0.95, concentration=1), HONEST),
    (BetaAgreement(mean=0.5, concentration=1), BetaAgreement(mean=0.95, concentration=1)),
    (BetaAgreement(mean=0.8, concentration=1, sharpness=3.0), None),
)
"""(how often the draft is right, what it says about it); None: the same, but too sure of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseRun:
    """What came of one run. Margins are in tokens, and must not be negative."""

    quality: float
    num_tokens: int
    num_kept: int
    num_at_once: int
    num_wrong: int
    """Not the target's own pick, by the replay."""
    worst_margin: float
    """(1 - quality) * delivered - wrong, where it was least."""
    worst_ledger_margin: float
    """The same by the ledger's own word, unaudited tokens counted as wrong."""
    num_unaccounted: int
    """Wrong by the replay, and not disputed in the ledger."""
    num_strangers: int
    """Wrong, and not kept by the device: must be 0 where the edge is not lenient."""
    num_restarts: int
    num_reopens: int
    num_lost: int
    num_overruled: int
    """Commits that had gone on from another token than the one which was kept and seen meanwhile."""
    num_shifts: int
    """Of the links' conditions, while answers were on their way."""


class ShiftingDraft:
    """A draft whose promises hold in one topic and not in the next."""

    def __init__(self, target: SyntheticTarget, seed: int) -> None:
        self._topics: list[tuple[SyntheticDraft, SyntheticDraft]] = []
        for number, (agreement, said) in enumerate(TOPICS):
            draft = SyntheticDraft(target, agreement=agreement, seed=seed + number)
            sayer = draft if said is None else SyntheticDraft(target, agreement=said, seed=seed + number)
            self._topics.append((draft, sayer))
        self._offset = seed % len(TOPICS)
        self.vocab_size = target.vocab_size
        self.context_length = target.context_length
        self.eos_ids = target.eos_ids
        self.vocab_fingerprint = target.vocab_fingerprint
        self.numerics = f"{target.numerics}-shifting"

    def new_sequence(self) -> HashedSequence:
        return self._topics[0][0].new_sequence()

    def forward(self, feeds: Sequence[Feed]) -> Any:
        (feed,) = feeds
        sequence = feed.sequence
        assert isinstance(sequence, HashedSequence)
        topic = (sequence.length + len(feed.tokens)) // TOPIC_TOKENS + self._offset
        draft, sayer = self._topics[topic % len(TOPICS)]
        logits = draft.forward(feeds)
        if sayer is not draft:
            sequence.promise = sayer.chance(sequence.states[-1])
        return logits


class _FlakyEdge:
    """Is killed and comes back, having forgotten everything."""

    def __init__(self, name: str, target: SyntheticTarget, dice: random.Random) -> None:
        self.name = name
        self.num_restarts = 0
        self._target = target
        self._dice = random.Random(dice.random())
        self._listener: MemoryListener | None = None
        self._pass_s = dice.choice([0.02, 0.05])
        self._settings = EdgeSettings(
            max_fed_hints=dice.choice([0, 1, 4, 16]),
            run_ahead=dice.choice([8, 32, 256]),
            max_buffered_hints=dice.choice([8, 256]),
            lease_s=dice.choice([5.0, 60.0]),
        )

    async def dial(self) -> Link:
        if self._listener is None:
            raise LinkUnavailable(f"{self.name} is down")
        return await self._listener.dial("phone")

    async def live(self) -> None:
        dice = self._dice
        while True:
            self._listener = MemoryListener(self.name)
            runner = PacedRunner(constant_cost(self._pass_s))
            async with EdgeServer.of(self._target, runner, name=self.name, settings=self._settings) as server:
                server.listen(self._listener)
                await asyncio.sleep(dice.choice([0.3, 1.0, 3.0, 10.0]) * dice.uniform(0.5, 2))
                self._listener = None
            self.num_restarts += 1
            await asyncio.sleep(dice.uniform(0.05, 2))


class _ShiftingWay:
    """Links to all edges; every now and then their conditions are others."""

    def __init__(self, dice: random.Random) -> None:
        self.links: list[EmulatedLink] = []
        self.num_shifts = 0
        self._dice = random.Random(dice.random())
        self._up, self._down = _conditions(dice), _conditions(dice)
        self._is_reliable = dice.random() < 0.25

    def dialer(self, edge: _FlakyEdge) -> Dialer:
        async def dial() -> Link:
            link = EmulatedLink(
                await edge.dial(),
                up=self._up,
                down=self._down,
                seed=len(self.links),
                is_reliable=self._is_reliable,
            )
            self.links.append(link)
            return link

        return dial

    async def shift(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(1, 8))
            self._up, self._down = _conditions(self._dice), _conditions(self._dice)
            self.num_shifts += 1
            for link in self.links:
                link.change(up=self._up, down=self._down)


def own_picks(
    target: SyntheticTarget, prompt: Sequence[int], sampling: Sampling, tokens: Sequence[int]
) -> list[bool]:
    """The replay: is each token the target's own pick, given all before it?"""
    sequence, fed, is_own = target.new_sequence(), list(prompt), []
    for position, token in enumerate(tokens, start=len(prompt)):
        logits = target.forward([Feed(sequence, fed, 1)])
        is_own.append(pick(logits[0], sampling, position) == token)
        fed = [token]
    return is_own


def keep_promise(seed: int, *, quality: float, num_tokens: int = 2000, alpha: float = 0.0) -> PromiseRun:
    """One run, and its replay. `alpha`: how lenient edges may be."""
    return run_virtual(_run(random.Random(seed), quality, num_tokens, alpha), limit_s=LIMIT_S)


async def _run(dice: random.Random, quality: float, num_tokens: int, alpha: float) -> PromiseRun:
    target = SyntheticTarget(seed=dice.getrandbits(20), vocab_size=VOCAB_SIZE)
    edges = [_FlakyEdge(f"edge-{number}", target, dice) for number in range(2)]
    lives = [asyncio.create_task(edge.live()) for edge in edges]
    await asyncio.sleep(0)
    way = _ShiftingWay(dice)
    lives.append(asyncio.create_task(way.shift()))
    ledger = Ledger()
    device = Device(
        [way.dialer(edge) for edge in edges],
        draft=ShiftingDraft(target, dice.getrandbits(20)),
        runner=PacedRunner(constant_cost(0.005)),
        identity="phone",
        seed=dice.getrandbits(30),
        reconnect=ReconnectSettings(ceiling_s=1.0, silent_s=2.0),
        ledger=ledger,
    )
    reader = _Reader(ledger, quality)
    num_streams = 4
    async with device:
        for _round in range(num_streams // 2):  # two at a time
            asks = []
            for _ in range(2):
                sampling = Sampling(temperature=dice.choice([0.0, 1.0]), seed=dice.getrandbits(32))
                prompt = [dice.randrange(VOCAB_SIZE) for _ in range(dice.randint(1, 20))]
                stream = device.stream(
                    prompt,
                    max_new_tokens=num_tokens // num_streams,
                    temperature=sampling.temperature,
                    seed=sampling.seed,
                    quality=quality,
                    alpha=alpha,
                )
                asks.append(reader.read(stream, prompt, sampling))
            await asyncio.gather(*asks)
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)
    return reader.judge(
        target,
        num_restarts=sum(edge.num_restarts for edge in edges),
        num_lost=sum(link.num_dropped for link in way.links),
        num_shifts=way.num_shifts,
    )


class _Reader:
    """Collects what an app sees, and reads the ledger at every token."""

    def __init__(self, ledger: Ledger, quality: float) -> None:
        self._book = ledger.book(quality)
        self._answers: list[tuple[list[int], Sampling, list[Token]]] = []
        self._streams: list[AnswerStream] = []
        self._worst_ledger_margin = float("inf")

    async def read(self, stream: AnswerStream, prompt: list[int], sampling: Sampling) -> None:
        tokens: list[Token] = []
        self._answers.append((prompt, sampling, tokens))
        self._streams.append(stream)
        async for token in stream:
            tokens.append(token)
            account = self._book.account
            allowed = (1 - account.quality) * account.num_delivered
            margin = allowed - account.num_disputed - account.num_unaudited
            self._worst_ledger_margin = min(self._worst_ledger_margin, margin)

    def judge(
        self, target: SyntheticTarget, *, num_restarts: int, num_lost: int, num_shifts: int
    ) -> PromiseRun:
        delivered: list[tuple[float, bool]] = []
        num_strangers = 0
        for prompt, sampling, tokens in self._answers:
            assert [token.position for token in tokens] == [
                len(prompt) + index for index in range(len(tokens))
            ]
            is_own = own_picks(target, prompt, sampling, [token.id for token in tokens])
            for token, own in zip(tokens, is_own, strict=True):
                delivered.append((token.time_s, own))
                num_strangers += not own and token.source is not Source.KEPT
        delivered.sort(key=lambda each: each[0])
        worst, num_wrong = float("inf"), 0
        for count, (time_s, own) in enumerate(delivered, start=1):
            num_wrong += not own
            if (
                count == len(delivered) or delivered[count][0] > time_s
            ):  # of one moment, the order is not known
                worst = min(worst, (1 - self._book.quality) * count - num_wrong)
        summaries = [stream.summary for stream in self._streams]
        return PromiseRun(
            quality=self._book.quality,
            num_tokens=len(delivered),
            num_kept=sum(summary.num_kept for summary in summaries),
            num_at_once=sum(summary.num_at_once for summary in summaries),
            num_wrong=num_wrong,
            worst_margin=worst,
            worst_ledger_margin=self._worst_ledger_margin,
            num_unaccounted=max(0, num_wrong - self._book.num_disputed),
            num_strangers=num_strangers,
            num_restarts=num_restarts,
            num_reopens=sum(summary.num_opens - 1 for summary in summaries),
            num_lost=num_lost,
            num_overruled=sum(
                stream.num_overruled for stream in self._streams if isinstance(stream, CascadeStream)
            ),
            num_shifts=num_shifts,
        )


def _conditions(dice: random.Random) -> Conditions:
    begin_s = dice.uniform(2, 12)
    return Conditions(
        delay_s=dice.choice([0.0, 0.01, 0.05, 0.2]),
        jitter_s=dice.choice([0.0, 0.005, 0.05]),
        rate_bytes_per_s=dice.choice([None, None, 20_000.0]),
        loss=dice.choice([0.0, 0.05, 0.2]),
        duplication=dice.choice([0.0, 0.2]),
        reordering=dice.choice([0.0, 0.2]),
        reordering_s=dice.choice([0.05, 0.5]),
        outages=((begin_s, begin_s + dice.uniform(0.1, 4)),) if dice.random() < 0.5 else (),
    )
