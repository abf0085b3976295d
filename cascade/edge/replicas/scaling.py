"""How many replicas there should be. Pure decisions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .settings import ReplicaSettings

__all__ = ["Demand", "Scaler", "wanted"]

MARGIN = 0.8
"""With one replica less, passes may take this part of the goal at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The load now."""

    num_replicas: int
    """Those that are there, and those that are on their way."""
    num_texts: int
    """That want tokens."""
    pass_s: float
    """How long a token without hints takes; 0 where nobody knows."""


def wanted(demand: Demand, settings: ReplicaSettings) -> int:
    """By the queue, a replica for so many texts; by the goal, as many more as passes are too long."""
    by_queue = math.ceil(demand.num_texts / settings.texts_per_replica)
    by_goal = 0
    goal_s, num = settings.goal_s_per_token, demand.num_replicas
    if goal_s is not None and demand.num_texts:
        if demand.pass_s > goal_s:
            by_goal = math.ceil(num * demand.pass_s / goal_s)
        elif num > 1 and demand.pass_s * num / (num - 1) <= MARGIN * goal_s:
            by_goal = num - 1  # enough even if rows were all that a pass costs
        else:
            by_goal = num
    return min(max(by_queue, by_goal, settings.num_replicas), settings.most)


class Scaler:
    """More, as soon as that is wanted for a while; fewer, one at a time, after a longer while."""

    def __init__(self, settings: ReplicaSettings) -> None:
        self._settings = settings
        self._more_since_s: float | None = None
        self._fewer_since_s: float | None = None

    def change(self, demand: Demand, now_s: float) -> int:
        """So many more replicas, or fewer."""
        change = wanted(demand, self._settings) - demand.num_replicas
        if change <= 0:
            self._more_since_s = None
        elif self._more_since_s is None:
            self._more_since_s = now_s
        if change >= 0:
            self._fewer_since_s = None
        elif self._fewer_since_s is None:
            self._fewer_since_s = now_s
        if self._more_since_s is not None and now_s - self._more_since_s >= self._settings.more_after_s:
            self._more_since_s = None
            return change
        if self._fewer_since_s is not None and now_s - self._fewer_since_s >= self._settings.fewer_after_s:
            self._fewer_since_s = None
            return -1
        return 0
