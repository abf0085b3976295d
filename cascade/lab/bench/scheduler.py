"""The scheduler against plain streaming, the best fixed policy, ask-and-wait and an oracle, in virtual time.

Virtual time, the real device, edge and links, the synthetic pair: the figures are exact for their seeds. All
policies of a point meet the same texts, agreements and delays, so differences are far more certain than the
figures themselves; standard errors are those of the differences over runs. Rivals are chosen on other runs
than those on which they are judged.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple
from typing import Any

from ...device import Objective, Policy
from ..best_fixed import (
    PASS_S,
    SWEEP_SEED,
    Point,
    as_policy,
    best_fixed,
    evaluate,
    fast_setting,
    settings_of,
)
from ..branches import Branching, run_branched
from ..design_table import best_k
from ..drift import SCENARIOS, arrivals
from ..fast_model import FixedPolicy
from ..learning import calibration_errors
from ..plots import check_plot, plot_front
from ..progress import must
from ..simulation import Outcome, simulate
from ._campaign import Campaign, Work

__all__ = ["GRID", "run"]

GRID = tuple(
    Point(agreement=a, rtt_ms=rtt_ms, draft_cost=draft, row_cost=row, has_jitter=has_jitter)
    for a, rtt_ms, draft, row, has_jitter in itertools.product(
        (0.5, 0.6, 0.7, 0.8, 0.9),
        (0, 20, 50, 100, 200, 400),
        (0.05, 0.1, 0.2, 0.5),
        (0.0, 0.015),
        (False, True),
    )
)
SAMPLE_SEED = 20
NUM_QUICK_POINTS = 15
NUM_VALIDATED = 20
DRIFT_BLOCK = 5
"""Runs of a drift that one job makes."""


def run(
    *, quick: bool = False, plot: str | None = None, jobs: int | None = None, resume: str | None = None
) -> dict[str, Any]:
    """Every must with its bound, and the figures behind it; `plot`: a picture of the front goes there."""
    if plot is not None:
        check_plot(plot)
    points = random.Random(SAMPLE_SEED).sample(GRID, NUM_QUICK_POINTS) if quick else GRID
    validated = random.Random(SAMPLE_SEED + 1).sample(GRID, NUM_VALIDATED)
    num_seeds, num_drifts = (4, 6) if quick else (10, 200)
    parts: dict[str, list[Work]] = {
        "grid": [Work(_grid_row, (*astuple(point), num_seeds)) for point in points],
        "validation": [Work(_validation_row, astuple(point)) for point in validated],
        "ask_and_wait": [Work(_rival_row, (rtt_ms, num_seeds)) for rtt_ms in (0, 50, 100, 200, 400)],
        "drift": [
            Work(_drift_row, (name, first, min(DRIFT_BLOCK, num_drifts - first), num_drifts))
            for name in SCENARIOS
            for first in range(0, num_drifts, DRIFT_BLOCK)
        ],
        "front": [
            Work(_front_row, (rtt_ms, objective.value, num_seeds))
            for rtt_ms in (0, 50, 100, 200)
            for objective in Objective
        ],
        "branches": [Work(_branches_row, (rtt_ms, num_seeds)) for rtt_ms in (50, 100, 200)],
        "calibration": [Work(_calibration_row, (kind, 4 if quick else 20)) for kind in KINDS],
    }
    rows = iter(
        Campaign("scheduler", jobs=jobs, resume=resume).run(
            [work for part in parts.values() for work in part]
        )
    )
    found = {name: [next(rows) for _ in part] for name, part in parts.items()}
    found["drift"] = [_drift(name, found["drift"]) for name in SCENARIOS]
    if plot is not None:
        plot_front(found["front"], plot)
    deviations = [abs(row["deviation"]) for row in found["validation"]]
    return {
        "runs": num_seeds,
        "musts": _musts(found),
        "fast_model": {"mean_deviation": statistics.fmean(deviations), "worst_deviation": max(deviations)},
        **found,
    }


def _musts(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows, drifts = found["grid"], found["drift"]
    slowest = max(rows, key=lambda row: row["over_cloud"] - 2 * row["over_cloud_error"])
    worst = max(rows, key=lambda row: row["over_best_fixed"])
    mean_error = math.hypot(*(row["over_best_fixed_error"] for row in rows)) / len(rows)
    at = {row["rtt_ms"]: row for row in found["ask_and_wait"]}
    drift = max(drifts, key=lambda row: row["over_oracle"])
    later = max(drifts, key=lambda row: row["over_oracle_later"])
    cheap = [row["passes_per_token"] for row in found["front"] if row["objective"] == "cost"]
    outside = max(map(_outside, _by_rtt(found["front"])))
    errors = [row["expected_calibration_error"] for row in found["calibration"]]
    above_cloud = slowest["over_cloud"] - 2 * slowest["over_cloud_error"]
    over_best = statistics.fmean(row["over_best_fixed"] for row in rows)
    musts = [
        must("over cloud streaming, worst, less two standard errors", above_cloud, at_most=0.01),
        must("over the best fixed policy, mean", over_best, at_most=0.02),
        must("over the best fixed policy, worst", worst["over_best_fixed"], at_most=0.05),
        must("ms per token at a = .8, R = 100 ms", at[100]["ms_per_token"], at_most=32.0),
        must("times faster than ask-and-wait, R = 100 ms", at[100]["gain"], at_least=1.35),
        must("times faster than ask-and-wait, R = 200 ms", at[200]["gain"], at_least=1.6),
        must("over an oracle under drift, worst scenario", drift["over_oracle"], at_most=0.03),
        must("over an oracle 40 tokens after a change", later["over_oracle_later"], at_most=0.03),
        must("passes per token, objective cost, worst", max(cheap), at_most=0.36),
        must("objective balanced outside latency and cost, worst", outside, at_most=0.01),
        must("calibration error, worst", max(errors), at_most=0.05),
    ]
    standard_errors = [
        slowest["over_cloud_error"],
        mean_error,
        worst["over_best_fixed_error"],
        at[100]["ms_error"],
        at[100]["gain_error"],
        at[200]["gain_error"],
        drift["error"],
        later["error_later"],
    ]
    for row, error in zip(musts, standard_errors, strict=False):
        row["standard_error"] = round(error, 4)
    return musts


def _by_rtt(front: Sequence[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """For each round trip its rows by objective."""
    rtts_ms = dict.fromkeys(row["rtt_ms"] for row in front)
    return [{row["objective"]: row for row in front if row["rtt_ms"] == rtt_ms} for rtt_ms in rtts_ms]


def _outside(rows: dict[str, dict[str, Any]]) -> float:
    """How far `balanced` lies outside the other two, as a share of the nearer one, on its worse axis."""
    shares: list[float] = []
    for axis in ("ms_per_token", "passes_per_token"):
        low, high = sorted((rows["latency"][axis], rows["cost"][axis]))
        between = rows["balanced"][axis]
        shares += [low / between - 1, between / high - 1]
    return max(0.0, *shares)


def _grid_row(*job: Any) -> dict[str, Any]:
    """The arguments are a point's fields, and the number of runs."""
    *place, num_seeds = job
    point, num_tokens = _point(*place), 500
    adaptive = _seconds(evaluate(point, Policy.adaptive(), num_tokens=num_tokens, num_seeds=num_seeds))
    best = best_fixed(point, num_tokens=num_tokens)
    best_s = _seconds(
        evaluate(
            point,
            as_policy(best),
            num_tokens=num_tokens,
            num_seeds=num_seeds,
            max_fed_hints=best.max_fed_hints,
        )
    )
    over_cloud, over_cloud_error = _ratio(adaptive, [PASS_S] * num_seeds)
    over_best, over_best_error = _ratio(adaptive, best_s)
    return {
        **asdict(point),
        "ms_per_token": _ms(adaptive),
        "over_cloud": over_cloud,
        "over_cloud_error": over_cloud_error,
        "best_fixed_ms": _ms(best_s),
        "over_best_fixed": over_best,
        "over_best_fixed_error": over_best_error,
        "best_window": best.window,
        "best_fed_hints": best.max_fed_hints,
        "best_patience_ms": round(best.patience_s * 1000, 1),
    }


