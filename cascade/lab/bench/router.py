"""Whole answers on their way: `route="auto"` against each way taken always, in virtual time."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import astuple
from typing import Any

from ...device.router import Route
from ..progress import must
from ..routing import PHASES, Books, route_always, route_by_itself
from ._campaign import Campaign, Work

__all__ = ["run"]


def run(*, quick: bool = False, jobs: int | None = None, resume: str | None = None) -> dict[str, Any]:
    """The must: in no phase more than 5 % over the way that was the best one in hindsight.

    A rival begins each phase with the ledger that the router had there, and has met the link before.
    """
    num_requests, num_seeds = (24, 1) if quick else (60, 8)
    campaign = Campaign("router", jobs=jobs, resume=resume)
    ours = campaign.run([Work(_own_row, (num_requests, seed)) for seed in range(num_seeds)])
    places = [(seed, number) for seed in range(num_seeds) for number in range(len(PHASES))]
    works = [
        Work(_rival_row, (way.value, number, *_books(ours[seed], number), num_requests, seed))
        for seed, number in places
        for way in Route
    ]
    rivals = campaign.run(works)
    phases = [_phase(number, ours, rivals) for number in range(len(PHASES))]
    worst = max(phase["over_best"] for phase in phases)
    return {
        "answers_per_phase": num_requests * num_seeds,
        "musts": [must("over the best way in hindsight, worst phase", worst, at_most=0.05)],
        "mean_over_best": statistics.fmean(phase["over_best"] for phase in phases),
        "phases": phases,
    }


def _own_row(num_requests: int, seed: int) -> dict[str, Any]:
    found = route_by_itself(num_requests=num_requests, seed=seed)
    return {
        "phases": [{"cost": each.cost, "ways": each.ways, "books": astuple(each.books)} for each in found]
    }


def _rival_row(way: str, number: int, *job: int) -> dict[str, Any]:
    *books, num_requests, seed = job
    found = route_always(Route(way), number, Books(*books), num_requests=num_requests, seed=seed)
    return {"way": way, "number": number, "seed": seed, "cost": found.cost}


def _books(ours: dict[str, Any], number: int) -> tuple[int, ...]:
    """With which the phase began."""
    return tuple(ours["phases"][number - 1]["books"]) if number else astuple(Books())


def _phase(number: int, ours: list[dict[str, Any]], rivals: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean cost of an answer by each route, over all seeds."""
    mine = [row["phases"][number] for row in ours]
    ways = Counter[str]()
    for phase in mine:
        ways.update(phase["ways"])
    num_answers = ways.total()
    costs = {
        way.value: sum(row["cost"] for row in rivals if (row["way"], row["number"]) == (way.value, number))
        / num_answers
        for way in Route
    }
    best = min(costs, key=costs.__getitem__)
    of_best = {row["seed"]: row["cost"] for row in rivals if (row["way"], row["number"]) == (best, number)}
    cost = sum(phase["cost"] for phase in mine) / num_answers
    return {
        "phase": PHASES[number].name,
        "over_best": cost / costs[best] - 1,
        "worst_seed": max(phase["cost"] / of_best[seed] - 1 for seed, phase in enumerate(mine)),
        "best": best,
        "cost_auto": cost,
        **{f"cost_{way}": each for way, each in costs.items()},
        "ways": ", ".join(f"{way} {ways[way]}" for way in sorted(ways)),
    }
