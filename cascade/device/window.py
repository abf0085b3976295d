"""When to draft one more, and when to send what was drafted: pure decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .policy import Policy

__all__ = ["SendClock", "farness", "num_worth_sending", "wants_one_more"]

NEAR_S = 0.2
"""A round trip and two passes that take no longer than this make a link near."""
MARGIN_S = 0.001
"""Hints aim to arrive this much before the pass that is to use them, and the link's jitter earlier."""


def farness(rtt_s: float | None, pass_s: float | None) -> float:
    """What a policy's least chances are multiplied with: 1 on a near link, less on a far one.

    A guess that is needed and is not there costs a round trip. The longer that is, the less likely
    guesses are worth their bytes and their energy.
    """
    if rtt_s is None or pass_s is None:
        return 1.0
    return min(1.0, NEAR_S / (rtt_s + 2 * pass_s))


def wants_one_more(policy: Policy, *, num_chained: int, num_sent: int, agreement: float, far: float) -> bool:
    """Draft another token behind `num_chained` undecided ones, `num_sent` of which are sent?"""
    if num_chained >= policy.window:
        return False
    if policy.waits_for_verdict:
        return num_sent == 0
    return agreement ** (num_chained + 1) >= policy.min_chance * far


def num_worth_sending(policy: Policy, *, num_sent: int, num_unsent: int, agreement: float, far: float) -> int:
    """How many of the guesses not sent yet are worth their bytes; 0 if together they are no message's worth.

    A guess behind `num_sent` others is used only if all of these are. What is not worth sending now will
    be once a commit has confirmed some of what stands before it.
    """
    if policy.waits_for_verdict:
        return num_unsent
    min_chance, min_hope = policy.min_sent_chance * far, policy.min_hope * far
    hope = 0.0
    chance = agreement**num_sent
    for number in range(num_unsent):
        chance *= agreement
        if chance < min_chance:
            return number if hope >= min_hope else 0
        hope += chance
    return num_unsent if hope >= min_hope else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SendClock:
    """When the edge's passes begin: what the device sends at `beat_s + n * step_s` arrives just then.

    The last commit to arrive left the edge half a round trip ago, when the next pass began; what is sent
    now is there half a round trip from now. A hint that arrives in mid-pass is of no more use than one
    that arrives at its end, so guesses are gathered until just before the last moment: one message a
    pass instead of one a token, and none of them later.
    """

    beat_s: float
    step_s: float
    margin_s: float

    @classmethod
    def after_commit(cls, arrival_s: float, *, rtt_s: float, jitter_s: float, step_s: float) -> SendClock:
        """The edge went on to its next pass when this commit left."""
        return cls(beat_s=arrival_s - rtt_s, step_s=step_s, margin_s=MARGIN_S + 2 * jitter_s)

    def after_wake(self, sent_s: float) -> SendClock:
        """The edge stood waiting: it begins a pass when this hint arrives."""
        return SendClock(beat_s=sent_s, step_s=self.step_s, margin_s=self.margin_s)

    def next_send_s(self, now_s: float) -> float:
        """The last moment from now on that still makes it to a pass."""
        first_s = self.beat_s - self.margin_s
        num_steps = max(0, math.ceil((now_s - first_s) / self.step_s - 1e-9))
        return first_s + num_steps * self.step_s
