"""How many devices one edge holds at a latency goal, with hints and without.

The model beside the simulation: all N devices take part in every pass, back to back, and t(n) = F + c n.
A text without hints is driven, one token for one row; while that pass runs its device, corrected by the
last one, drafts on from where the text then stood, so the text has hints for the next pass if the first
of these guesses the driven token: with chance a. A text with hints is fed k of them and has some left if
all k are confirmed and the next one is the edge's own token: with chance a^(k+1). So the share of texts
with hints is

    H = a / (1 + a - a^(k+1)),

and per pass and text there are y = 1 - H + H (1 - a^(k+1)) / (1 - a) tokens for r = 1 + H k rows. A token
takes (F + c N r) / y, so a goal G is held by

    N = (G y - F) / (c r)

devices, for the best k; without hints y = r = 1. The gain is large where F eats most of G, and vanishes
(k = 0) where rows do. It does not depend on c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .fleet import PassCost

__all__ = ["Holding", "devices_held", "model_devices"]

MAX_WIDTH = 16


def model_devices(goal_s: float, cost: PassCost, agreement: float, *, max_width: int = MAX_WIDTH) -> float:
    """N of the model above; `max_width` 0 is without hints."""
    a, best = agreement, 0.0
    for k in range(max_width + 1):
        share = a / (1 + a - a ** (k + 1)) if k else 0.0
        tokens = 1 - share + share * sum(a**i for i in range(k + 1))
        rows = 1 + share * k
        best = max(best, (goal_s * tokens - cost.fixed_s) / (cost.per_row_s * rows))
    return best


@dataclass(frozen=True, slots=True)
class Holding:
    """The most devices that were seen to hold a goal, and the fewest that were seen to miss it."""

    most_held: int
    fewest_missed: int


def devices_held(
    goal: float, latency: Callable[[int], float], *, guess: float, tolerance: float = 0.01
) -> Holding:
    """Where `latency(devices)`, which rises, passes the goal: both sides are measured, within `tolerance`."""
    known: dict[int, float] = {0: 0.0}

    def holds(devices: int) -> bool:
        known[devices] = latency(devices)
        return known[devices] <= goal

    devices = max(1, round(guess))
    step = max(1, round(0.05 * devices))
    while holds(devices):
        devices += step
        step *= 2
    while True:
        held = max(devices for devices, seen in known.items() if seen <= goal)
        missed = min(devices for devices, seen in known.items() if seen > goal)
        gap = missed - held
        if gap <= max(1, tolerance * held):
            return Holding(held, missed)
        part = 0.5  # every other time, in case the curve is all steps
        if held and len(known) % 2:
            part = (goal - known[held]) / (known[missed] - known[held])
            # A little beyond the crossing, seen from the nearer side, so that it is enclosed.
            part += 0.3 * tolerance * held / gap * (1 if part < 0.5 else -1)
        holds(min(max(held + round(part * gap), held + 1), missed - 1))
