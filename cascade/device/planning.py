"""How to decode under given circumstances: pure maths, a plan out of a handful of estimates.

After a correction the edge has no usable hints. Those that follow it arrive a *lag* later: a round trip and
some draft steps. The edge may *drive* meanwhile, token by token, and its tokens agree with the draft's next
guesses or kill them; or it may *wait*. Once hints have arrived, passes *flow*, each with as many as are
drafted in a pass, until the next disagreement. That is a renewal process: the tokens, seconds and passes of
one cycle say what a plan costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..prices import Prices, Usage

__all__ = ["Circumstances", "Plan", "make_plan"]

MAX_GATHERED = 8
MAX_USED_HINTS = 16
"""Hints of one pass that are worth counting on."""
MAX_DRIVEN = 64
"""More passes in a row than this the draft will not agree with."""
MARGIN_S = 0.001
PREFERENCE = 0.98
LASTING_PREFERENCE = 0.97
"""Of two plans that take about the same time on a near link the one that waits is the better one: it takes
fewer passes. Every change costs a little, so an edge that waits goes on so for a little longer."""
RISK = 0.1
"""A wait in vain costs a round trip; so often are more of them in vain than the estimates of a plan say."""
MAX_PATIENCE_S = 4.0
MIN_GAIN = 1.005
MIN_GAIN_WAITING = 1.03
"""Below this drafting does not pay. A wait in vain costs more than a pass in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What was measured."""

    rtt_s: float
    jitter_s: float
    """Mean deviation of the round trip."""
    pass_s: float
    draft_step_s: float
    agreement: float
    """The chance that the target confirms a guess."""
    hint_s: float = 0.0
    """What each hint adds to a pass."""
    load: float = 0.0
    """The share of a draft step in which the processor works for somebody else."""

    @property
    def processor_wait_s(self) -> float:
        """Who wants to compute on the device stands in line for so long."""
        return self.load * self.draft_step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do until circumstances change."""

    patience_s: float
    """How long the edge is to wait for hints before it drives alone."""
    num_gathered: int
    """Guesses that go up together when the edge stands waiting for the first."""
    s_per_token: float
    """Expected."""
    passes_per_token: float
    """Expected."""
    rows_per_token: float = 1.0
    """Expected: passes, and the hints that they are fed."""
    does_pay: bool = True
    """False: plain streaming is as good, and costs the device nothing."""


def make_plan(circumstances: Circumstances, prices: Prices, *, does_wait: bool = False) -> Plan:
    """The plan that costs least, time, passes and their rows priced; `does_wait`: the edge does now."""
    price_s = prices.in_waiting_s(Usage(edge_s=circumstances.pass_s, num_passes=1))
    row_price_s = prices.in_waiting_s(Usage(num_rows=1))
    preference = LASTING_PREFERENCE if does_wait else PREFERENCE
    preference += RISK * min(1.0, circumstances.rtt_s / circumstances.pass_s)

    def cost_s(plan: Plan) -> float:
        return plan.s_per_token + price_s * plan.passes_per_token + row_price_s * plan.rows_per_token

    driving = _driving(circumstances)
    counts = range(1, MAX_GATHERED + 1)
    waiting = min((_waiting(circumstances, num_gathered) for num_gathered in counts), key=cost_s)
    is_patient = cost_s(waiting) * preference < cost_s(driving) and waiting.patience_s <= MAX_PATIENCE_S
    best, gain = (waiting, MIN_GAIN_WAITING) if is_patient else (driving, MIN_GAIN)
    if cost_s(best) * gain > circumstances.pass_s + price_s + row_price_s:
        pass_s = circumstances.pass_s
        return Plan(patience_s=0.0, num_gathered=1, s_per_token=pass_s, passes_per_token=1.0, does_pay=False)
    return best


