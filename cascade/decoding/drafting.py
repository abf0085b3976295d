"""When the device drafts one more token.

A draft token is worth a share of what a committed token is worth: the chance that it and everything before it
in the window is agreed to. It costs the time of its draft step, priced by load and energy, in which `rate`
tokens would be committed anyway. So: go on while prod a_i >= rate * cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["chance_of_all", "one_more"]


def chance_of_all(chances: Iterable[float]) -> float:
    """The chance that all are agreed to, from each one's chance after those before it; 1 for none."""
    return math.prod(chances)


def one_more(chance_of_all_so_far: float, *, rate_tokens_per_s: float, cost_s: float) -> bool:
    """Whether drafting one more token pays.

    `rate_tokens_per_s` is how fast tokens are committed now, `cost_s` the seconds of the next draft step
    times the price of load and energy. False at an empty window (a chance of 1) means that drafting gains
    nothing at all: stop, stream plainly, and probe again later.
    """
    return chance_of_all_so_far >= rate_tokens_per_s * cost_s
