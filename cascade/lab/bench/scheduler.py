"""The scheduler against plain streaming, the best fixed policy, ask-and-wait and an oracle, in virtual time.

Virtual time, the real device, edge and links, the synthetic pair: the figures are exact for their seeds. All
policies of a point meet the same texts, agreements and delays, so differences are far more certain than the
figures themselves; standard errors are those of the differences over runs.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from ...device import Objective, Policy
from ..best_fixed import PASS_S, Point, as_policy, evaluate, fast_setting, settings_of, winners
from ..design_table import best_k
from ..drift import SCENARIOS, arrivals
from ..fast_model import FixedPolicy
from ..learning import calibration_errors
from ..simulation import Outcome, simulate

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
NUM_QUICK_POINTS = 30
NUM_VALIDATED = 20

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def run(*, quick: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Every must with its bound, and the figures behind it; `plot`: a picture of the front goes there."""
    points = random.Random(SAMPLE_SEED).sample(GRID, NUM_QUICK_POINTS) if quick else GRID
    num_seeds = 4 if quick else 10
    with ProcessPoolExecutor() as pool:
        rows = _all(pool, _grid_row, [(point, num_seeds) for point in points])
        validation = _all(pool, _validation_row, random.Random(SAMPLE_SEED + 1).sample(GRID, NUM_VALIDATED))
        rivals = _all(pool, _rival_row, [(rtt_ms, num_seeds) for rtt_ms in (0, 50, 100, 200, 400)])
        drifts = _all(pool, _drift_row, [(name, 6 if quick else 200) for name in SCENARIOS])
        front = _all(
            pool,
            _front_row,
            [(rtt_ms, goal, num_seeds) for rtt_ms in (0, 50, 100, 200) for goal in Objective],
        )
        errors = _all(pool, _calibration_row, [(kind, 4 if quick else 20) for kind in KINDS])
    if plot is not None:
        _plot(front, plot)
    return {
        "runs": num_seeds,
        "musts": _musts(rows, rivals, drifts, front, errors),
        "fast_model": {
            "mean_deviation": statistics.fmean(abs(row["deviation"]) for row in validation),
            "worst_deviation": max(abs(row["deviation"]) for row in validation),
        },
        "grid": rows,
        "validation": validation,
        "ask_and_wait": rivals,
        "drift": drifts,
        "front": front,
        "calibration": errors,
    }


