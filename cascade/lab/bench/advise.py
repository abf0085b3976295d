"""What `cascade advise` predicts, against the scheduler in virtual time at random points."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

from ...device import Objective, Policy
from ...device.router import Route
from ..advice import Expectation, Situation, expect
from ..best_fixed import PASS_S, Point, evaluate
from ..kept import KeptSetting, simulate_kept
from ..progress import must
from ._campaign import Campaign, Work

__all__ = ["random_point", "run"]

NUM_POINTS = 20
NUM_OTHERS = 6
NUM_TOKENS = 500
NUM_KEPT_TOKENS = 2000
SEED = 30
KEPT = ((0.9, 0.02), (0.9, 0.1), (0.975, 0.1), (0.9, 0.3))
"""(quality, round trip in seconds)."""


def run(*, quick: bool = False, jobs: int | None = None) -> dict[str, Any]:
    """The must, at the objective `latency`, and the same for the other objectives and for cascade mode."""
    num_seeds = 3 if quick else 10
    dice = random.Random(SEED)
    points = [random_point(dice) for _ in range(NUM_POINTS)]
    others = [random_point(dice) for _ in range(NUM_OTHERS)]
    works = [Work(_row, (*_fields(point), "latency", num_seeds)) for point in points]
    works += [
        Work(_row, (*_fields(point), name, num_seeds)) for name in ("balanced", "cost") for point in others
    ]
    works += [Work(_kept_row, point) for point in KEPT]
    rows = Campaign("advise", jobs=jobs).run(works)
    found = rows[:NUM_POINTS]
    errors = [abs(row["deviation"]) for row in found]
    return {
        "musts": [must("prediction of time per token, worst of 20 points", max(errors), at_most=0.1)],
        "mean_deviation": statistics.fmean(errors),
        "points": found,
        "other_objectives": rows[NUM_POINTS : -len(KEPT)],
        "cascade_mode": rows[-len(KEPT) :],
    }


def random_point(dice: random.Random) -> Point:
    """Somewhere in the range of the scheduler's grid, not on it."""
    return Point(
        agreement=round(dice.uniform(0.5, 0.93), 3),
        rtt_ms=round(2 ** dice.uniform(0, 8.6), 1),
        draft_cost=round(2 ** dice.uniform(-4.5, -1), 3),
        row_cost=dice.choice((0.0, round(dice.uniform(0, 0.02), 4))),
        has_jitter=dice.random() < 0.5,
    )


def situation_of(point: Point) -> Situation:
    loop = point.loop
    return Situation(
        rtt_s=loop.rtt_s,
        jitter_s=loop.jitter_s,
        pass_s=loop.pass_s,
        row_s=loop.row_s,
        draft_step_s=loop.draft_step_s,
        agreement=point.agreement,
        quality=1.0,
        num_prompt_tokens=3,
        num_tokens=NUM_TOKENS,
    )


def _row(*job: Any) -> dict[str, Any]:
    """The arguments are a point's fields, an objective, and the number of runs."""
    agreement, rtt_ms, draft_cost, row_cost, has_jitter, name, num_seeds = job
    point = Point(
        agreement=agreement, rtt_ms=rtt_ms, draft_cost=draft_cost, row_cost=row_cost, has_jitter=has_jitter
    )
    objective = Objective(name)
    predicted = _of_mode(expect(situation_of(point), objective.prices), Route.LOSSLESS)
    found = evaluate(point, Policy.adaptive(objective), num_tokens=NUM_TOKENS, num_seeds=num_seeds)
    measured_s = statistics.fmean(outcome.summary.time_per_token_s for outcome in found)
    return {
        "objective": name,
        "agreement": agreement,
        "rtt_ms": rtt_ms,
        "draft_ms": draft_cost * PASS_S * 1000,
        "row_ms": row_cost * PASS_S * 1000,
        "has_jitter": has_jitter,
        "predicted_ms": predicted.s_per_token * 1000,
        "measured_ms": measured_s * 1000,
        "deviation": predicted.s_per_token / measured_s - 1,
        "predicted_first_ms": predicted.first_token_s * 1000,
        "measured_first_ms": 1000 * statistics.fmean(each.summary.time_to_first_token_s for each in found),
        "predicted_passes": predicted.per_token.num_passes,
        "measured_passes": statistics.fmean(outcome.passes_per_token for outcome in found),
    }


def _kept_row(quality: float, rtt_s: float) -> dict[str, Any]:
    here = Situation(rtt_s=rtt_s, pass_s=0.05, draft_step_s=0.005, quality=quality, num_prompt_tokens=3)
    predicted = _of_mode(expect(here, Objective.LATENCY.prices), Route.CASCADE)
    found = simulate_kept(KeptSetting(quality=quality, num_tokens=NUM_KEPT_TOKENS, rtt_s=rtt_s))
    measured_s = found.summary.time_per_token_s
    return {
        "quality": quality,
        "rtt_ms": rtt_s * 1000,
        "predicted_ms": predicted.s_per_token * 1000,
        "measured_ms": measured_s * 1000,
        "deviation": predicted.s_per_token / measured_s - 1,
        "predicted_agreement": predicted.agreement,
        "measured_agreement": found.quality,
    }


def _of_mode(expectations: Sequence[Expectation], mode: Route) -> Expectation:
    return next(each for each in expectations if each.mode is mode)


def _fields(point: Point) -> tuple[Any, ...]:
    return (point.agreement, point.rtt_ms, point.draft_cost, point.row_cost, point.has_jitter)
