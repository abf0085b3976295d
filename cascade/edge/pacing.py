"""What goes into the next pass: pure decisions over plain numbers. `docs/pacing.md` has the mathematics.

A pass of n rows takes t(n) and brings V, the tokens that are expected of its rows, each weighted by how
much its owner is behind the others and behind its goal. Rows are put in the order of their value, and the
pass is cut where V / t(n) is greatest: a row is taken exactly while it brings more per second than the pass
does without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..measure import CostCurve
from .shares import HORIZON_S, Standing

__all__ = ["NEVER_S", "Candidate", "PassPlan", "due_from_s", "plan_pass"]

NEVER_S = float("inf")
AIM = 0.9
"""Texts scatter, so who is to hold a goal is late from this part of it on."""
URGENCY = 8
"""An owner that is late by a factor x counts x ** URGENCY times as much, beside the share it was denied."""
MAX_URGENCY = 16.0
"""Who is hopelessly late does not take everything."""
MAX_HOLD = 0.25
"""A pass is held back for hints by no more than this part of what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A text that may take part in the next pass."""

    owner: str
    num_rows: int = 1
    """Its last committed token, and those before it that the cache lacks, as far as this pass takes them."""
    num_hints: int = 0
    """Usable ones."""
    agreement: float = 0.8
    """The chance that the next hint is confirmed."""
    waiting_since_s: float = 0.0
    """When it was stepped last, or opened."""
    patience_s: float = 0.0
    """How long it would rather wait for hints than be driven."""
    goal_s_per_token: float = NEVER_S
    """The time per token that was wished."""
    hints_at_s: float = NEVER_S
    """When its next hints are expected; a time that has passed says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """Who takes part, and when to look again."""

    fed: Mapping[int, int]
    """Index of a candidate -> how many of its hints are fed. Who is not named sits this pass out."""
    begin_at_s: float
    """When the pass should begin: now, or a little later for hints under way. If it is empty: when somebody
    is due."""
    row_price: float
    """What one row more would cost the others, in tokens."""


def plan_pass(
    candidates: Sequence[Candidate],
    curve: CostCurve,
    standing: Mapping[str, Standing],
    *,
    now_s: float,
    max_fed_hints: int,
    fairness: float = 1.0,
    may_hold: bool = False,
) -> PassPlan:
    """Decide the next pass.

    `standing` tells of every owner that is named. `fairness` is the power to which an owner that was given
    more counts less with its second text and all further ones: with 1 it gets in proportion to what that
    costs the others, and the larger, the nearer to an equal share whatever it costs. `may_hold` is whether
    passes are scarce: false while the engine stood idle.
    """
    due_s = [due_from_s(one, curve) for one in candidates]
    due = [index for index, from_s in enumerate(due_s) if from_s <= now_s]
    if not due:
        return PassPlan(fed={}, begin_at_s=min(due_s, default=NEVER_S), row_price=0.0)
    weights = _weights(candidates, standing)
    chosen = _best_prefix(candidates, due, weights, standing, curve, max_fed_hints, fairness)
    waiting = set(range(len(candidates))).difference(due)
    in_vain = [index for index in waiting if weights[index] * candidates[index].agreement <= chosen.price]
    if in_vain:  # hints would not be fed: rows are dear, a hinted token takes more of them than a driven one
        due = sorted(due + in_vain)
        chosen = _best_prefix(candidates, due, weights, standing, curve, max_fed_hints, fairness)
    begin_at_s = now_s
    if may_hold and len(candidates) > 1:
        begin_at_s += _hold_s(candidates, chosen, weights, now_s, max_fed_hints)
    return PassPlan(fed=chosen.fed, begin_at_s=begin_at_s, row_price=min(1.0, chosen.price))


def due_from_s(one: Candidate, curve: CostCurve) -> float:
    """From when on it takes part; -inf is now. The goal holds even where waiting ends in a single token."""
    if one.num_hints or not one.patience_s:
        return -NEVER_S
    return one.waiting_since_s + min(one.patience_s, max(0.0, one.goal_s_per_token - curve.seconds(1)))


