"""Which tokens a device keeps without asking: pure decisions.

A token that is kept although the target would have said another saves a correction, a round trip and a
pass; it costs one disagreement of those that the quality allows. However these are spent they save the same
time, but most tokens are delivered without asking if they go to the surest ones. So there is a threshold: a
token is kept if its chance of disagreement, its *doubt*, is not above it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..prices import Prices, Usage

__all__ = ["Escalation", "allowance", "appetite", "corrected", "longest_run", "threshold"]

NEAR = 2 / 3
FAR = 4 / 3
"""A correction that costs less than this part of a disagreement's price is not worth one; one that costs the
second part is."""
DISPUTED_S = Prices().disputed_s
HORIZON = 4000
"""Tokens over which what was saved is spent."""
RESERVE = 6.0
"""Disagreements that are kept back for what cannot be foreseen."""
CORRECTION_BYTES = 20
"""Of a message either way, as they are at a = .8 and R = 100 ms."""
SHORTEST_RUN, LONGEST_RUN = 4, 64
MIN_SURVIVAL = 0.1
"""What stands behind guesses that are likely to be corrected is not worth its place in the ledger."""
REMEMBERED = 512
"""Tokens whose doubts say what is to come."""
RELEARNT_EVERY = 16
PRIOR_DOUBTS = tuple((index / 16) ** 4 for index in range(16))
"""Before anything is known: most tokens are sure."""
ROUNDING = 1e-12
CHANCE_SIGMAS = 2.5
"""Worse verdicts than expected by no more than so many standard deviations are chance."""
FORGETTING = 0.98
"""Of surprises, with every verdict on a kept token."""


def corrected(rtt_s: float, pass_s: float) -> Usage:
    """What a correction takes: the way there and back, a pass, and two messages."""
    return Usage(
        waiting_s=rtt_s + pass_s,
        edge_s=pass_s,
        num_passes=1,
        num_rows=1,
        bytes_up=CORRECTION_BYTES,
        bytes_down=CORRECTION_BYTES,
    )


def appetite(stall_s: float, *, disputed_s: float = DISPUTED_S) -> float:
    """The part of the budget that is worth spending where a correction costs `stall_s`, all told in seconds
    of waiting, and a disagreement `disputed_s`.

    On a fast, idle link nearly everything is verified, for it costs nothing, and the ledger saves up. Where
    every pass has its price all of it is spent.
    """
    return min(max((stall_s / disputed_s - NEAR) / (FAR - NEAR), 0.0), 1.0)


def allowance(quality: float, balance: float, appetite: float) -> float:
    """Disagreements per token that may be risked, given what the ledger has left."""
    return max(0.0, appetite * (1 - quality + (balance - RESERVE) / HORIZON))


def threshold(doubts: Sequence[float], allowance: float) -> float:
    """The largest doubt at which all tokens that are no more doubtful cost `allowance` per token of these."""
    if allowance <= 0:
        return 0.0
    budget, doubt = allowance * len(doubts), 0.0
    for each in sorted(doubts):
        budget -= each
        if budget < -ROUNDING:
            return doubt
        doubt = each
    return 1.0


def longest_run(appetite: float) -> int:
    """How many tokens may be delivered before a verdict on them has come."""
    return SHORTEST_RUN + round(appetite * (LONGEST_RUN - SHORTEST_RUN))


@dataclass(slots=True)
class _Surprise:
    """Verdicts on kept tokens against what was expected of them, the latest ones."""

    excess: float = 0.0
    variance: float = 0.0

    def add(self, doubt: float, *, is_own: bool) -> None:
        self.excess = FORGETTING * self.excess + (not is_own) - doubt
        self.variance = FORGETTING * self.variance + doubt * (1 - doubt)

    @property
    def caution(self) -> float:
        """1 while the verdicts are as expected; the threshold is divided by it."""
        return math.exp(max(0.0, self.excess - 1 - CHANCE_SIGMAS * math.sqrt(self.variance)))


class Escalation:
    """One stream's threshold, steered by its verdicts, the ledger and what a correction costs."""

    def __init__(
        self, quality: float, *, fixed_threshold: float | None = None, disputed_s: float = DISPUTED_S
    ) -> None:
        self.threshold = 0.0
        self._disputed_s = disputed_s
        self._quality = quality
        self._fixed = fixed_threshold
        self._doubts: deque[float] = deque(PRIOR_DOUBTS, maxlen=REMEMBERED)
        self._surprise = _Surprise()
        self._num_until_relearnt = 0
        self._appetite = 0.0

    def steer(self, *, stall_s: float, balance: float) -> None:
        """What a correction costs now, all told in seconds of waiting, and what the ledger has left."""
        self._appetite = appetite(stall_s, disputed_s=self._disputed_s)
        if self._fixed is not None:
            self.threshold = self._fixed
            return
        self._num_until_relearnt -= 1
        if self._num_until_relearnt > 0:
            return
        self._num_until_relearnt = RELEARNT_EVERY
        allowed = allowance(self._quality, balance, self._appetite)
        self.threshold = threshold(self._doubts, allowed) / self._surprise.caution

    def note_verdict(self, doubt: float, *, was_kept: bool, is_own: bool) -> None:
        """What the edge said of a token."""
        self._doubts.append(doubt)
        if was_kept:
            self._surprise.add(doubt, is_own=is_own)
            if not is_own:
                self._num_until_relearnt = 0

    def wants_to_keep_open_guess(self, *, num_unaudited: int) -> bool:
        """Nothing comes, and a reader waits: whatever the ledger has room for is worth less than that."""
        return self._fixed is None and num_unaudited < LONGEST_RUN

    def wants_to_keep(self, doubt: float, *, survival: float, num_unaudited: int) -> bool:
        """`survival`: the chance that all guesses before it are confirmed."""
        longest = LONGEST_RUN if self._fixed is not None else longest_run(self._appetite)
        if survival < MIN_SURVIVAL or num_unaudited >= longest:
            return False
        return self.threshold > 0 and doubt <= self.threshold