def _validation_row(*place: Any) -> dict[str, Any]:
    """The fast model and the real code under the same fixed policy, text and agreements."""
    point = _point(*place)
    fixed = FixedPolicy(window=32, max_fed_hints=16, patience_s=0.0)
    settings = list(settings_of(point, as_policy(fixed), num_tokens=400, num_seeds=3))
    fast = [fast_setting(setting, fixed) for setting in settings]
    real = _seconds(map(simulate, settings))
    deviation, error = _ratio(fast, real)
    return {
        **asdict(point),
        "fast_ms": _ms(fast),
        "real_ms": _ms(real),
        "deviation": deviation,
        "error": error,
    }


def _rival_row(rtt_ms: float, num_seeds: int) -> dict[str, Any]:
    """Ask-and-wait with the best of the k around the textbook's."""
    point = Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1)
    likely = best_k(0.8, int(rtt_ms))

    def rival_s(k: int, *, first_seed: int, num_seeds: int) -> list[float]:
        return _seconds(
            evaluate(
                point, Policy.ask_and_wait(k), num_tokens=800, num_seeds=num_seeds, first_seed=first_seed
            )
        )

    best = min(
        range(max(1, likely - 3), likely + 4),
        key=lambda k: statistics.fmean(rival_s(k, first_seed=SWEEP_SEED, num_seeds=3)),
    )
    rival = rival_s(best, first_seed=0, num_seeds=num_seeds)
    adaptive = _seconds(evaluate(point, Policy.adaptive(), num_tokens=800, num_seeds=num_seeds))
    gain, error = _ratio(rival, adaptive)
    return {
        "rtt_ms": rtt_ms,
        "ms_per_token": _ms(adaptive),
        "ms_error": _error(adaptive) * 1000,
        "ask_and_wait_ms": _ms(rival),
        "best_k": best,
        "gain": 1 + gain,
        "gain_error": error,
    }