def _driving(this: Circumstances) -> Plan:
    """No patience: the edge goes on alone until hints have caught up with it."""
    a, pass_s, step_s = _agreement(this), this.pass_s, this.draft_step_s
    if step_s >= pass_s:  # they never will
        return Plan(patience_s=0.0, num_gathered=1, s_per_token=pass_s, passes_per_token=1.0)
    # While the drafter catches up with the lag, the edge goes on: hence the difference in the divisor. Hints
    # wait for the next pass to begin: half a pass, for lags as they come.
    lag_s = this.rtt_s + this.jitter_s + step_s + MARGIN_S
    num_driven = max(1.0, lag_s / (pass_s - step_s) + 0.5)
    if num_driven > MAX_DRIVEN:
        return Plan(patience_s=0.0, num_gathered=1, s_per_token=pass_s, passes_per_token=1.0)
    # So many single steps it takes until `num_driven` in a row agree.
    num_steps = (a**-num_driven - 1) / (1 - a)
    tokens, passes, seconds, rows = _flow(this)
    passes += num_steps
    rows += num_steps
    tokens += num_steps
    seconds += num_steps * pass_s
    return Plan(
        patience_s=0.0,
        num_gathered=1,
        s_per_token=seconds / tokens,
        passes_per_token=passes / tokens,
        rows_per_token=rows / tokens,
    )


def _waiting(this: Circumstances, num_gathered: int) -> Plan:
    """The edge waits until the hints behind its correction have come."""
    a, step_s = _agreement(this), this.draft_step_s
    goes_on = a ** (num_gathered + 1)
    tokens, passes, flow_s, rows = _flow(this, num_gathered=num_gathered)
    tokens = (1 - goes_on) / (1 - a) + goes_on * tokens
    passes = 1 + goes_on * passes
    rows = 1 + num_gathered + goes_on * rows
    first_s = this.pass_s + num_gathered * this.hint_s
    # What is read and sent on a busy device stands in line for its processor, too, while the edge waits. An
    # edge that drives does not mind.
    answer_s = this.rtt_s + this.processor_wait_s
    # A step that runs when the correction comes runs to its end; the drafter sees to it that few do.
    seconds = answer_s + (num_gathered + 0.25) * step_s + first_s + goes_on * flow_s
    worst_s = answer_s + (num_gathered + 1) * step_s + 4 * this.jitter_s + MARGIN_S
    return Plan(
        patience_s=worst_s,
        num_gathered=num_gathered,
        s_per_token=seconds / tokens,
        passes_per_token=passes / tokens,
        rows_per_token=rows / tokens,
    )


def _flow(this: Circumstances, *, num_gathered: int = 0) -> tuple[float, float, float, float]:
    """Tokens, passes, seconds and rows from the first pass with hints to the next disagreement."""
    a = _agreement(this)
    # One of the guesses drafted in a pass is for the edge's own token, and needed to go on behind it.
    most = min(MAX_USED_HINTS, max(0.0, (this.pass_s - MARGIN_S) / this.draft_step_s - 1))
    if num_gathered > 0 and most < 1:  # the edge waits for hints before every pass
        draft_s = (num_gathered + 1) * this.draft_step_s + this.processor_wait_s
        pass_s = max(this.pass_s + num_gathered * this.hint_s, draft_s)
        passes = 1 / (1 - a ** (num_gathered + 1))
        return 1 / (1 - a), passes, passes * pass_s, passes * (1 + num_gathered)

    def passes_with(num_hints: float) -> float:
        # A guess that comes too late for the first pass is in time for the next.
        return float(1 + a ** (math.floor(num_hints) + 1) / (1 - a ** (num_hints + 1)))

    def seconds_with(num_hints: float) -> float:
        return passes_with(num_hints) * (this.pass_s + num_hints * this.hint_s)

    # The edge feeds no more of them than pay for their rows.
    fewer = range(1, math.ceil(most)) if this.hint_s else ()
    num_hints = min([most, *fewer], key=seconds_with)
    passes = passes_with(num_hints)
    return 1 / (1 - a), passes, seconds_with(num_hints), passes * (1 + num_hints)


def _agreement(this: Circumstances) -> float:
    return min(max(this.agreement, 0.02), 0.98)
