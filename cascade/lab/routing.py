"""A mixed stream of requests whose ways are chosen, in virtual time: the real device, edge, link and ledger.

Easy texts, hard ones and long prompts take turns at random; prices and link change from phase to phase. What
each answer took is counted from outside, and its disagreements by a replay through the target.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..decoding import Sampling
from ..device import Device, Ledger, Policy
from ..device.router import Route
from ..edge import EdgeServer
from ..links.base import Link
from ..models.base import Feed, Logits
from ..models.hashed import HashedSequence
from ..models.runner import PacedRunner
from ..models.synthetic import BetaAgreement, SyntheticDraft, SyntheticTarget
from ..prices import Prices, Usage
from ..testing import Conditions, EmulatedLink, MemoryListener, run_virtual
from .promise import own_picks

__all__ = ["PHASES", "Asked", "Books", "Phase", "Routed", "route_always", "route_by_itself"]

QUALITY = 0.9
PASS_S, ROW_S = 0.05, 0.0002
STEP_S, DRAFT_ROW_S = 0.008, 0.0001
SHORT, LONG = 12, 400
"""Tokens of a prompt."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Of requests."""

    name: str
    agreement: BetaAgreement
    num_prompt_tokens: int
    num_tokens: int


KINDS = (
    Kind("easy", BetaAgreement(mean=0.95, concentration=2), SHORT, 60),
    Kind("hard", BetaAgreement(mean=0.5, concentration=2), SHORT, 60),
    Kind("long", BetaAgreement(mean=0.8, concentration=1), LONG, 40),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of requests under the same prices, over the same link."""

    name: str
    prices: Prices
    rtt_s: float = 0.06


PHASES = (
    Phase(name="waiting alone counts", prices=Prices()),
    Phase(name="passes are dear", prices=Prices(edge_pass=0.2)),
    Phase(name="the battery is low", prices=Prices(joule=2.0)),
    Phase(name="a far link", prices=Prices(), rtt_s=0.4),
    Phase(name="a metered link", prices=Prices(megabyte_up=2000.0, megabyte_down=2000.0)),
    Phase(name="disagreements cost little", prices=Prices(disputed=0.01, edge_pass=0.05)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, and what came of it."""

    kind: str
    way: str
    cost: float


@dataclass(frozen=True, slots=True)
class Books:
    """A ledger, as it was."""

    num_lossless: int = 0
    num_delivered: int = 0
    num_disputed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One phase by one route."""

    asked: tuple[Asked, ...]
    books: Books
    """At its end."""

    @property
    def cost(self) -> float:
        return sum(each.cost for each in self.asked)

    @property
    def ways(self) -> dict[str, int]:
        """How often each was taken."""
        ways = [each.way for each in self.asked]
        return {way: ways.count(way) for way in sorted(set(ways))}


def route_by_itself(*, num_requests: int, phases: Sequence[Phase] = PHASES, seed: int = 0) -> list[Routed]:
    """So many requests in each phase, by one device that chooses."""
    return run_virtual(_run("auto", num_requests, list(enumerate(phases)), Books(), seed), limit_s=1e6)


def route_always(way: Route, number: int, books: Books, *, num_requests: int, seed: int = 0) -> Routed:
    """The requests of one phase by one way, with the ledger as it was; `device` where that has room, else
    lossless. The device knows link, edge and draft from a few answers before."""
    phase = PHASES[number]
    run = _run(way.value, num_requests, [(number, phase)], books, seed)
    (found,) = run_virtual(run, limit_s=1e6)
    return found


class _KindDraft:
    """A draft that does well on some texts: their first token says on which."""

    def __init__(self, target: SyntheticTarget, seed: int) -> None:
        self._drafts = {}
        for number, kind in enumerate(KINDS):
            draft = SyntheticDraft(target, agreement=kind.agreement, seed=seed + number)
            sequence = target.new_sequence()
            target.forward([Feed(sequence, [number], 1)])
            self._drafts[sequence.states[1]] = draft
        first = next(iter(self._drafts.values()))
        self.vocab_size, self.context_length = first.vocab_size, first.context_length
        self.eos_ids, self.vocab_fingerprint = first.eos_ids, first.vocab_fingerprint
        self.numerics = first.numerics
        self.new_sequence = first.new_sequence

    def forward(self, feeds: Sequence[Feed]) -> Logits:
        (feed,) = feeds
        sequence = feed.sequence
        assert isinstance(sequence, HashedSequence)
        if sequence.length:
            return self._drafts[sequence.states[1]].forward(feeds)
        first = next(iter(self._drafts.values()))
        probe = first.new_sequence()
        first.forward([Feed(probe, feed.tokens[:1], 1)])
        return self._drafts[probe.states[1]].forward(feeds)


async def _run(
    route: str, num_requests: int, phases: Sequence[tuple[int, Phase]], books: Books, seed: int
) -> list[Routed]:
    target = SyntheticTarget(seed=seed)
    draft = _KindDraft(target, seed + 1)
    ledger = Ledger()
    place = _Place(target, phases[0][1].rtt_s, ledger, seed)
    runner = PacedRunner(lambda rows: STEP_S + DRAFT_ROW_S * (rows - 1))
    found: list[Routed] = []
    async with place.edge:
        place.edge.listen(place.link.listener)
        async with Device([place.link.dial], draft=draft, runner=runner, seed=1, ledger=ledger) as device:
            if route != "auto":
                dice = random.Random(f"before {seed}")
                for kind in (*KINDS, *KINDS):
                    await place.ask(Route.LOSSLESS.value, device, phases[0][1], kind, _prompt(kind, dice))
            _write(ledger, books)
            for number, phase in phases:
                await place.link.change(phase.rtt_s)
                dice = random.Random(f"{seed} {number}")
                asked = []
                for _ in range(num_requests):
                    kind = dice.choice(KINDS)
                    asked.append(await place.ask(route, device, phase, kind, _prompt(kind, dice)))
                found.append(Routed(asked=tuple(asked), books=_read(ledger)))
    return found


def _prompt(kind: Kind, dice: random.Random) -> list[int]:
    """Its first token says of what kind it is."""
    return [KINDS.index(kind), *(dice.randrange(64) for _ in range(kind.num_prompt_tokens - 1))]


def _read(ledger: Ledger) -> Books:
    book = ledger.book(QUALITY)
    return Books(ledger.num_lossless, book.num_delivered, book.exposure)


def _write(ledger: Ledger, books: Books) -> None:
    book = ledger.book(QUALITY)
    ledger.num_lossless = books.num_lossless
    book.num_delivered, book.num_disputed = books.num_delivered, books.num_disputed


class _Place:
    """An edge behind a link, and somebody who counts."""

    def __init__(self, target: SyntheticTarget, rtt_s: float, ledger: Ledger, seed: int) -> None:
        self.link = _ChangingLink(rtt_s, seed)
        self.edge = EdgeServer.of(target, PacedRunner(lambda rows: PASS_S + ROW_S * (rows - 1)))
        self._target = target
        self._book = ledger.book(QUALITY)

    async def ask(self, route: str, device: Device, phase: Phase, kind: Kind, prompt: list[int]) -> Asked:
        """One request, and what it took, counted from outside."""
        if route == Route.DEVICE.value and self._book.balance < kind.num_tokens:
            route = Route.LOSSLESS.value
        stats = self.edge.engine.stats
        passes_before, rows_before = stats.num_passes, stats.num_rows
        answer = await device.generate(
            prompt,
            max_new_tokens=kind.num_tokens,
            quality=QUALITY,
            route=route,
            policy=Policy.adaptive(phase.prices),
        )
        summary = answer.summary
        num_passes, num_rows = stats.num_passes - passes_before, stats.num_rows - rows_before
        is_own = own_picks(self._target, prompt, Sampling(), answer.tokens)
        took = Usage(
            waiting_s=summary.time_to_first_token_s + (summary.num_tokens - 1) * summary.time_per_token_s,
            edge_s=num_passes * PASS_S + (num_rows - num_passes) * ROW_S,
            num_passes=num_passes,
            num_rows=num_rows,
            bytes_up=summary.bytes_up,
            bytes_down=summary.bytes_down,
            draft_s=summary.num_drafted * STEP_S,
            num_drafted=summary.num_drafted,
            num_disputed=len(is_own) - sum(is_own),
        )
        return Asked(kind=kind.name, way=summary.route, cost=phase.prices.cost(took))


class _ChangingLink:
    """Breaks, and is another one when it is dialled again."""

    def __init__(self, rtt_s: float, seed: int) -> None:
        self.listener = MemoryListener()
        self._rtt_s = rtt_s
        self._seed = seed
        self._link: EmulatedLink | None = None

    async def dial(self) -> Link:
        way = Conditions(delay_s=self._rtt_s / 2)
        self._link = EmulatedLink(await self.listener.dial(), up=way, down=way, seed=self._seed)
        return self._link

    async def change(self, rtt_s: float) -> None:
        if rtt_s != self._rtt_s and self._link is not None:
            self._rtt_s = rtt_s
            await self._link.close()
