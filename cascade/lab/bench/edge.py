"""How many devices an edge holds at a latency goal, and tokens a second, with hints and without.

In virtual time, so the figures are exact and the same everywhere: the goal is that the time per output
token of nineteen streams of twenty is within it. The goal that is a must is measured with long streams, the
others with shorter ones, whose times scatter more: that is to the disadvantage of hints. With `real`, tokens
a second of the real target on this machine instead, fed with recorded hints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

from ...device import Policy
from ...edge import EdgeSettings
from ..capacity import devices_held, model_devices
from ..fleet import Fleet, FleetOutcome, PassCost, simulate_fleet
from ..progress import must, say
from ..workers import worker_pool

__all__ = ["run"]

AGREEMENT = 0.8
MUST_GOAL_MS = 60
GOALS_MS = (40, 50, 55, 60, 70, 80, 100, 120)
CHEAP_ROWS = PassCost(0.050, 0.0001)
DEAR_ROWS = PassCost(0.050, 0.0005)
MUST_GAIN = 2.4
LONG_STREAM, STREAM, QUICK_STREAM = 1000, 400, 150
"""Tokens."""
TOLERANCE = 0.01
"""Of the devices found; not below one device."""
AIM = 0.92
"""Streams scatter around what the model says of their mean: where the search begins, in goals."""


def run(*, quick: bool = False, real: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Measure; `quick` takes shorter streams, one cost curve and two goals. `plot`: a picture goes there."""
    if real:
        from ..replay import measure

        return measure(quick=quick)
    if plot is not None:
        from ..plots import check_plot, plot_gain

        check_plot(plot)  # before an hour's work
    points = [Point(DEAR_ROWS, goal_ms, QUICK_STREAM) for goal_ms in (60, 80)] if quick else FULL
    gains = [_gain(point, *held) for point, held in zip(points, _all_held(points), strict=True)]
    if plot is not None:
        plot_gain(gains, plot)
    return {
        "musts": _musts(gains),
        "agreement": AGREEMENT,
        "goal": "time per output token, 95th percentile over streams",
        "gain": gains,
    }


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve: with hints, and without."""

    cost: PassCost
    goal_ms: int
    num_tokens: int
    """Of a stream."""


FULL = [
    Point(cost, goal, LONG_STREAM if (cost, goal) == (CHEAP_ROWS, MUST_GOAL_MS) else STREAM)
    for cost in (CHEAP_ROWS, DEAR_ROWS)
    for goal in GOALS_MS
]
Held = tuple[int, FleetOutcome | None]
"""The most devices that hold a goal, and how they fared."""


def _all_held(points: Sequence[Point]) -> Iterator[tuple[Held, Held]]:
    """(with hints, without) for each; as many at a time as there are cores, the long ones first."""
    jobs = [(point, is_hinted) for point in points for is_hinted in (True, False)]
    jobs.sort(key=lambda job: -_guess(*job) * job[0].num_tokens)
    with worker_pool() as pool:
        futures = {pool.submit(_held, *job): job for job in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            point, is_hinted = futures[future]
            curve = f"50 + {point.cost.per_row_s * 1000:g} n"
            way = "with hints" if is_hinted else "without"
            devices, _ = future.result()
            say(f"{number}/{len(jobs)}: {devices} devices {way} at {curve} and {point.goal_ms} ms")
    held = {job: future.result() for future, job in futures.items()}
    return ((held[point, True], held[point, False]) for point in points)


def _held(point: Point, is_hinted: bool) -> Held:
    outcomes: dict[int, FleetOutcome] = {}

    def latency_ms(num_devices: int) -> float:
        fleet = Fleet(
            num_devices=num_devices,
            num_tokens=point.num_tokens,
            cost=point.cost,
            agreement=AGREEMENT,
            # To the engine ignored hints are as good as none, and no drafting makes this a quick simulation.
            policy=Policy.hint_driven() if is_hinted else Policy.cloud(),
            settings=EdgeSettings(goal_s_per_token=point.goal_ms / 1000, max_sessions=4096),
        )
        outcomes[num_devices] = simulate_fleet(fleet)
        return outcomes[num_devices].p95_ms_per_token

    found = devices_held(point.goal_ms, latency_ms, guess=_guess(point, is_hinted), tolerance=TOLERANCE)
    return found.most_held, outcomes.get(found.most_held)


def _guess(point: Point, is_hinted: bool) -> float:
    if is_hinted:
        return model_devices(AIM * point.goal_ms / 1000, point.cost, AGREEMENT)
    return model_devices(point.goal_ms / 1000, point.cost, AGREEMENT, max_width=0)


def _musts(gains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where nothing holds a goal without hints there is no ratio."""
    rows = [row for row in gains if row["times_devices"] is not None]
    musts = []
    for row in rows:
        if (row["per_row_ms"], row["goal_ms"]) == (CHEAP_ROWS.per_row_s * 1000, MUST_GOAL_MS):
            name = f"at t(n) = 50 + 0.1 n and {MUST_GOAL_MS} ms (at least)"
            musts += [
                must(f"times the devices {name}", row["times_devices"], at_least=MUST_GAIN),
                must(f"times the tokens a second {name}", row["times_tokens"], at_least=MUST_GAIN),
            ]
    worst = min(min(row["times_devices"], row["times_tokens"]) for row in rows)
    return [*musts, must("times either, worst of all goals (at least)", worst, at_least=1 - TOLERANCE)]


def _gain(point: Point, held: Held, held_plain: Held) -> dict[str, Any]:
    """One row of the table."""
    devices, outcome = held
    plain_devices, plain_outcome = held_plain
    cost, goal_ms = point.cost, point.goal_ms
    rate = outcome.tokens_per_s if outcome else 0.0
    plain_rate = plain_outcome.tokens_per_s if plain_outcome else 0.0
    model = [model_devices(goal_ms / 1000, cost, AGREEMENT, max_width=width) for width in (16, 0)]
    return {
        "per_row_ms": cost.per_row_s * 1000,
        "goal_ms": goal_ms,
        "tokens": point.num_tokens,
        "devices_plain": plain_devices,
        "devices_hinted": devices,
        "times_devices": round(devices / plain_devices, 3) if plain_devices else None,
        "tokens_per_s_plain": round(plain_rate, 1),
        "tokens_per_s_hinted": round(rate, 1),
        "times_tokens": round(rate / plain_rate, 3) if plain_rate else None,
        "model_devices_hinted": round(max(0.0, model[0]), 1),
        "model_devices_plain": round(max(0.0, model[1]), 1),
        "p95_ms": round(outcome.p95_ms_per_token, 2) if outcome else None,
        "mean_ms": round(outcome.mean_ms_per_token, 2) if outcome else None,
        "rows_per_pass": round(outcome.rows_per_pass, 1) if outcome else None,
        "hinted_share": round(outcome.hinted_share, 3) if outcome else None,
    }
