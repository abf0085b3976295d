"""Which tokens a device keeps without asking: pure decisions.

A token that is kept although the target would have said another saves a correction, a round trip and a
pass; it costs one disagreement of those that the quality allows. However these are spent they save the same
time, but most tokens are delivered without asking if they go to the surest ones. So there is a threshold: a
token is kept if its chance of disagreement, its *doubt*, is not above it.

Behind a guess that the edge has been asked about, a token waits for that verdict whether it is kept or not,
and asking about it too takes hardly longer. Disagreements are better spent where they save a wait, so there a
token must be surer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..prices import Prices, Usage

__all__ = ["Escalation", "allowance", "appetite", "corrected", "longest_run", "threshold"]

NEAR = 2 / 3
FAR = 4 / 3
"""A correction that costs less than this part of a disagreement's price is not worth one; one that costs the
second part is."""
DISPUTED_S = Prices().disputed_s
HORIZON = 2000
"""Tokens over which what was saved is spent."""
RESERVE = 14.0
"""Room in the ledger that is kept for tokens which are to be kept before verdicts have come."""
CORRECTION_BYTES = 20
"""Of a message either way, as they are at a = .8 and R = 100 ms."""
SHORTEST_RUN, LONGEST_RUN = 4, 64
BEHIND = 4.0
"""Behind an open guess a token must be so much surer."""
WORTH_WAITING = 0.5
REMEMBERED = 512
"""Judged tokens that say what is to come."""
RELEARNT_EVERY = 16
ROUNDING = 1e-12
CHANCE_SIGMAS = 2.5
"""Worse verdicts than expected by no more than so many standard deviations are chance."""
FORGETTING = 0.98
"""Of surprises, with every verdict on a kept token."""


class Place(NamedTuple):
    """Where the edge has said its word."""

    strain: float
    doubt: float


PRIOR = tuple(Place(doubt, doubt) for doubt in ((index / 16) ** 4 for index in range(16)))
"""Before anything is known: most tokens are sure."""


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


def strain(doubt: float, *, is_behind: bool) -> float:
    """What is held against the threshold: a token's doubt, and more of it behind an open guess."""
    return min(1.0, BEHIND * doubt) if is_behind else doubt


def threshold(places: Sequence[Place], allowance: float) -> float:
    """The largest strain at which all tokens under no more of it cost `allowance` per token of these."""
    if allowance <= 0:
        return 0.0
    budget, limit = allowance * len(places), 0.0
    for place in sorted(places):
        budget -= place.doubt
        if budget < -ROUNDING:
            return limit
        limit = place.strain
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
        self.is_waiting_worth = False
        """For a verdict, before drafting on: most of what is drafted then is shown at once."""
        self._disputed_s = disputed_s
        self._quality = quality
        self._fixed = fixed_threshold
        self._places: deque[Place] = deque(PRIOR, maxlen=REMEMBERED)
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
        self.threshold = threshold(self._places, allowed) / self._surprise.caution
        num_sure = sum(place.doubt <= self.threshold for place in self._places)
        self.is_waiting_worth = self.threshold > 0 and num_sure >= WORTH_WAITING * len(self._places)

    def note_verdict(self, doubt: float, *, was_behind: bool, was_kept: bool, is_own: bool) -> None:
        """What the edge said of a token."""
        self._places.append(Place(strain(doubt, is_behind=was_behind), doubt))
        if was_kept:
            self._surprise.add(doubt, is_own=is_own)
            if not is_own:
                self._num_until_relearnt = 0

    def wants_to_keep_open_guess(self, *, num_unaudited: int) -> bool:
        """Nothing comes, and a reader waits: whatever the ledger has room for is worth less than that."""
        return self._fixed is None and num_unaudited < LONGEST_RUN

    def wants_to_keep(self, doubt: float, *, is_behind: bool, num_unaudited: int) -> bool:
        """`is_behind`: the edge is asked about something that stands before it."""
        if self._fixed is not None:
            return 0 < self._fixed >= doubt and num_unaudited < LONGEST_RUN
        if self.threshold <= 0 or num_unaudited >= longest_run(self._appetite):
            return False
        return strain(doubt, is_behind=is_behind) <= self.threshold
