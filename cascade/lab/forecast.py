"""What drafting should bring a real pair, by the fast model of the loop, from what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .fast_model import FixedPolicy, Loop, run_fast

__all__ = ["best_question", "expected_gain"]

WINDOW = 16
MAX_GATHERED = 4
MAX_ASKED = 8


def expected_gain(
    coins: Sequence[bool], curve_s: Mapping[int, float], *, rtt_s: float, draft_step_s: float, pass_s: float
) -> float:
    """Plain streaming's time per token by that of the best fixed policy, for a text on which the draft agrees
    as `coins` say.

    `pass_s` is what a token of plain streaming takes; of the curve only the shape counts. For every number of
    hints that are fed at most, the pass costs what the curve says at that width.
    """
    best_s = pass_s
    for num_fed in range(1, max(curve_s)):
        row_s = pass_s * (_at(curve_s, 1 + num_fed) / curve_s[1] - 1) / num_fed
        loop = Loop(rtt_s=rtt_s, draft_step_s=draft_step_s, pass_s=pass_s, row_s=row_s)
        for num_gathered in range(MAX_GATHERED + 1):  # 0: the edge does not wait
            policy = FixedPolicy(
                window=WINDOW,
                max_fed_hints=num_fed,
                patience_s=rtt_s + (num_gathered + 1) * draft_step_s if num_gathered else 0.0,
                first_batch=max(1, num_gathered),
            )
            best_s = min(best_s, run_fast(policy, loop, coins, len(coins)).time_per_token_s)
    return pass_s / best_s


def best_question(
    agreement: float, curve_s: Mapping[int, float], *, rtt_s: float, draft_step_s: float
) -> int:
    """How many guesses ask-and-wait should send at once."""
    a = min(agreement, 0.98)

    def s_per_token(num: int) -> float:
        tokens = (1 - a ** (num + 1)) / (1 - a)
        return (rtt_s + num * draft_step_s + _at(curve_s, num + 1)) / tokens

    return min(range(1, MAX_ASKED + 1), key=s_per_token)


def _at(curve_s: Mapping[int, float], rows: int) -> float:
    """On straight lines between the widths that were measured."""
    above = min((width for width in curve_s if width >= rows), default=max(curve_s))
    below = max(width for width in curve_s if width <= rows)
    if above == below:
        return curve_s[below]
    share = (rows - below) / (above - below)
    return curve_s[below] + share * (curve_s[above] - curve_s[below])
