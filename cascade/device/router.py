"""Which way an answer takes: the draft alone, cascade, lossless or cloud. Decided before its first token.

A small model predicts what each way would take, from what the device has measured of link, edge and draft,
and from how well the draft is likely to do on this text. What it then took corrects the model, way by way and
by how hard the text seemed; old corrections are forgotten. The prices turn usage into cost only in the end:
prices that change are followed at once. A way that was not tried lately is taken to be a little cheaper than
it seems, so that none is given up for ever. Places in the ledger, of which an account earns only so many, are
priced by what they would save on other questions (`rent.py`).
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from ..measure import Knowledge
from ..prices import Prices, Usage
from .escalation import allowance, appetite, corrected
from .planning import Circumstances, make_plan
from .rent import Option, Rent, rent_of

__all__ = ["Outcome", "Question", "Route", "Router"]

EASY, HARD = 0.95, 0.45
"""Agreements of a text on which the draft does well, and of one on which it does not."""
BOUNDS = (0.65, 0.85)
"""Between these kinds of text are told apart for what is learnt."""
REMEMBERED = 0.97
"""Of what was learnt, with every new outcome of a way."""
LINE_REMEMBERED = 0.95
FADING = 0.995
"""And with every outcome of whatever way: links, loads and ledgers change."""
PRIOR = 2.0
"""Outcomes that the model's own word counts for."""
OPTIMISM = 0.15
"""So much cheaper than it seems may be a way that was never tried."""
CORRECTION_RANGE = 4.0
NUM_ASKED = 24
"""Questions of late that say what is to come."""
SPENT_OVER = 2000.0
"""Tokens over which the ledger's balance is spent."""
HAIR = 1e-6
UNKNOWN_S = 5.0
"""Waiting for an edge that does not answer."""
BELIEVED = 0.6
"""At first: of what the draft says of a text's beginning, this share is true of all of it."""
UNAUDITED = 3.0
"""Kept tokens that wait for their verdict and take up room in the ledger."""