def _weights(candidates: Sequence[Candidate], standing: Mapping[str, Standing]) -> list[float]:
    """What a token is worth to each: proportional fairness, 1 / rate, and more for the late."""
    owners = {one.owner for one in candidates}
    mean = sum(standing[owner].tokens_per_s for owner in owners) / len(owners)
    weights = []
    for one in candidates:
        rate = standing[one.owner].tokens_per_s
        lateness = 1 / (rate * AIM * one.goal_s_per_token)
        weights.append(mean / rate * min(max(1.0, lateness) ** URGENCY, MAX_URGENCY))
    return weights


@dataclass(frozen=True, slots=True)
class _Chosen:
    fed: dict[int, int]
    rate: float
    """Weighted tokens a second."""
    price: float
    """What a row more would have to bring."""
    seconds: float


def _best_prefix(
    candidates: Sequence[Candidate],
    due: Sequence[int],
    weights: Sequence[float],
    standing: Mapping[str, Standing],
    curve: CostCurve,
    max_fed_hints: int,
    fairness: float,
) -> _Chosen:
    """One text of every owner takes part in any case, the one that waits longest. Everything else has to pay.

    But what has to be prefilled has to be prefilled, and costs the same now or later: it waits only while its
    owner is in debt to the others.
    """
    fed: dict[int, int] = {}
    due_value, due_rows = 0.0, 0
    pieces: list[tuple[float, int, int]] = []
    """(value per row, rows, whose) of what has to pay."""
    num_seen: dict[str, int] = {}
    owners = {one.owner for one in candidates}
    mean = sum(standing[owner].tokens_per_s for owner in owners) / len(owners)
    for index in sorted(due, key=lambda index: candidates[index].waiting_since_s):
        one, weight = candidates[index], weights[index]
        if one.num_rows > 1:
            is_due, rank = not standing[one.owner].is_in_debt, 0
        else:
            rank = num_seen[one.owner] = num_seen.get(one.owner, -1) + 1
            is_due = rank == 0
        if rank and len(owners) > 1:  # the more it is given in this pass too, the less one more is worth
            rate = standing[one.owner].tokens_per_s
            weight *= (mean / rate) ** (fairness - 1) / (1 + rank / (rate * HORIZON_S)) ** fairness
        if is_due:
            fed[index] = 0
            due_value += weight
            due_rows += one.num_rows
        else:
            pieces.append((weight / one.num_rows, one.num_rows, index))
        if is_due or one.num_rows == 1:
            for number in range(1, min(one.num_hints, max_fed_hints) + 1):
                pieces.append((weight * one.agreement**number, 1, index))
    pieces.sort(key=lambda piece: -piece[0])  # stable: a text's own row stands before its hints
    value = due_value + np.cumsum([0.0, *(per_row * rows for per_row, rows, _ in pieces)])
    width = due_rows + np.cumsum([0, *(rows for _, rows, _ in pieces)])
    seconds = np.maximum(curve.seconds_of(width), 1e-9)
    best = int(np.argmax(value / seconds))
    for _, _, index in pieces[:best]:
        fed[index] = fed[index] + 1 if index in fed else 0
    rate, best_s = float(value[best] / seconds[best]), float(seconds[best])
    return _Chosen(fed, rate, rate * (curve.seconds(width[best] + 1) - best_s), best_s)


def _hold_s(
    candidates: Sequence[Candidate],
    chosen: _Chosen,
    weights: Sequence[float],
    now_s: float,
    max_fed_hints: int,
) -> float:
    """How long the pass should wait for hints that are expected: what they bring more than driving, against
    what all lose meanwhile."""
    latest_s = now_s + MAX_HOLD * chosen.seconds
    late = sorted(
        (candidates[index].hints_at_s, index)
        for index, num_hints in chosen.fed.items()
        if num_hints == 0 and now_s < candidates[index].hints_at_s <= latest_s
    )
    best_s = best_gain = gain = 0.0
    for hints_at_s, index in late:
        agreement, weight = candidates[index].agreement, weights[index]
        gain += weight * _surplus(agreement, chosen.price / weight, max_fed_hints) / (1 + agreement)
        wait_s = hints_at_s - now_s
        if gain - chosen.rate * wait_s > best_gain:
            best_s, best_gain = wait_s, gain - chosen.rate * wait_s
    return best_s


def _surplus(agreement: float, price: float, max_fed_hints: int) -> float:
    """What hints bring beyond the price of their rows."""
    surplus, chance = 0.0, 1.0
    for _ in range(max_fed_hints):
        chance *= agreement
        if chance <= price:
            break
        surplus += chance - price
    return surplus
