"""Which way of decoding suits a place, what it takes there, and from where on another one would.

Pure predictions from a handful of figures of device, link and edge. Lossless streams follow the scheduler's
own plan in the fast model of the loop, cascade mode has a fast model of its own; plain streaming and the
draft alone are sums. `cascade bench advise` holds the predictions against the real code.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..device.escalation import FAR, NEAR, corrected
from ..device.planning import Circumstances, Plan, make_plan
from ..device.router import Route
from ..device.window import SendClock
from ..prices import Prices, Usage
from ..settings import check_int, check_number
from .fast_model import FastOutcome, FixedPolicy, Loop, agreeing, run_fast
from .keep_model import KeepLoop, KeepOutcome, run_keep
from .keep_rules import LedgerRule

__all__ = ["AXES", "Axis", "Crossing", "Expectation", "Situation", "best", "crossings", "expect"]

MAX_WINDOW = 256
MAX_FED_HINTS = 16
NUM_MODEL_TOKENS = 2000
NUM_MODEL_SEEDS = 2
NUM_KEPT_TOKENS = 1500
COMMIT_BYTES, HINT_BYTES, TOKEN_BYTES = 8.5, 10.0, 2.0
"""Of a message either way without its tokens, and of a token."""
MESSAGE_BYTES = 66.0
"""What a message costs beneath ours: TCP/IP, TLS and WebSocket headers."""
NUM_SCANNED = 12
CLEARLY = 0.97
"""Of two modes that cost about the same neither is the better one: the models are no more exact."""
NUM_BISECTIONS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A device, a link and an edge, and what is asked of them."""

    rtt_s: float
    """Round trip of the link, without jitter."""
    pass_s: float
    """A pass of the edge with one row."""
    row_s: float = 0.0
    """What each further row adds to a pass."""
    jitter_s: float = 0.0
    """Mean of an exponential delay on top of either way."""
    draft_step_s: float | None = None
    """None: the device has no draft."""
    draft_row_s: float = 0.0
    """What each further token of a prompt adds to the draft's first step."""
    agreement: float = 0.8
    """The share of tokens on which the draft agrees with the target."""
    concentration: float = 1.0
    """Of the chances of agreement (a Beta distribution): small where the draft knows when it is right."""
    quality: float = 0.9
    """The least share of tokens that are to be the target's own pick."""
    device_load: float = 0.0
    """The share of the device's processor that others take."""
    edge_load: float = 0.0
    """The share of the edge's time that others take."""
    num_prompt_tokens: int = 100
    num_tokens: int = 100
    """Of an answer."""

    def __post_init__(self) -> None:
        for field in ("rtt_s", "row_s", "jitter_s", "draft_row_s"):
            check_number(field, getattr(self, field), low=0)
        check_number("pass_s", self.pass_s, low=1e-6)
        if self.draft_step_s is not None:
            check_number("draft_step_s", self.draft_step_s, low=1e-6)
        check_number("agreement", self.agreement, low=0.02, high=0.98)
        check_number("concentration", self.concentration, low=0.05)
        check_number("quality", self.quality, low=0.5, high=1)
        for field in ("device_load", "edge_load"):
            check_number(field, getattr(self, field), low=0, high=0.99)
        check_int("num_prompt_tokens", self.num_prompt_tokens, low=1)
        check_int("num_tokens", self.num_tokens, low=1)

    @property
    def loop(self) -> Loop:
        """With what the loads leave of device and edge."""
        edge = 1 / (1 - self.edge_load)
        return Loop(
            rtt_s=self.rtt_s,
            jitter_s=self.jitter_s,
            draft_step_s=(self.draft_step_s or 0.0) / (1 - self.device_load),
            pass_s=self.pass_s * edge,
            row_s=self.row_s * edge,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one mode is expected to take."""

    mode: Route
    first_token_s: float
    s_per_token: float
    agreement: float
    """The share of tokens that are the target's own pick."""
    per_token: Usage
    """Over a whole answer, its beginning included."""
    energy_j_per_1000: float
    """On the device."""
    expenses_per_1000: float
    """Of a thousand tokens, but for waiting and disagreements, in the unit of the prices."""
    cost_per_1000: float
    """All told: the mode for which this is least has the preference."""
    keeps_quality: bool


def expect(situation: Situation, prices: Prices) -> list[Expectation]:
    """All modes that there are, the cheapest first; those that would break the quality at the end."""
    found = [_cloud(situation, prices)]
    if situation.draft_step_s is not None:
        found += [_lossless(situation, prices), _device(situation, prices)]
        if situation.quality < 1:
            found.append(_cascade(situation, prices))
    return sorted(found, key=lambda each: (not each.keeps_quality, each.cost_per_1000))


def best(situation: Situation, prices: Prices) -> Route:
    return expect(situation, prices)[0].mode


# The four modes


def _cloud(this: Situation, prices: Prices) -> Expectation:
    loop = this.loop
    each = Usage(
        edge_s=loop.pass_s, num_passes=1, num_rows=1, bytes_down=MESSAGE_BYTES + COMMIT_BYTES + TOKEN_BYTES
    )
    return _expectation(Route.CLOUD, this, prices, first_s=_edge_first_s(this), s=loop.pass_s, each=each)


def _lossless(this: Situation, prices: Prices) -> Expectation:
    loop = this.loop
    plan = make_plan(circumstances(this), prices)
    if not plan.does_pay:
        cloud = _cloud(this, prices)
        return dataclasses.replace(cloud, mode=Route.LOSSLESS)
    window = _window(this, plan, prices)
    if (
        not plan.patience_s
    ):  # in the model hints go one by one; the device gathers them, and sends in good time
        margin_s = SendClock.after_commit(0, rtt_s=0, jitter_s=loop.jitter_s, first_s=0, step_s=0).margin_s
        loop = dataclasses.replace(loop, rtt_s=loop.rtt_s + margin_s)
    runs = _runs(loop, this.agreement, plan.patience_s, plan.num_gathered, window)
    passes, drafted = (
        _mean(run.passes_per_token for run in runs),
        _mean(run.drafted_per_token for run in runs),
    )
    rows = _mean(run.rows_per_token for run in runs)
    each = _usage(loop, passes=passes, rows=rows, drafted=drafted)
    s = _mean(run.time_per_token_s for run in runs)
    return _expectation(Route.LOSSLESS, this, prices, first_s=_edge_first_s(this), s=s, each=each)


def _cascade(this: Situation, prices: Prices) -> Expectation:
    loop = this.loop
    worth = prices.in_waiting_s(corrected(loop.rtt_s + 2 * loop.jitter_s, loop.pass_s)) / prices.disputed_s
    run = _keep_run(
        loop.rtt_s + 2 * loop.jitter_s,
        loop.draft_step_s,
        loop.pass_s,
        this.agreement,
        this.concentration,
        this.quality,
        round(min(max(worth, NEAR), FAR), 2),
    )
    drafted = max(1.0, loop.pass_s * run.passes_per_token / loop.draft_step_s)
    drafted = min(drafted, run.time_per_token_s / loop.draft_step_s)
    each = dataclasses.replace(
        _usage(loop, passes=run.passes_per_token, rows=1 + run.passes_per_token, drafted=drafted),
        num_disputed=1 - run.quality,
    )
    first_s = run.at_once_share * _draft_first_s(this) + (1 - run.at_once_share) * _edge_first_s(this)
    s = run.time_per_token_s
    return _expectation(Route.CASCADE, this, prices, first_s=first_s, s=s, each=each, is_held_to_quality=True)


def _device(this: Situation, prices: Prices) -> Expectation:
    s = this.loop.draft_step_s
    each = Usage(draft_s=s, num_drafted=1, num_disputed=1 - this.agreement)
    return _expectation(Route.DEVICE, this, prices, first_s=_draft_first_s(this), s=s, each=each)


def _expectation(
    mode: Route,
    this: Situation,
    prices: Prices,
    *,
    first_s: float,
    s: float,
    each: Usage,
    is_held_to_quality: bool = False,
) -> Expectation:
    """`each`: what a token takes, but for the waiting."""
    waiting_s = (first_s + (this.num_tokens - 1) * s) / this.num_tokens
    per_token = each.plus(Usage(waiting_s=waiting_s))
    expenses = dataclasses.replace(each, num_disputed=0.0)
    agreement = 1 - each.num_disputed
    return Expectation(
        mode=mode,
        first_token_s=first_s,
        s_per_token=s,
        agreement=agreement,
        per_token=per_token,
        energy_j_per_1000=1000 * prices.energy_j(each),
        expenses_per_1000=1000 * prices.cost(expenses),
        cost_per_1000=1000 * prices.cost(per_token),
        keeps_quality=is_held_to_quality or agreement >= this.quality,
    )


def circumstances(this: Situation) -> Circumstances:
    """As the scheduler would measure them."""
    loop = this.loop
    return Circumstances(
        rtt_s=loop.rtt_s + 2 * loop.jitter_s,
        jitter_s=loop.jitter_s,
        pass_s=loop.pass_s,
        draft_step_s=loop.draft_step_s,
        agreement=this.agreement,
        hint_s=loop.row_s,
    )


def _window(this: Situation, plan: Plan, prices: Prices) -> int:
    """How far the scheduler drafts: while the chance of use is worth the next step."""
    step_s, least = this.loop.draft_step_s, plan.num_gathered
    worth = prices.in_waiting_s(Usage(draft_s=step_s, num_drafted=1)) / plan.s_per_token
    if worth <= 0:
        return MAX_WINDOW
    return min(max(least, math.floor(math.log(min(worth, 1.0)) / math.log(this.agreement))), MAX_WINDOW)


def _usage(loop: Loop, *, passes: float, rows: float, drafted: float) -> Usage:
    """Of a token. A pass is answered by a commit, and fed by a message of hints."""
    fed = max(0.0, rows - passes)
    return Usage(
        edge_s=passes * loop.pass_s + fed * loop.row_s,
        num_passes=passes,
        num_rows=rows,
        bytes_up=passes * (MESSAGE_BYTES + HINT_BYTES) + (rows if drafted else 0.0) * TOKEN_BYTES,
        bytes_down=passes * (MESSAGE_BYTES + COMMIT_BYTES) + TOKEN_BYTES,
        draft_s=drafted * loop.draft_step_s,
        num_drafted=drafted,
    )


def _edge_first_s(this: Situation) -> float:
    """OPEN goes up with the prompt, a pass reads it, the first token comes down."""
    loop = this.loop
    return loop.rtt_s + 2 * loop.jitter_s + loop.pass_s + loop.row_s * (this.num_prompt_tokens - 1)


def _draft_first_s(this: Situation) -> float:
    share = 1 - this.device_load
    return this.loop.draft_step_s + this.draft_row_s * (this.num_prompt_tokens - 1) / share


@lru_cache(maxsize=1024)
def _runs(
    loop: Loop, agreement: float, patience_s: float, num_gathered: int, window: int
) -> tuple[FastOutcome, ...]:
    policy = FixedPolicy(
        window=window, max_fed_hints=MAX_FED_HINTS, patience_s=patience_s, first_batch=num_gathered
    )
    return tuple(
        run_fast(policy, loop, agreeing(agreement, NUM_MODEL_TOKENS, seed), NUM_MODEL_TOKENS, seed)
        for seed in range(1, NUM_MODEL_SEEDS + 1)
    )


@lru_cache(maxsize=1024)
def _keep_run(
    rtt_s: float,
    draft_step_s: float,
    pass_s: float,
    mean: float,
    concentration: float,
    quality: float,
    worth: float,
) -> KeepOutcome:
    """`worth`: a correction's price by a disagreement's."""
    rule = LedgerRule(quality, stall_s=worth * Prices().disputed_s)
    loop = KeepLoop(
        rtt_s=rtt_s, draft_step_s=draft_step_s, pass_s=pass_s, mean=mean, concentration=concentration
    )
    return run_keep(rule, loop, NUM_KEPT_TOKENS)


def _mean(values: Iterator[float]) -> float:
    return statistics.fmean(values)


# Where another mode would win


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that may be otherwise, everything else being equal."""

    name: str
    unit: str
    at: Callable[[Situation, Prices, float], tuple[Situation, Prices]]
    """With this value in place of what is."""
    now: Callable[[Situation, Prices], float]
    low: float
    """Scanned from 0, and from here, in equal ratios."""
    high: float
    scale: float = 1.0
    """From the value to what is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """From `value` on the mode `after` is the best one, below it `before` is."""

    axis: Axis
    value: float
    before: Route
    after: Route


def _situation_axis(name: str, field: str, unit: str, low: float, high: float, scale: float = 1.0) -> Axis:
    return Axis(
        name=name,
        unit=unit,
        at=lambda here, prices, value: (dataclasses.replace(here, **_field(field, value)), prices),
        now=lambda here, prices: float(getattr(here, field)),
        low=low,
        high=high,
        scale=scale,
    )


def _field(name: str, value: float) -> dict[str, Any]:
    return {name: value}


def _price_axis(name: str, unit: str, low: float, high: float, *fields: str) -> Axis:
    """Prices are scanned relative to that of a second of waiting."""
    return Axis(
        name=name,
        unit=unit,
        at=lambda here, prices, value: (here, dataclasses.replace(prices, **dict.fromkeys(fields, value))),
        now=lambda here, prices: float(getattr(prices, fields[0])),
        low=low,
        high=high,
    )


AXES = (
    _situation_axis("round trip", "rtt_s", "ms", 0.002, 2.0, 1000.0),
    _situation_axis("device load", "device_load", "%", 0.05, 0.97, 100.0),
    _situation_axis("edge load", "edge_load", "%", 0.05, 0.97, 100.0),
    _price_axis("price of a pass", "", 0.001, 10.0, "edge_pass"),
    _price_axis("price of a megabyte", "", 1.0, 1e5, "megabyte_up", "megabyte_down"),
    _price_axis("price of a joule", "", 1e-3, 1e2, "joule"),
)


def crossings(situation: Situation, prices: Prices, axis: Axis) -> list[Crossing]:
    """Where along an axis the best mode changes, from its low end to its high one."""

    def mode_at(value: float, incumbent: Route | None = None) -> Route:
        found = expect(*axis.at(situation, prices, value))
        enough = found[0].cost_per_1000 / CLEARLY
        stays = any(
            each.mode is incumbent and each.keeps_quality and each.cost_per_1000 <= enough for each in found
        )
        return incumbent if stays and incumbent is not None else found[0].mode

    unit = prices.waiting_s if axis.unit == "" else 1.0
    ratio = (axis.high / axis.low) ** (1 / (NUM_SCANNED - 1))
    values = [0.0, *(unit * axis.low * ratio**step for step in range(NUM_SCANNED))]
    modes = [mode_at(values[0])]
    for value in values[1:]:
        modes.append(mode_at(value, modes[-1]))
    found = []
    for low, high, before, after in zip(values, values[1:], modes, modes[1:], strict=False):
        if before is not after:
            found.append(_narrow(mode_at, axis, low, high, before))
    return found


def _narrow(
    mode_at: Callable[[float, Route], Route], axis: Axis, low: float, high: float, before: Route
) -> Crossing:
    """Between two values with different modes."""
    after = mode_at(high, before)
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        mode = mode_at(middle, before)
        if mode is before:
            low = middle
        else:
            high, after = middle, mode
    return Crossing(axis=axis, value=high, before=before, after=after)
