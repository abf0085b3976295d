"""What a front says to a replica, and what it hears.

Orders go in batches that are numbered within a *life*: from one `begin` to the next, or to the replica's end.
They are carried out in the order of their numbers, whatever overtakes what; what belongs to another life is
ignored, and a life in which a batch is lost is over. So a replica holds the texts that its front believes it
to hold, whatever happens on the way.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import EngineError
from ..interface import DecodeRequest, EngineStats, Served

__all__ = [
    "Batch",
    "Begun",
    "Close",
    "Failed",
    "Grown",
    "Hint",
    "Hold",
    "Keep",
    "Known",
    "News",
    "Open",
    "Order",
    "Overrule",
    "Resume",
    "Wish",
]


class Open(NamedTuple):
    """Decode on from `prefix`. In all orders, `id` is of one text at one replica."""

    id: int
    request: DecodeRequest
    prefix: tuple[int, ...]
    known: int
    """How much of it the device has: less than all, where the text comes from another replica."""
    owner: str
    patience_s: float
    epoch: int


class Resume(NamedTuple):
    """The device opened the text again. Commits of another epoch than the newest do not count any more."""

    id: int
    epoch: int
    prefix: tuple[int, ...]
    patience_s: float


class Hint(NamedTuple):
    id: int
    position: int
    prefix_hash: int
    tokens: tuple[int, ...]


class Keep(NamedTuple):
    id: int
    position: int
    prefix_hash: int
    tokens: tuple[int, ...]
    kept: tuple[bool, ...]
    may_go_on: bool
    alpha: float


class Overrule(NamedTuple):
    id: int
    epoch: int
    position: int
    prefix_hash: int


class Wish(NamedTuple):
    id: int
    patience_s: float


class Hold(NamedTuple):
    """For so long from now on: the clocks of two machines have nothing in common."""

    owner: str
    wait_s: float


class Known(NamedTuple):
    id: int
    known: int


class Close(NamedTuple):
    id: int


Order = Open | Resume | Hint | Keep | Overrule | Wish | Hold | Known | Close


class Batch(NamedTuple):
    life: int
    number: int
    """From 0, without a gap."""
    orders: tuple[Order, ...]


class Grown(NamedTuple):
    """What was added to a text since its front was last told."""

    id: int
    epoch: int
    position: int
    tokens: tuple[int, ...]
    num_hinted: int
    verdict: tuple[bool, ...] | None
    logprobs: tuple[float, ...] | None
    queue_s: float
    is_finished: bool


class Failed(NamedTuple):
    id: int
    error: EngineError


class News(NamedTuple):
    """All that happened since the last news."""

    life: int
    num_taken: int
    """Batches of this life that were carried out."""
    grown: tuple[Grown, ...]
    failed: tuple[Failed, ...]
    stats: EngineStats
    pass_s: float
    kv_bytes: int


class Begun(NamedTuple):
    """The replica is there, and has no texts."""

    served: Served
    engine: str
    """Another name, another engine: what the one before had in its caches is gone."""
    place: str
    """The machine it is on."""
