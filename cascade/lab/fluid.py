"""An edge and its devices as a flow, without an event: for crowds that no simulation carries.

One pass follows the other, every text takes part in each, and there are so many texts that a pass is as
long as the mean one, T. Then one text's fate is a renewal process, from one correction to the next, and it
can be walked along the only path on which the chain of guesses lives:

    a correction leaves the edge at 0; R / 2 later the device begins a new chain, a guess every d;
    at i T a pass begins: u guesses beyond the head have arrived, f = min(u, k) of them are fed;
    the pass brings 1 + a + .. + a^f tokens for 1 + f rows;
    with chance a^(f + 1) the chain lives on, its head f + 1 tokens further.

Sums along the path, each pass weighted with the chance that the chain lives at its beginning, give tokens y
and rows r of a text in a pass. Two unknowns are left, and each follows from the other:

    T = t(N r)                                    the cost curve at N texts' rows
    a^k = (N y / T) t'(N r)                       a hint is fed while it brings what its row costs the others

What the device does not send (its window, and guesses that are too unlikely) bounds u. Two things were set by
comparison with the real code: `late_s`, by how much a hint must be early to make it to a pass, is the margin
that the device aims for; and hints are fed whole, so k is rounded down. `cascade bench scale` holds the model
against the real code, and `docs/lab-scale.md` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..device.window import MARGIN_S, farness
from ..settings import check_int, check_number

__all__ = ["Crowd", "Flow", "devices_on_broker", "devices_within", "flow", "knee", "most_devices"]

MOST_DEVICES = 10_000_000
GONE = 1e-5
"""A chain that lives with less than this chance is followed no further."""
MAX_PASSES = 1000
PHASES = (1 / 6, 1 / 2, 5 / 6)
"""Of the draft step that runs when a correction comes: the part of it that is still to run."""
NUM_ROUNDS, SETTLED = 60, 1e-4
SAYS_SOMETHING_EVERY_S = 4.0
"""A device without hints acknowledges this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Devices of one kind at one edge, all of them streaming."""

    cost_s: Callable[[float], float]
    """t(n): seconds of a pass of n rows."""
    agreement: float = 0.8
    rtt_s: float = 0.05
    draft_step_s: float = 0.005
    has_hints: bool = True
    """False: plain streaming."""
    max_fed_hints: int = 16
    window: int = 64
    least_chance: float = 0.03
    """A guess less likely than this to be used is not drafted; on far links even less likely ones are."""
    late_s: float = MARGIN_S

    def __post_init__(self) -> None:
        check_number("agreement", self.agreement, low=0, high=1)
        for name in ("rtt_s", "draft_step_s", "late_s"):
            check_number(name, getattr(self, name), low=0)
        check_number("least_chance", self.least_chance, low=0, high=1)
        check_int("max_fed_hints", self.max_fed_hints, low=0)
        check_int("window", self.window, low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What so many devices get of their edge, and what they cost it."""

    devices: float
    s_per_token: float
    pass_s: float
    rows_per_pass: float
    num_fed: float
    """Hints of one text that a pass takes, at most."""
    messages_up_per_s: float
    messages_down_per_s: float

    @property
    def tokens_per_s(self) -> float:
        """All devices together."""
        return self.devices / self.s_per_token

    @property
    def passes_per_s(self) -> float:
        return 1 / self.pass_s

    @property
    def messages_per_s(self) -> float:
        """Both ways; a broker takes each in and hands it on."""
        return self.messages_up_per_s + self.messages_down_per_s


def flow(crowd: Crowd, devices: float) -> Flow:
    """The steady state of so many devices."""
    is_plain = not crowd.has_hints or not crowd.agreement or not crowd.max_fed_hints
    num_fed = 0.0 if is_plain else float(crowd.max_fed_hints)
    pass_s = crowd.cost_s(devices)
    share = _PLAIN
    for _ in range(NUM_ROUNDS):
        share = _share(crowd, pass_s, num_fed)
        rows = devices * share.rows
        next_s = crowd.cost_s(rows)
        next_fed = num_fed
        if not is_plain:
            price = devices * share.tokens / next_s * (crowd.cost_s(rows + 1) - next_s)
            # The last hint that pays is fed whole; texts differ a little in what their edge takes them for.
            worth = max(0.0, _guesses_above(price, crowd.agreement) - 0.5)
            next_fed = min(worth, float(crowd.max_fed_hints))
        is_settled = abs(next_s - pass_s) <= SETTLED * next_s and abs(next_fed - num_fed) <= SETTLED
        pass_s += (next_s - pass_s) / 2  # half way, for each answers the other
        num_fed += (next_fed - num_fed) / 2
        if is_settled:
            break
    ups = share.messages / pass_s if share.messages else 1 / SAYS_SOMETHING_EVERY_S
    return Flow(
        devices=devices,
        s_per_token=pass_s / share.tokens,
        pass_s=pass_s,
        rows_per_pass=devices * share.rows,
        num_fed=num_fed,
        messages_up_per_s=devices * ups,
        messages_down_per_s=devices / pass_s,
    )


