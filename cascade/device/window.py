"""When to draft one more, and when to send what was drafted: pure decisions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .policy import Policy

__all__ = ["SendClock", "farness", "num_worth_sending", "stands_in_the_way", "wants_one_more"]

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


def wants_one_more(policy: Policy, *, num_chained: int, num_sent: int, chance: float, far: float) -> bool:
    """Draft another token, which has this `chance` of being used, behind `num_chained` undecided ones?"""
    if num_chained >= policy.window:
        return False
    if policy.waits_for_verdict:
        return num_sent == 0
    return chance >= policy.min_chance * far


def num_worth_sending(policy: Policy, *, chance_of_sent: float, chances: Sequence[float], far: float) -> int:
    """How many of the guesses not sent yet are worth their bytes; 0 if together they are no message's worth.

    A guess is used only if all before it are, and those that are sent already are with `chance_of_sent`.
    What is not worth sending now will be once a commit has confirmed some of what stands before it.
    """
    if policy.waits_for_verdict:
        return len(chances)
    min_chance, min_hope = policy.min_sent_chance * far, policy.min_hope * far
    hope = 0.0
    chance = chance_of_sent
    for number, each in enumerate(chances):
        chance *= each
        if chance < min_chance:
            return number if hope >= min_hope else 0
        hope += chance
    return len(chances) if hope >= min_hope else 0


def stands_in_the_way(
    now_s: float,
    step_s: float,
    *,
    commit_s: float,
    deadline_s: float,
    chance_alive: float,
    chance_used: float,
    chance_of_next: float,
) -> bool:
    """Is a step that begins now likelier to delay a correction than to be of use?

    A step cannot be stopped. One that runs when the commit at `commit_s` kills the chain (which it leaves
    alive with `chance_alive`) delays all behind the correction by its rest, and takes as much from what is
    ready by `deadline_s`. To wait for the commit takes as much from the chain's end, which is of use with
    `chance_used`, as the drafter idles.
    """
    commit_s = max(commit_s, now_s)
    rest_s = now_s + step_s - commit_s
    if rest_s <= 0:
        return False
    num_behind = max(0, math.floor((deadline_s - commit_s) / step_s + 1e-9))
    if_it_dies = (1 - chance_alive) * chance_of_next**num_behind * rest_s
    return if_it_dies > chance_used * (commit_s - now_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendClock:
    """When the edge's passes begin: what is sent at `beat_s` arrives as one begins that takes `first_s`, and
    all after it take `step_s`.

    The last commit to arrive left the edge half a round trip ago, when the next pass began; what is sent
    now is there half a round trip from now. A hint that arrives in mid-pass is of no more use than one
    that arrives at its end, so guesses are gathered until just before the last moment: one message a
    pass instead of one a token, and none of them later.
    """

    beat_s: float
    first_s: float
    step_s: float
    margin_s: float

    @classmethod
    def after_commit(
        cls, arrival_s: float, *, rtt_s: float, jitter_s: float, first_s: float, step_s: float
    ) -> SendClock:
        """The edge went on to its next pass when this commit left."""
        margin_s = MARGIN_S + 2 * jitter_s
        return cls(beat_s=arrival_s - rtt_s, first_s=first_s, step_s=step_s, margin_s=margin_s)

    def after_wake(self, sent_s: float, first_s: float) -> SendClock:
        """The edge stands waiting: it begins a pass when this hint arrives."""
        return dataclasses.replace(self, beat_s=sent_s, first_s=first_s)

    @property
    def deadline_s(self) -> float:
        """What is sent later comes after the end of the pass that runs now."""
        return self.beat_s + self.first_s - self.margin_s

    def next_commit_s(self, now_s: float, *, rtt_s: float) -> float:
        """When the next commit is expected to arrive, if the edge makes pass after pass."""
        first_s = self.beat_s + self.first_s + rtt_s
        num_steps = max(0, math.ceil((now_s - first_s) / self.step_s + 1e-9))
        return first_s + num_steps * self.step_s

    def next_send_s(self, now_s: float) -> float:
        """The last moment from now on that still makes it to a pass."""
        first_s = self.beat_s - self.margin_s
        if now_s <= first_s:
            return first_s
        first_s += self.first_s
        num_steps = max(0, math.ceil((now_s - first_s) / self.step_s - 1e-9))
        return first_s + num_steps * self.step_s
