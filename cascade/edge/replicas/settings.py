"""What an operator may set about replicas."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import check_int, check_number

__all__ = ["LOCAL", "RaySettings", "ReplicaSettings"]

LOCAL = "local"
"""Instead of a cluster's address: start Ray on this machine, for us alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """How many engines stand behind one address, and when one of them is given up."""

    num_replicas: int = 1
    """Engines to begin with, and never fewer."""
    max_replicas: int | None = None
    """Never more; between the two their number follows the load. None: it stays as it is."""
    texts_per_replica: int = 32
    """With more texts than this for each replica, others are started."""
    goal_s_per_token: float | None = None
    """So they are while passes take longer than this. None: the number of texts alone counts."""
    more_after_s: float = 3.0
    """More are started when they were wanted for so long."""
    fewer_after_s: float = 60.0
    """One is ended when it was not wanted for so long."""
    silent_s: float = 10.0
    """A replica that says nothing for so long, not even that it has nothing to say, is given up."""
    backoff_first_s: float = 0.1
    """After a replica was lost, before the next attempt; doubles with each that fails."""
    backoff_ceiling_s: float = 2.0
    """The longest wait between two attempts."""
    max_attempts: int = 30
    """Where no replica is there and each has failed so often in a row, the engine as a whole is dead."""
    max_under_way: int = 256
    """Batches of orders that a replica has not confirmed; beyond it they are gathered."""
    max_gathered: int = 4096
    """Orders gathered; beyond it hints are dropped, which costs speed alone."""

    def __post_init__(self) -> None:
        check_int("num_replicas", self.num_replicas, low=1)
        if self.max_replicas is not None:
            check_int("max_replicas", self.max_replicas, low=self.num_replicas)
        check_int("texts_per_replica", self.texts_per_replica, low=1)
        if self.goal_s_per_token is not None:
            check_number("goal_s_per_token", self.goal_s_per_token, low=1e-4)
        check_number("more_after_s", self.more_after_s, low=0)
        check_number("fewer_after_s", self.fewer_after_s, low=0)
        check_number("silent_s", self.silent_s, low=0.001)
        check_number("backoff_first_s", self.backoff_first_s, low=0.001)
        check_number("backoff_ceiling_s", self.backoff_ceiling_s, low=0.001)
        check_int("max_attempts", self.max_attempts, low=1)
        check_int("max_under_way", self.max_under_way, low=1)
        check_int("max_gathered", self.max_gathered, low=1)

    @property
    def most(self) -> int:
        return self.num_replicas if self.max_replicas is None else self.max_replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """Which cluster, and what each replica takes of it."""

    address: str = LOCAL
    """`local` starts one; `auto` is the one that runs on this machine; HOST:PORT is one's head."""
    num_cpus: float = 1.0
    """What Ray sets aside for each replica. It is a booking, no limit."""
    num_gpus: float = 0.0
    """A part of one, too: 0.5 lets two replicas share a GPU."""
    object_store_bytes: int = 128 << 20
    """With `local`: little, for what replicas are told and tell is small."""

    def __post_init__(self) -> None:
        if not self.address:
            raise SettingsError("ray", "must be local, auto or HOST:PORT")
        check_number("num_cpus", self.num_cpus, low=0)
        check_number("num_gpus", self.num_gpus, low=0)
        check_int("object_store_bytes", self.object_store_bytes, low=80 << 20)
