"""How a front reaches its replicas: in this process (`local.py`), or where Ray puts them (`on_ray.py`)."""

from __future__ import annotations

from typing import Protocol

from .orders import Batch, Begun, News

__all__ = ["Worker", "Workers"]


class Worker(Protocol):
    """A place for one replica: when the engine there dies, another one comes."""

    async def begin(self, life: int) -> Begun:
        """Wait until an engine is there, however long that takes, and let it forget what it had open.

        Raises `ReplicaLost` where it died meanwhile and another attempt may help, `EngineError` where the
        engine cannot be made, with the reason.
        """
        ...

    def send(self, batch: Batch) -> None:
        """Without an answer, in order; what does not arrive is found out by `news`."""
        ...

    async def news(self, life: int) -> News:
        """What is new, after a heartbeat at the latest. Raises `ReplicaLost`."""
        ...

    def give_up(self) -> None:
        """It has been silent for too long: away with it, so that another one may come."""
        ...

    async def close(self) -> None:
        """It is not needed any more."""
        ...


class Workers(Protocol):
    """Where replicas come from."""

    def new(self, index: int) -> Worker:
        """A place for one more."""
        ...

    async def leaving(self) -> frozenset[str]:
        """Machines that will be gone soon: their replicas should move."""
        ...
