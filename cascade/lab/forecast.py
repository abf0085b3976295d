"""What drafting should bring a real pair, by the fast model of the loop, from what was measured of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .fast_model import FixedPolicy, Loop, run_fast
from .watched import Step

__all__ = ["Costs", "Curve", "best_question", "expected_gains", "served_curve"]

WINDOW = 16
MAX_GATHERED = 4
MAX_ASKED = 8
ENOUGH_PASSES = 8
"""Of a width: their median is what such a pass takes."""

Curve = Mapping[int, float]
"""Rows -> seconds."""
Coins = Sequence[bool]
"""Is the draft right, token by token of a text, everything before it being the target's?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What was measured, all of it in the runs that are to be foretold."""

    plain_s: float
    """A token of plain streaming."""
    pass_s: Curve
    """From one pass to the next, by rows, while the device drafts."""
    draft_step_s: float
    """The way to the draft's thread and back included."""
    rtt_s: float
    """As the device measured it: the link, and what both ends take to hand a message over."""

    def of_pass_s(self, rows: int) -> float:
        return _at(self.pass_s, rows)


def expected_gains(texts: Sequence[Coins], costs: Costs) -> list[float]:
    """Plain streaming's time per token by that of the best fixed policy, text by text.

    One policy for all: one for each text would be chosen with a knowledge that nobody has. Every text has its
    own agreement and its end, behind which there is nothing to draft ahead for.
    """
    plain_s = [costs.plain_s] * len(texts)
    choices = [plain_s, *(_times_s(texts, policy, loop) for policy, loop in _choices(costs))]
    return [costs.plain_s / time_s for time_s in min(choices, key=sum)]


def served_curve(passes: Iterable[Step], quiet: Curve) -> dict[int, float]:
    """The curve by the passes that an edge made, which never falls.

    Widths of which it made too few are as far off the `quiet` curve as the others.
    """
    seconds: dict[int, list[float]] = {}
    for step in passes:
        if step.rows <= max(quiet):  # more were a prompt's
            seconds.setdefault(step.rows, []).append(step.seconds)
    seen = {rows: statistics.median(each) for rows, each in seconds.items() if len(each) >= ENOUGH_PASSES}
    off = statistics.fmean(seen[rows] / _at(quiet, rows) for rows in seen) if seen else 1.0
    both = {rows: off * each_s for rows, each_s in quiet.items()} | seen
    widths = sorted(both)
    return dict(zip(widths, _rising([both[rows] for rows in widths]), strict=True))


def best_question(agreement: float, curve: Curve, *, rtt_s: float, draft_step_s: float) -> int:
    """How many guesses ask-and-wait should send at once."""
    a = min(agreement, 0.98)

    def s_per_token(num: int) -> float:
        tokens = (1 - a ** (num + 1)) / (1 - a)
        return (rtt_s + num * draft_step_s + _at(curve, num + 1)) / tokens

    return min(range(1, MAX_ASKED + 1), key=s_per_token)


def _choices(costs: Costs) -> Iterator[tuple[FixedPolicy, Loop]]:
    most = max(costs.pass_s) - 1
    loop = Loop(
        rtt_s=costs.rtt_s,
        draft_step_s=costs.draft_step_s,
        pass_s=costs.of_pass_s(1),
        hints_s=tuple(costs.of_pass_s(1 + hints) - costs.of_pass_s(1) for hints in range(most + 1)),
    )
    for num_fed in range(1, most + 1):
        for num_gathered in range(MAX_GATHERED + 1):  # 0: the edge does not wait
            patience_s = costs.rtt_s + (num_gathered + 1) * costs.draft_step_s if num_gathered else 0.0
            policy = FixedPolicy(
                window=WINDOW,
                max_fed_hints=num_fed,
                patience_s=patience_s,
                first_batch=max(1, num_gathered),
            )
            yield policy, loop


def _times_s(texts: Sequence[Coins], policy: FixedPolicy, loop: Loop) -> list[float]:
    return [run_fast(policy, loop, coins, len(coins)).time_per_token_s for coins in texts]


def _rising(values: Sequence[float]) -> list[float]:
    """A wider pass that looks cheaper is noise, which the best of many policies would live on."""
    return [(max(values[: at + 1]) + min(values[at:])) / 2 for at in range(len(values))]


def _at(curve: Curve, rows: int) -> float:
    """On straight lines between the widths that were measured."""
    above = min((width for width in curve if width >= rows), default=max(curve))
    below = max(width for width in curve if width <= rows)
    if above == below:
        return curve[below]
    share = (rows - below) / (above - below)
    return curve[below] + share * (curve[above] - curve[below])