def _musts(
    rows: Sequence[dict[str, Any]],
    rivals: Sequence[dict[str, Any]],
    drifts: Sequence[dict[str, Any]],
    front: Sequence[dict[str, Any]],
    errors: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    above_cloud = max(row["over_cloud"] - 2 * row["over_cloud_error"] for row in rows)
    over_best = [row["over_best_fixed"] for row in rows]
    at = {row["rtt_ms"]: row for row in rivals}
    outside = max(map(_outside, _by_rtt(front)))
    cheap = [row for row in front if row["objective"] == "cost"]
    found = [
        ("over cloud streaming, worst, less two standard errors", above_cloud, 0.01),
        ("over the best fixed policy, mean", statistics.fmean(over_best), 0.02),
        ("over the best fixed policy, worst", max(over_best), 0.05),
        ("ms per token at a = .8, R = 100 ms", at[100]["ms_per_token"], 32.0),
        ("ask-and-wait at R = 100 ms, times (negative: at least)", -at[100]["gain"], -1.35),
        ("ask-and-wait at R = 200 ms, times (negative: at least)", -at[200]["gain"], -1.6),
        ("over an oracle under drift, worst scenario", max(row["over_oracle"] for row in drifts), 0.03),
        ("over an oracle 40 tokens after a change", max(row["over_oracle_later"] for row in drifts), 0.03),
        ("passes per token, objective cost, worst", max(row["passes_per_token"] for row in cheap), 0.36),
        ("objective balanced outside latency and cost, worst", outside, 0.01),
        ("calibration error, worst", max(row["expected_calibration_error"] for row in errors), 0.05),
    ]
    return [
        {"must": name, "figure": round(figure, 4), "bound": bound, "holds": figure <= bound}
        for name, figure, bound in found
    ]


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


def _grid_row(job: tuple[Point, int]) -> dict[str, Any]:
    point, num_seeds = job
    num_tokens = 500
    adaptive = _seconds(evaluate(point, Policy.adaptive(), num_tokens=num_tokens, num_seeds=num_seeds))
    judged = {
        fixed: _seconds(
            evaluate(
                point,
                as_policy(fixed),
                num_tokens=num_tokens,
                num_seeds=num_seeds,
                max_fed_hints=fixed.max_fed_hints,
            )
        )
        for fixed in winners(point, num_tokens=1000)
    }
    best, best_s = min(judged.items(), key=lambda item: statistics.fmean(item[1]))
    over_cloud, over_cloud_error = _ratio(adaptive, [PASS_S] * num_seeds)
    over_best, over_best_error = _ratio(adaptive, best_s)
    return {
        **_place(point),
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


def _validation_row(point: Point) -> dict[str, Any]:
    """The fast model and the real code under the same fixed policy, text and agreements."""
    fixed = FixedPolicy(window=32, max_fed_hints=16, patience_s=0.0)
    settings = list(settings_of(point, as_policy(fixed), num_tokens=400, num_seeds=3))
    fast = [fast_setting(setting, fixed) for setting in settings]
    real = _seconds(map(simulate, settings))
    return {**_place(point), "fast_ms": _ms(fast), "real_ms": _ms(real), "deviation": _ratio(fast, real)[0]}


def _rival_row(job: tuple[float, int]) -> dict[str, Any]:
    """Ask-and-wait with the best of the k around the textbook's."""
    rtt_ms, num_seeds = job
    point = Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1)
    likely = best_k(0.8, int(rtt_ms))
    rivals = {
        k: _seconds(evaluate(point, Policy.ask_and_wait(k), num_tokens=800, num_seeds=num_seeds))
        for k in range(max(1, likely - 3), likely + 4)
    }
    k, rival = min(rivals.items(), key=lambda item: statistics.fmean(item[1]))
    adaptive = _seconds(evaluate(point, Policy.adaptive(), num_tokens=800, num_seeds=num_seeds))
    gain, error = _ratio(rival, adaptive)
    return {
        "rtt_ms": rtt_ms,
        "ms_per_token": _ms(adaptive),
        "ask_and_wait_ms": _ms(rival),
        "best_k": k,
        "gain": 1 + gain,
        "gain_error": error,
    }


def _drift_row(job: tuple[str, int]) -> dict[str, Any]:
    """`later`: leaving out the 40 tokens that follow each change."""
    name, num_seeds = job
    scenario = SCENARIOS[name]
    ours, truths, ours_later, truths_later = [], [], [], []
    for seed in range(num_seeds):
        rotation = seed / num_seeds
        found = arrivals(scenario, seed=seed, rotation=rotation, is_oracle=False)
        truth = arrivals(scenario, seed=seed, rotation=rotation, is_oracle=True)
        ours.append(found[-1] - found[0])
        truths.append(truth[-1] - truth[0])
        settled = scenario.settled(found, num_tokens=40)
        ours_later.append(sum(found[i] - found[i - 1] for i in settled))
        truths_later.append(sum(truth[i] - truth[i - 1] for i in settled))
    over, error = _ratio(ours, truths)
    later, later_error = _ratio(ours_later, truths_later)
    return {
        "scenario": name,
        "runs": num_seeds,
        "over_oracle": over,
        "error": error,
        "over_oracle_later": later,
        "error_later": later_error,
    }


def _front_row(job: tuple[float, Objective, int]) -> dict[str, Any]:
    rtt_ms, objective, num_seeds = job
    point = Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1)
    found = evaluate(point, Policy.adaptive(objective), num_tokens=800, num_seeds=num_seeds)
    return {
        "rtt_ms": rtt_ms,
        "objective": objective.value,
        "ms_per_token": _ms(_seconds(found)),
        "passes_per_token": statistics.fmean(outcome.passes_per_token for outcome in found),
        "bytes_per_token": statistics.fmean(outcome.payload_bytes_per_token for outcome in found),
    }


KINDS = ("one rate", "honest chances", "too sure", "too timid")


def _calibration_row(job: tuple[str, int]) -> dict[str, Any]:
    kind, num_streams = job
    return {"draft": kind, "streams": num_streams, **calibration_errors(kind, num_streams=num_streams)}


def _all(pool: ProcessPoolExecutor, work: Callable[[Job], Answer], jobs: Iterable[Job]) -> list[Answer]:
    return list(pool.map(work, jobs))


def _seconds(outcomes: Iterable[Outcome]) -> list[float]:
    return [outcome.summary.time_per_token_s for outcome in outcomes]


def _ms(seconds: Sequence[float]) -> float:
    return statistics.fmean(seconds) * 1000


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """How far our sum is above theirs, and the standard error of that, from paired runs."""
    mean = sum(ours) / sum(theirs)
    rest = [own - mean * other for own, other in zip(ours, theirs, strict=True)]
    error = statistics.stdev(rest) / math.sqrt(len(rest)) / statistics.fmean(theirs) if len(rest) > 1 else 0.0
    return mean - 1, error


def _place(point: Point) -> dict[str, Any]:
    return {
        "agreement": point.agreement,
        "rtt_ms": point.rtt_ms,
        "draft_cost": point.draft_cost,
        "row_cost": point.row_cost,
        "has_jitter": point.has_jitter,
    }


def _plot(front: Sequence[dict[str, Any]], path: str) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for rtt_ms in dict.fromkeys(row["rtt_ms"] for row in front):
        rows = [row for row in front if row["rtt_ms"] == rtt_ms]
        axes.plot(
            [row["passes_per_token"] for row in rows],
            [row["ms_per_token"] for row in rows],
            marker="o",
            label=f"R = {rtt_ms:g} ms",
        )
    axes.set_xlabel("the edge's passes per token")
    axes.set_ylabel("milliseconds per token")
    axes.set_title("Objectives latency, balanced, cost (a = 0.8, pass 50 ms, draft step 5 ms)")
    axes.legend()
    figure.savefig(path)