def _drift_row(name: str, first: int, num_runs: int, num_all: int) -> dict[str, Any]:
    """Some of the runs of a scenario: seconds of each, ours and the oracle's.

    `later` leaves out the 40 tokens that follow each change.
    """
    scenario = SCENARIOS[name]
    rows: dict[str, list[float]] = {"ours": [], "truth": [], "ours_later": [], "truth_later": []}
    for seed in range(first, first + num_runs):
        rotation = seed / num_all
        found = arrivals(scenario, seed=seed, rotation=rotation, is_oracle=False)
        truth = arrivals(scenario, seed=seed, rotation=rotation, is_oracle=True)
        rows["ours"].append(found[-1] - found[0])
        rows["truth"].append(truth[-1] - truth[0])
        settled = scenario.settled(found, num_tokens=40)
        rows["ours_later"].append(sum(found[i] - found[i - 1] for i in settled))
        rows["truth_later"].append(sum(truth[i] - truth[i - 1] for i in settled))
    return {"scenario": name, **rows}


def _drift(name: str, blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All runs of a scenario together."""
    mine = [block for block in blocks if block["scenario"] == name]

    def every(which: str) -> list[float]:
        return [seconds for block in mine for seconds in block[which]]

    over, error = _ratio(every("ours"), every("truth"))
    later, later_error = _ratio(every("ours_later"), every("truth_later"))
    return {
        "scenario": name,
        "runs": len(every("ours")),
        "over_oracle": over,
        "error": error,
        "over_oracle_later": later,
        "error_later": later_error,
    }


def _front_row(rtt_ms: float, objective: str, num_seeds: int) -> dict[str, Any]:
    point = Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1)
    policy = Policy.adaptive(Objective(objective))
    found = evaluate(point, policy, num_tokens=800, num_seeds=num_seeds)
    return {
        "rtt_ms": rtt_ms,
        "objective": objective,
        "ms_per_token": _ms(_seconds(found)),
        "ms_error": _error(_seconds(found)) * 1000,
        "passes_per_token": statistics.fmean(outcome.passes_per_token for outcome in found),
        "bytes_per_token": statistics.fmean(outcome.payload_bytes_per_token for outcome in found),
    }


PLAIN = [Branching(window=window) for window in (12, 16, 24, 32)]
BRANCHED = [
    Branching(window=window, num_positions=positions, length=length)
    for window in (12, 16, 24)
    for positions, length in ((2, 4), (3, 4), (6, 8))
]


def _branches_row(rtt_ms: float, num_seeds: int) -> dict[str, Any]:
    """The best that branches could do in the fast model, against the best without."""
    loop = Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1).loop

    def cost(how: Branching) -> tuple[float, float]:
        runs = [
            run_branched(how, loop, agreement=0.8, second_agreement=0.5, num_tokens=2000, seed=seed)
            for seed in range(num_seeds)
        ]
        return statistics.fmean(run[0] for run in runs) * 1000, statistics.fmean(run[1] for run in runs)

    (plain_ms, plain_drafted), (branched_ms, branched_drafted) = (
        min(map(cost, ways)) for ways in (PLAIN, BRANCHED)
    )
    return {
        "rtt_ms": rtt_ms,
        "plain_ms": plain_ms,
        "branched_ms": branched_ms,
        "gain": plain_ms / branched_ms - 1,
        "plain_drafted_per_token": plain_drafted,
        "branched_drafted_per_token": branched_drafted,
    }


KINDS = ("one rate", "honest chances", "too sure", "too timid")


def _calibration_row(kind: str, num_streams: int) -> dict[str, Any]:
    return {"draft": kind, "streams": num_streams, **calibration_errors(kind, num_streams=num_streams)}


def _point(agreement: float, rtt_ms: float, draft_cost: float, row_cost: float, has_jitter: bool) -> Point:
    return Point(
        agreement=agreement, rtt_ms=rtt_ms, draft_cost=draft_cost, row_cost=row_cost, has_jitter=has_jitter
    )


def _seconds(outcomes: Iterable[Outcome]) -> list[float]:
    return [outcome.summary.time_per_token_s for outcome in outcomes]


def _ms(seconds: Sequence[float]) -> float:
    return statistics.fmean(seconds) * 1000


def _error(runs: Sequence[float]) -> float:
    """Standard error of the mean."""
    return statistics.stdev(runs) / math.sqrt(len(runs))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """How far our sum is above theirs, and the standard error of that, from paired runs."""
    mean = sum(ours) / sum(theirs)
    rest = [own - mean * other for own, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(rest) / math.sqrt(len(rest)) / statistics.fmean(theirs) if len(rest) > 1 else 0.0
    return mean - 1, error
