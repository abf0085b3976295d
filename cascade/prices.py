"""What an answer costs: one price model, by which drafts are made, tokens are kept, and ways are chosen.

    prices = Prices(waiting_s=0.5, edge_pass=0.002, megabyte_up=0.1)  # in cents, say
    policy = Policy.adaptive(prices)

All prices have one unit, whatever it is; decisions hang on their ratios alone. The objectives are named sets
of prices, in seconds of waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .settings import check_number

__all__ = ["Objective", "Prices", "Usage"]

BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What something took: a token, an answer, a correction."""

    waiting_s: float = 0.0
    edge_s: float = 0.0
    """Time of the edge's passes."""
    num_passes: float = 0.0
    num_rows: float = 0.0
    """Tokens that went through these passes, hints included."""
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    draft_s: float = 0.0
    """Time of the draft's steps."""
    num_drafted: float = 0.0
    num_disputed: float = 0.0
    """Tokens delivered that are not, or may not be, the target's own pick."""

    def times(self, factor: float) -> Usage:
        return Usage(**{name: factor * getattr(self, name) for name in self.__slots__})

    def plus(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """In one unit, which is for the app to choose: a second of waiting, unless it says otherwise."""

    waiting_s: float = 1.0
    """A second in which the reader waits."""
    edge_s: float = 0.0
    """A second of the edge's passes, this text's share of them."""
    edge_pass: float = 0.0
    """A pass of the edge, however long it takes."""
    edge_row: float = 0.0
    """A token, hint or not, that goes through a pass."""
    megabyte_up: float = 0.0
    megabyte_down: float = 0.0
    draft_s: float = 0.05
    """A second of drafting: the device has other things to do."""
    joule: float = 0.0
    """Out of the device's battery."""
    draft_step_j: float | None = None
    """Joules of a draft step, measured (`cascade advise` does); None: `draft_watts` times the step's time."""
    draft_watts: float = 5.0
    """What the device's processor draws while it drafts; a proxy, where nothing was measured."""
    disputed: float = 0.09
    """A token that is not the target's own pick, in streams that may have such."""

    def __post_init__(self) -> None:
        check_number("waiting_s", self.waiting_s, low=1e-9)
        for field in ("edge_s", "edge_pass", "edge_row", "megabyte_up", "megabyte_down", "draft_s", "joule"):
            check_number(field, getattr(self, field), low=0)
        if self.draft_step_j is not None:
            check_number("draft_step_j", self.draft_step_j, low=0)
        check_number("draft_watts", self.draft_watts, low=0)
        check_number("disputed", self.disputed, low=1e-9)

    def cost(self, usage: Usage) -> float:
        """All told, in the unit of the prices."""
        return (
            self.waiting_s * usage.waiting_s
            + self.edge_s * usage.edge_s
            + self.edge_pass * usage.num_passes
            + self.edge_row * usage.num_rows
            + self.megabyte_up * usage.bytes_up / BYTES_PER_MB
            + self.megabyte_down * usage.bytes_down / BYTES_PER_MB
            + self.draft_s * usage.draft_s
            + self.joule * self.energy_j(usage)
            + self.disputed * usage.num_disputed
        )

    def in_waiting_s(self, usage: Usage) -> float:
        """The same in seconds of waiting: what decisions are made in."""
        return self.cost(usage) / self.waiting_s

    def energy_j(self, usage: Usage) -> float:
        """Of drafting, on the device."""
        if self.draft_step_j is not None:
            return self.draft_step_j * usage.num_drafted
        return self.draft_watts * usage.draft_s

    @property
    def disputed_s(self) -> float:
        """Waiting that is no worse than a token which is not the target's own pick."""
        return self.disputed / self.waiting_s


class Objective(Enum):
    """What an app wants of its streams: a set of prices with a name."""

    LATENCY = "latency"
    """Tokens as soon as can be, whatever passes that takes; never slower than plain streaming."""
    BALANCED = "balanced"
    """Saves an edge's pass where that costs less than three quarters of the time that it takes."""
    COST = "cost"
    """Few of the edge's passes: it waits for hints. And the device has a battery."""

    @property
    def prices(self) -> Prices:
        return _NAMED[self]


_NAMED = {
    Objective.LATENCY: Prices(),
    Objective.BALANCED: Prices(edge_s=0.75),
    Objective.COST: Prices(edge_s=50.0, draft_s=0.2),
}
