"""Replicas in this process: for tests, and to see in virtual time what many engines do together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ...errors import ReplicaLost
from ..interface import Engine
from .host import Host
from .orders import Batch, Begun, News

__all__ = ["LocalWorker", "LocalWorkers"]


class LocalWorkers:
    """Each with an engine of its own. Orders take `way_s` and up to `jitter_s` more, and overtake others."""

    def __init__(
        self,
        new_engine: Callable[[], Engine],
        *,
        way_s: float = 0.0,
        jitter_s: float = 0.0,
        restart_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.workers: list[LocalWorker] = []
        self.gone_soon: set[str] = set()
        """Places, which are called `place 0` and so on."""
        self.new_engine = new_engine
        self.way_s = way_s
        self.restart_s = restart_s
        self._jitter_s = jitter_s
        self._dice = random.Random(seed)

    def new(self, index: int) -> LocalWorker:
        worker = LocalWorker(self, f"place {index}")
        self.workers.append(worker)
        return worker

    async def leaving(self) -> frozenset[str]:
        return frozenset(self.gone_soon)

    def order_s(self) -> float:
        """How long the next orders take."""
        return self.way_s + self._jitter_s * self._dice.random()


class LocalWorker:
    """A host, and the way to it, which takes `way_s`. Its engine may be killed, and comes back anew."""

    def __init__(self, workers: LocalWorkers, place: str) -> None:
        self.place = place
        self.host: Host | None = None
        self.is_cut = False
        """Nothing comes through any more, in either direction, and nobody is told."""
        self.is_deaf = False
        """Orders are lost, while its news arrive."""
        self._workers = workers
        self._running: asyncio.Task[None] | None = None

    async def begin(self, life: int) -> Begun:
        if self.host is None:
            await asyncio.sleep(self._workers.restart_s)
            self.host = Host(self._workers.new_engine(), self.place)
            self._running = asyncio.create_task(self.host.engine.run(), name="local-replica")
        await asyncio.sleep(self._workers.way_s)
        return self._there().begin(life)

    def send(self, batch: Batch) -> None:
        asyncio.get_running_loop().call_later(self._workers.order_s(), self._deliver, self.host, batch)

    async def news(self, life: int) -> News:
        await asyncio.sleep(self._workers.way_s)
        host = self._there()
        news = await host.news(life)
        await asyncio.sleep(self._workers.way_s)
        if self.is_cut:
            await asyncio.Event().wait()
        if self.host is not host:
            raise ReplicaLost("it was killed")
        return news

    def kill(self) -> None:
        """All that it had is gone."""
        if self._running is not None:
            self._running.cancel()
        self.host = None

    def give_up(self) -> None:
        self.is_cut = False
        self.kill()

    async def close(self) -> None:
        running = self._running
        self.kill()
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)

    def _deliver(self, host: Host | None, batch: Batch) -> None:
        if host is not None and host is self.host and not (self.is_cut or self.is_deaf):
            host.take(batch)

    def _there(self) -> Host:
        if self.host is None:
            raise ReplicaLost("it was killed")
        return self.host
