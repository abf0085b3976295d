"""How much any rule could show at once, that knows no more than each token's chance: upper bounds.

A *walk* is a run of tokens that are kept and shown as they are drafted; it ends with a question. A question
takes a round trip and a pass before the next walk can begin, and that time, like the disagreements of a walk,
has to be spread over tokens that are settled meanwhile. So with W tokens in a walk, D disagreements among
them, a question that stalls for T, and n tokens from one walk to the next,

    at once = W / n,    D <= (1 - quality) n,    T <= (limit - draft step) n

A share s can be reached only if some way to walk has (1 - quality) W >= s D and (limit - draft step) W >= s T
in the mean. For any weights of these two there is a best way, found by going backwards over the places of a
walk; if that falls short for some weights, s is out of reach.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .kept import AGREEMENT

__all__ = ["Questions", "most_at_once", "most_kept"]

NUM_DRAWS = 1 << 18
NUM_WEIGHTS = 25
PRECISION = 1e-3
MAX_ROUNDS = 400
ENDLESS = 1e4
"""A walk of this value never ends: whatever is wanted of it, it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What asking takes."""

    rtt_s: float = 0.1
    pass_s: float = 0.05
    draft_step_s: float = 0.005
    is_under_way: bool = False
    """The edge drives behind every walk's beginning, without a pause and without ever being in the way of
    another pass; so its own token for a place early in a walk is there before an answer could be."""

    def stall_s(self, num_walked: int) -> float:
        """After so many tokens."""
        asked_s = self.rtt_s + self.pass_s
        if not self.is_under_way:
            return asked_s
        return min(asked_s, (num_walked + 1) * (self.pass_s - self.draft_step_s))


def _draw() -> NDArray[np.float64]:
    """Doubts, the surest first."""
    mean, concentration = AGREEMENT.mean, AGREEMENT.concentration
    dice = np.random.default_rng(1)
    return np.sort(dice.beta((1 - mean) * concentration, mean * concentration, NUM_DRAWS))


DOUBTS = _draw()
SPENT = np.concatenate([[0.0], np.cumsum(DOUBTS)])
"""By the first so many of them."""


def most_kept(quality: float) -> float:
    """Of all tokens, decided at the device: the surest ones, as many as the quality allows."""
    return float(np.searchsorted(SPENT, (1 - quality) * NUM_DRAWS)) / NUM_DRAWS


def most_at_once(quality: float, limit_s: float, questions: Questions) -> float:
    """Of all tokens, where each takes `limit_s` in the mean."""
    low, high = 0.0, 1.0
    while high - low > PRECISION:
        share = (low + high) / 2
        weights = np.linspace(0, 1, NUM_WEIGHTS + 2)[1:-1]
        if all(_best_walk(share, float(weight), quality, limit_s, questions) >= 0 for weight in weights):
            low = share
        else:
            high = share
    return high


def _best_walk(share: float, weight: float, quality: float, limit_s: float, questions: Questions) -> float:
    """What is left of the best walk: `weight` on disagreements, the rest on time, in tokens of a walk."""
    spare_s = limit_s - questions.draft_step_s
    disagreement = weight * share / (1 - quality)

    def before(value: float, num_walked: int) -> float:
        """Of standing before the next token, given what it is worth to stand behind it."""
        asked = -(1 - weight) * share * questions.stall_s(num_walked) / spare_s
        kept = 1 + value
        num_kept = int(np.searchsorted(DOUBTS, (kept - asked) / disagreement, side="right"))
        spent = float(SPENT[num_kept])
        return (kept * num_kept - disagreement * spent + asked * (NUM_DRAWS - num_kept)) / NUM_DRAWS

    num_special = math.ceil(
        (questions.rtt_s + questions.pass_s) / (questions.pass_s - questions.draft_step_s)
    )
    value = 0.0
    for _ in range(MAX_ROUNDS):
        value, last = before(value, num_special), value
        if abs(value - last) < 1e-9 or value > ENDLESS:
            break
    for num_walked in reversed(range(num_special)):
        value = before(value, num_walked)
    return value