class Route(Enum):
    """Who decides the tokens of an answer."""

    DEVICE = "device"
    """The draft alone."""
    CASCADE = "cascade"
    """The draft where it is sure enough, else the edge."""
    LOSSLESS = "lossless"
    """The edge, with hints from the draft."""
    CLOUD = "cloud"
    """The edge alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, as far as it matters for the way."""

    num_prompt_tokens: int
    num_tokens: int
    """Of the answer, at most."""
    quality: float
    agreement: float
    """How often the draft is expected to agree here."""
    balance: float = 0.0
    """What the ledger has left, in tokens."""
    is_edge_there: bool = True

    @property
    def kind(self) -> int:
        return sum(self.agreement >= bound for bound in BOUNDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it."""

    took: Usage
    first_s: float
    """To the first token."""
    num_tokens: int
    agreement: float | None
    """As the verdicts showed it; None where there were none."""
    said: float | None
    """By the draft, of its first guesses; None where it was not asked."""


@dataclass(slots=True)
class _Record:
    """What a way took on texts of one kind, against what had been predicted."""

    took: Usage = field(default_factory=Usage)
    predicted: Usage = field(default_factory=Usage)
    weight: float = 0.0

    def learn(self, took: Usage, predicted: Usage) -> None:
        self.fade(REMEMBERED)
        self.took = self.took.plus(took)
        self.predicted = self.predicted.plus(predicted)
        self.weight += 1

    def fade(self, share: float) -> None:
        """So much of it is still believed."""
        self.took, self.predicted = self.took.times(share), self.predicted.times(share)
        self.weight *= share

    def factor(self, name: str, now: float, prior: float) -> float:
        """By how much more or less of it was used than predicted; `prior`: as long as little is known."""
        weight = PRIOR * now
        predicted = getattr(self.predicted, name) + weight
        factor = (getattr(self.took, name) + prior * weight) / predicted if predicted > 0 else 1.0
        return min(max(factor, 1 / CORRECTION_RANGE), CORRECTION_RANGE)


class _Asked(NamedTuple):
    """What each way was expected to take; what that costs, the prices of the day say."""

    question: Question
    usages: dict[Route, Usage]


class Router:
    """One device's: it remembers what its ways took."""

    def __init__(self, known: Knowledge) -> None:
        self._known = known
        self._records: dict[tuple[Route, int | None], _Record] = {}
        self._asked: deque[_Asked] = deque(maxlen=NUM_ASKED)
        self._turn = 0.0
        """Of the questions that may go the way with more places."""
        self._first_s = _Line()
        """Of an edge, by the prompt's length."""
        self._agreement = _Line(slope=BELIEVED, weight=0.1)
        """Of a text, by what the draft says of its beginning."""

    def expected_agreement(self, said: float | None) -> float:
        """From what is remembered, and the draft's calibrated word on its first guesses."""
        if said is None:
            return min(max(self._agreement.mean(self._known.agreement.chance), 0.02), 0.98)
        return min(max(self._agreement.at(said, self._known.agreement.chance), 0.02), 0.98)

    def is_unsure(self, question: Question, ways: Sequence[Route], prices: Prices) -> bool:
        """Would the draft's word on this text decide?"""
        if len(ways) < 2 or self._circumstances(question) is None:
            return False
        rent = self._rent(question, prices)
        texts = [dataclasses.replace(question, agreement=each) for each in (EASY, question.agreement, HARD)]
        asked = [self._options(text, ways, prices) for text in texts]
        return any(len({_best(options, price) for options in asked}) > 1 for price in _sides(rent))

    def note(self, question: Question, ways: Sequence[Route], prices: Prices) -> None:
        """Asked, with these ways to go: by such questions it is judged what a place is worth."""
        if self._circumstances(question) is not None:
            self._asked.append(_Asked(question, {way: self._expected(way, question, prices) for way in ways}))

    def choose(self, question: Question, ways: Sequence[Route], prices: Prices) -> Route:
        """The way that is expected to cost least, the rent of its places in the ledger included."""
        if self._circumstances(question) is None:  # nothing is known: what can go wrong least
            return next(way for way in (Route.LOSSLESS, Route.CLOUD, *ways) if way in ways)
        rent = self._rent(question, prices)
        options = self._options(question, ways, prices)
        at, below = (_best(options, price) for price in _sides(rent))
        if below is at:
            return at
        self._turn += rent.share_below
        if self._turn < 1:
            return at
        self._turn -= 1
        return below

    def _rent(self, question: Question, prices: Prices) -> Rent:
        """Of a place in this question's ledger, by the questions of late and what the ledger has now."""
        asked = [each for each in self._asked if each.question.quality == question.quality]
        num_tokens = sum(each.question.num_tokens for each in asked)
        spent = min(1.0, num_tokens / SPENT_OVER) * question.balance
        questions = [
            [self._option(way, each.question, usage, prices) for way, usage in each.usages.items()]
            for each in asked
        ]
        return rent_of(questions, max(0.0, (1 - question.quality) * num_tokens + spent))

    def _options(self, question: Question, ways: Sequence[Route], prices: Prices) -> dict[Route, Option]:
        return {
            way: self._option(way, question, self._expected(way, question, prices), prices) for way in ways
        }

    def _option(self, way: Route, question: Question, usage: Usage, prices: Prices) -> Option:
        """The less certain, the more hopeful. Nothing is hoped of what is known beforehand."""
        of_way, of_kind = self._records_of(way, question)
        hope = 0.0 if way is Route.CLOUD else OPTIMISM / (1 + of_kind.weight + of_way.weight / 2)
        num_places = question.num_tokens if way is Route.DEVICE else usage.num_disputed
        return Option(prices.cost(usage) * (1 - hope), num_places)

    def cost(self, way: Route, question: Question, prices: Prices) -> float:
        """Expected, all told."""
        return prices.cost(self._expected(way, question, prices))

    def _expected(self, way: Route, question: Question, prices: Prices) -> Usage:
        """By the model, and by what it was like."""
        usage = self._predict(way, question, prices)
        of_way, of_kind = self._records_of(way, question)
        corrected = {}
        for name in Usage.__slots__:
            now = getattr(usage, name)
            corrected[name] = now * of_kind.factor(name, now, of_way.factor(name, now, 1.0))
        return Usage(**corrected)

    def learn(self, way: Route, question: Question, prices: Prices, outcome: Outcome) -> None:
        """How an answer went."""
        for record in self._records.values():
            record.fade(FADING)
        if outcome.agreement is not None:
            question = dataclasses.replace(question, agreement=outcome.agreement)
            said = question.agreement if outcome.said is None else outcome.said
            self._agreement.learn(said, outcome.agreement)
        if way is not Route.DEVICE:
            self._first_s.learn(question.num_prompt_tokens, outcome.first_s)
        if outcome.num_tokens == 0 or self._circumstances(question) is None:
            return
        took = outcome.took
        question = dataclasses.replace(question, num_tokens=outcome.num_tokens)
        predicted = self._predict(way, question, prices)
        if way is Route.DEVICE:  # nobody says which of its tokens were right
            took = dataclasses.replace(took, num_disputed=predicted.num_disputed)
        for record in self._records_of(way, question):
            record.learn(took, predicted)

    def _records_of(self, way: Route, question: Question) -> tuple[_Record, _Record]:
        """Of all its answers, and of those to texts of this kind."""
        keys = ((way, None), (way, question.kind))
        of_way, of_kind = (self._records.setdefault(key, _Record()) for key in keys)
        return of_way, of_kind

    # The model

    def _circumstances(self, question: Question) -> Circumstances | None:
        known = self._known
        if known.link.rtt_s is None or not known.passes.base_s:
            return None
        return Circumstances(
            rtt_s=known.link.rtt_s,
            jitter_s=known.link.jitter_s,
            pass_s=known.passes.base_s,
            draft_step_s=max(known.draft_step_s.value or known.passes.base_s / 4, 1e-5),
            agreement=min(max(question.agreement, 0.02), 0.98),
            hint_s=known.passes.hint_s,
            load=known.load.share,
        )

    def _predict(self, way: Route, question: Question, prices: Prices) -> Usage:
        """Of the whole answer, by the model alone."""
        here = self._circumstances(question)
        assert here is not None
        number = question.num_tokens
        if way is Route.DEVICE:
            step_s = here.draft_step_s
            each = Usage(waiting_s=step_s, draft_s=step_s, num_drafted=1, num_disputed=1 - here.agreement)
            return each.times(number)
        each = _token(way, here, question, prices)
        least_s = here.rtt_s + here.pass_s
        first_s = max(least_s, self._first_s.at(question.num_prompt_tokens, least_s))
        first_s += 0.0 if question.is_edge_there else UNKNOWN_S
        return each.times(number).plus(Usage(waiting_s=max(0.0, first_s - each.waiting_s)))


def _token(way: Route, here: Circumstances, question: Question, prices: Prices) -> Usage:
    """What a token takes at an edge. A token that is kept although it is wrong saves a correction: so cascade
    mode is a lossless stream with a draft that agrees more often."""
    if way is Route.CLOUD:
        return Usage(waiting_s=here.pass_s, edge_s=here.pass_s, num_passes=1, num_rows=1, bytes_down=10)
    spent = 0.0
    if way is Route.CASCADE:
        stall_s = prices.in_waiting_s(corrected(here.rtt_s, here.pass_s))
        wanted = appetite(stall_s, disputed_s=prices.disputed_s)
        allowed = allowance(question.quality, question.balance, wanted)
        room = question.balance / question.num_tokens + (1 - question.quality) / 2
        spent = min(1 - here.agreement, allowed, max(0.0, room - UNAUDITED / question.num_tokens))
        here = dataclasses.replace(here, agreement=min(here.agreement + spent, 0.98))
    plan = make_plan(here, prices)
    step_s = here.draft_step_s
    worth = prices.in_waiting_s(Usage(draft_s=step_s, num_drafted=1)) / plan.s_per_token
    window = math.log(min(max(worth, 1e-6), 1.0)) / math.log(here.agreement)
    drafted = min(plan.s_per_token / step_s, 1 + (1 - here.agreement) * window / 2) if plan.does_pay else 0.0
    return Usage(
        waiting_s=plan.s_per_token,
        edge_s=plan.passes_per_token * here.pass_s,
        num_passes=plan.passes_per_token,
        num_rows=plan.rows_per_token,
        bytes_up=12 * plan.passes_per_token + 2 * drafted,
        bytes_down=8 * plan.passes_per_token + 2,
        draft_s=drafted * step_s,
        num_drafted=drafted,
        num_disputed=spent,
    )


def _best(options: Mapping[Route, Option], price: float) -> Route:
    """At this rent of a place."""
    return min(options, key=lambda way: options[way].cost + price * options[way].num_places)


def _sides(rent: Rent) -> tuple[float, float]:
    """At the rent, and just below if that is open to some."""
    at = rent.price * (1 + HAIR)
    return at, rent.price * (1 - HAIR) if rent.share_below else at


class _Line:
    """Least squares with forgetting; `slope` counts for `weight` squared deviations."""

    def __init__(self, *, slope: float = 0.0, weight: float = 1.0) -> None:
        self._slope, self._stiffness = slope, weight
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def learn(self, x: float, y: float) -> None:
        self._weight = LINE_REMEMBERED * self._weight + 1
        self._x = LINE_REMEMBERED * self._x + x
        self._y = LINE_REMEMBERED * self._y + y
        self._xx = LINE_REMEMBERED * self._xx + x * x
        self._xy = LINE_REMEMBERED * self._xy + x * y

    def mean(self, at_first: float) -> float:
        return self._y / self._weight if self._weight else at_first

    def at(self, x: float, at_first: float) -> float:
        """`at_first`: while nothing has been learnt."""
        if not self._weight:
            return at_first + self._slope * (x - at_first) if self._slope else at_first
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = max(0.0, self._xx - self._weight * mean_x**2) + self._stiffness
        slope = (self._xy - self._weight * mean_x * mean_y + self._slope * self._stiffness) / spread
        return mean_y + max(0.0, slope) * (x - mean_x)
