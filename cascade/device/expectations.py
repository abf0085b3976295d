"""How long things take where nothing is wrong: on this link, with this edge, as far as it was measured."""

from __future__ import annotations

from ..measure import Knowledge
from .policy import FOREVER_S, Policy
from .silence import FIRST_REPEAT_S

__all__ = ["answer_s", "commits_apart_s", "hint_s", "silence_s"]

UNKNOWN_PASS_S = 0.05
"""A pass of the edge, before it has said how long one takes."""
MAX_DRAFTED = 16
"""Steps of the draft that an edge may wait for, at most."""


def answer_s(known: Knowledge) -> float:
    """Until a question is answered; asking again before makes no sense."""
    rtt_s = known.link.rtt_s
    return FIRST_REPEAT_S if rtt_s is None else 1.5 * rtt_s


def hint_s(known: Knowledge) -> float:
    """Until a hint shows in a commit, if it arrived."""
    rtt_s = FIRST_REPEAT_S if known.link.rtt_s is None else known.link.rtt_s
    return rtt_s + 2 * _pass_s(known) + 0.01


def commits_apart_s(known: Knowledge, policy: Policy) -> float:
    """Between one commit and the next."""
    return _waits_s(policy) + 2 * _pass_s(known)


def silence_s(known: Knowledge, policy: Policy) -> float:
    """Until something is heard while the text goes on."""
    rtt_s = known.link.rtt_s
    if rtt_s is None:
        return FIRST_REPEAT_S
    drafts_s = (known.draft_step_s.value or 0.0) * min(policy.window, MAX_DRAFTED)
    return 0.25 + 2 * rtt_s + _waits_s(policy) + drafts_s + 4 * _pass_s(known)


def _pass_s(known: Knowledge) -> float:
    return known.passes.mean_s or UNKNOWN_PASS_S


def _waits_s(policy: Policy) -> float:
    """How long the edge may wait for our hints before a pass."""
    return policy.patience_s if policy.patience_s < FOREVER_S else 0.0
