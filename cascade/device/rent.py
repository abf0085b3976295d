"""What a place in the ledger is worth: pure maths.

Ways of answering take places in the ledger, for tokens that are not, or may not be, the target's own picks.
An account earns only so many of them. So each has a *rent*, what it would save elsewhere, which is paid on
top of what a way costs. The rent is the least at which the questions of late, each going the way that is best
for it, take no more places than there are: the dual price of that budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Option", "Rent", "rent_of"]

SLACK = 1e-9


class Option(NamedTuple):
    """One way of answering one question."""

    cost: float
    num_places: float


class Rent(NamedTuple):
    """Of one place."""

    price: float
    share_below: float
    """Just below this price more places are taken than there are. So large a share of the questions that
    would then go another way may do so."""


def rent_of(questions: Sequence[Sequence[Option]], num_places: float) -> Rent:
    """`questions`: the ways in which each can be answered; `num_places`: for all of them together."""
    steps = sorted(
        {
            (other.cost - one.cost) / (one.num_places - other.num_places)
            for ways in questions
            for one in ways
            for other in ways
            if one.num_places > other.num_places and other.cost > one.cost
        }
    )
    if not steps or _taken(questions, 0.0) <= num_places:
        return Rent(0.0, 0.0)
    low, high = 0, len(steps) - 1
    while low < high:
        middle = (low + high) // 2
        if _taken(questions, steps[middle]) <= num_places:
            high = middle
        else:
            low = middle + 1
    at, below = _taken(questions, steps[low]), _taken(questions, steps[low] * (1 - SLACK) - SLACK)
    share = (num_places - at) / (below - at) if below > at else 0.0
    return Rent(steps[low], min(max(share, 0.0), 1.0))


def _taken(questions: Sequence[Sequence[Option]], price: float) -> float:
    """Places, at this rent; of equals the way with fewer of them."""
    return sum(best(ways, price).num_places for ways in questions)


def best(ways: Sequence[Option], price: float) -> Option:
    return min(ways, key=lambda way: (way.cost + (price + SLACK) * way.num_places, way.num_places))