def devices_within(crowd: Crowd, goal_s: float) -> int:
    """The most devices whose mean time per token is within the goal."""
    return most_devices(lambda devices: flow(crowd, devices).s_per_token <= goal_s)


def knee(crowd: Crowd) -> int:
    """The most devices of which one more takes no more than half of what it gets from the others.

    From there on the edge is saturated: rows cost as much as the pass that carries them, and tokens a second
    hardly grow.
    """

    def gains(devices: int) -> bool:
        some, more = flow(crowd, devices), flow(crowd, 1.1 * devices)
        return math.log(more.tokens_per_s / some.tokens_per_s) > math.log(1.1) / 2

    return most_devices(gains)


def devices_on_broker(crowd: Crowd, messages_per_s: float, edges: int) -> int:
    """The most devices whose messages a broker takes that so many edges share."""
    return most_devices(lambda devices: edges * flow(crowd, devices / edges).messages_per_s <= messages_per_s)


def most_devices(holds: Callable[[int], bool]) -> int:
    """The largest number that holds, within a hundredth and up to `MOST_DEVICES`; 0 if not even one does."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while high < MOST_DEVICES and holds(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class _Share:
    """Of one text in one pass, on average."""

    tokens: float
    rows: float
    messages: float
    """Of hints."""


_PLAIN = _Share(1.0, 1.0, 0.0)


def _share(crowd: Crowd, pass_s: float, num_fed: float) -> _Share:
    """Between the two whole numbers of hints, and with draft steps at all their phases."""
    if num_fed <= 0 or crowd.draft_step_s >= pass_s:  # guesses never catch up with the edge
        return _PLAIN
    fewer = math.floor(num_fed)
    passes = tokens = rows = messages = 0.0
    for most, weight in ((fewer, fewer + 1 - num_fed), (fewer + 1, num_fed - fewer)):
        for phase in PHASES if weight else ():
            life = _life(crowd, pass_s, most, phase)
            passes += weight * life[0]
            tokens += weight * life[1]
            rows += weight * life[2]
            messages += weight * life[3]
    return _Share(tokens / passes, rows / passes, messages / passes)


def _life(crowd: Crowd, pass_s: float, most: int, phase: float) -> tuple[float, float, float, float]:
    """From one correction to the next: passes, tokens, rows and messages of hints that are expected."""
    a, way_s, step_s = crowd.agreement, crowd.rtt_s / 2, crowd.draft_step_s
    far = farness(crowd.rtt_s, pass_s)
    window = min(crowd.window, 1 + math.floor(_guesses_above(crowd.least_chance * far, a)))
    heads, living = [0], [1.0]
    """After each pass: where the text's head is, and the chance that the chain lives."""
    told = 0  # the first of these that lets the device draft on
    heard = 0  # the last of these that the device knew when it sent what is here now
    drafted, free_s = 0, way_s + phase * step_s
    passes = tokens = rows = messages = 0.0
    while living[-1] > GONE and len(heads) <= MAX_PASSES:
        begins_s = (len(heads) - 1) * pass_s
        had = drafted
        while True:
            while told < len(heads) and heads[told] <= drafted - window:
                told += 1
            if told == len(heads):
                break
            ready_s = max(free_s, told * pass_s + way_s) + step_s
            if ready_s + way_s + crowd.late_s > begins_s:
                break
            free_s, drafted = ready_s, drafted + 1
        alive = living[-1]
        fed = min(max(0, drafted - heads[-1]), most)
        passes += alive
        tokens += alive * (fed + 1 if a == 1 else (1 - a ** (fed + 1)) / (1 - a))
        rows += alive * (1 + fed)
        if drafted > had:  # one message a pass; of a dead chain too, until its device knows
            while (heard + 1) * pass_s + crowd.rtt_s <= begins_s and heard + 1 < len(living):
                heard += 1
            messages += living[heard]
        heads.append(heads[-1] + fed + 1)
        living.append(alive * a ** (fed + 1))
    return passes, tokens, rows, messages


def _guesses_above(chance: float, agreement: float) -> float:
    """So many in a row agree with this chance; a real number, at least 0."""
    if chance <= 0 or agreement >= 1:
        return float(1 << 30)
    return max(0.0, math.log(chance) / math.log(agreement))
