"""How many devices an edge holds at a latency goal, and tokens a second, with hints and without.

In virtual time, so the figures are exact and the same everywhere: the goal is that the time per output
token of nineteen streams of twenty is within it. With `real`, tokens a second of the real target on this
machine instead, fed with recorded hints.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from ...device import Policy
from ...edge import EdgeSettings
from ..capacity import devices_held, model_devices
from ..fleet import Fleet, FleetOutcome, PassCost, simulate_fleet

__all__ = ["run"]

AGREEMENT = 0.8
MUST_GOAL_MS = 60
GOALS_MS = (40, 50, 55, 60, 70, 80, 100, 120)
CHEAP_ROWS = PassCost(0.050, 0.0001)
DEAR_ROWS = PassCost(0.050, 0.0005)


def run(*, quick: bool = False, real: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Measure; `quick` takes shorter streams and one cost curve. `plot` is a picture of the gain to write."""
    if real:
        from ..replay import measure

        return measure(quick=quick)
    costs, goals, num_tokens = (
        ((DEAR_ROWS,), (60, 80), 150) if quick else ((CHEAP_ROWS, DEAR_ROWS), GOALS_MS, 1000)
    )
    jobs = [(cost, goal, hinted, num_tokens) for cost in costs for goal in goals for hinted in (True, False)]
    jobs.sort(key=lambda job: -_guess(*job[:3]))  # the long ones first
    with ProcessPoolExecutor(max_workers=_num_cores()) as pool:
        held = dict(zip(jobs, pool.map(_held, jobs), strict=True))
    gains = [_gain(cost, goal, held, num_tokens) for cost in costs for goal in goals]
    if plot is not None:
        from ..plots import plot_gain

        plot_gain(gains, plot)
    return {
        "agreement": AGREEMENT,
        "tokens": num_tokens,
        "goal": "time per output token, 95th percentile over streams",
        "gain": gains,
    }


Job = tuple[PassCost, int, bool, int]
"""(cost of a pass, goal in ms, with hints?, tokens of a stream)."""


def _held(job: Job) -> tuple[int, FleetOutcome | None]:
    """The most devices that hold the goal, and how they fared."""
    cost, goal_ms, is_hinted, num_tokens = job
    outcomes: dict[int, FleetOutcome] = {}

    def latency_ms(num_devices: int) -> float:
        fleet = Fleet(
            num_devices=num_devices,
            num_tokens=num_tokens,
            cost=cost,
            agreement=AGREEMENT,
            # To the engine ignored hints are as good as none, and no drafting makes this a quick simulation.
            policy=Policy.hint_driven() if is_hinted else Policy.cloud(),
            settings=EdgeSettings(goal_s_per_token=goal_ms / 1000, max_sessions=4096),
        )
        outcomes[num_devices] = simulate_fleet(fleet)
        return outcomes[num_devices].p95_ms_per_token

    # Streams scatter around what the model says of their mean.
    guess = _guess(cost, 0.95 * goal_ms if is_hinted else goal_ms, is_hinted)
    found = devices_held(goal_ms, latency_ms, guess=guess).most_held
    return found, outcomes.get(found)


def _guess(cost: PassCost, goal_ms: float, is_hinted: bool) -> float:
    return model_devices(goal_ms / 1000, cost, AGREEMENT, **({} if is_hinted else {"max_width": 0}))


def _gain(
    cost: PassCost, goal_ms: int, held: dict[Job, tuple[int, FleetOutcome | None]], num_tokens: int
) -> dict[str, Any]:
    """One row of the table."""
    devices, outcome = held[cost, goal_ms, True, num_tokens]
    plain_devices, plain_outcome = held[cost, goal_ms, False, num_tokens]
    rate = outcome.tokens_per_s if outcome else 0.0
    plain_rate = plain_outcome.tokens_per_s if plain_outcome else 0.0
    model = [model_devices(goal_ms / 1000, cost, AGREEMENT, max_width=width) for width in (16, 0)]
    return {
        "per_row_ms": cost.per_row_s * 1000,
        "goal_ms": goal_ms,
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


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
