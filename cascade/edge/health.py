"""Is this edge well? A pure judgement over a few figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .admission import EdgeLoad
from .settings import EdgeSettings

__all__ = ["Health", "State", "judge"]


class State(StrEnum):
    """In the order of urgency; the first that is true is said."""

    DEAD = "dead"
    """The engine has ended: nothing will ever be answered."""
    DRAINING = "draining"
    STALLED = "stalled"
    """Sessions that should go on do not: a pass hangs, or takes far too long."""
    DROWNING = "drowning"
    """New sessions wait too long for their first token."""
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A state and the figures behind it."""

    state: State
    num_links: int
    num_sessions: int
    num_waiting: int
    oldest_wait_s: float
    stalled_s: float
    step_s: float

    @property
    def is_well(self) -> bool:
        """May a load balancer send devices here?"""
        return self.state is State.OK


def judge(load: EdgeLoad, settings: EdgeSettings, *, stalled_s: float) -> State:
    """`stalled_s`: for how long the slowest session has been due without going on."""
    if load.is_engine_dead:
        return State.DEAD
    if load.is_draining:
        return State.DRAINING
    if stalled_s > settings.max_wait_s:
        return State.STALLED
    if load.oldest_wait_s > settings.max_wait_s or load.num_waiting >= settings.max_waiting:
        return State.DROWNING
    return State.OK
