"""Replicas as Ray actors. Ray places them, restarts them, and finds the machines for them.

Ray is imported late: whoever has one engine in one process does not need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

from ...errors import EngineError, ReplicaLost, SettingsError
from ..interface import Engine
from .host import Host
from .orders import Batch, Begun, News
from .settings import LOCAL, RaySettings

__all__ = ["RayWorkers", "ray_workers"]

log = logging.getLogger(__name__)

INSTALL = "replicas need Ray: pip install 'cascade-edge[edge,ray]'"
WAITS_S = 30.0
"""A replica that is not there after so long is spoken of: mostly no machine has what it asks for."""
GCS_S = 2.0
EXIT_DEAD = 1
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # When an actor is lost Ray waits for the reason, by default for a second, and its texts would wait, too.
    "RAY_timeout_ms_task_wait_for_death_info": "100",
}
"""For Ray in this process, where nothing else was said."""
MAX_REASON = 160
"""Characters of what Ray says about a loss."""


@contextlib.asynccontextmanager
async def ray_workers(new_engine: Callable[[], Engine], settings: RaySettings) -> AsyncIterator[RayWorkers]:
    """Join the cluster, or start one. `new_engine` is called in each replica's process, off its loop."""
    ray = await asyncio.to_thread(_import_ray)
    is_ours = not ray.is_initialized()
    if is_ours:
        await asyncio.to_thread(_join, ray, settings)
    try:
        yield RayWorkers(ray, new_engine, settings)
    finally:
        if is_ours:
            await asyncio.to_thread(ray.shutdown)


class RayWorkers:
    """New actors, as many as are asked for."""

    def __init__(self, ray: Any, new_engine: Callable[[], Engine], settings: RaySettings) -> None:
        self.workers: list[RayWorker] = []
        self._ray = ray
        self._kind = ray.remote(_Actor).options(
            num_cpus=settings.num_cpus,
            num_gpus=settings.num_gpus,
            max_restarts=-1,
            max_task_retries=0,  # what an actor was told in its last life means nothing to the next
            scheduling_strategy="SPREAD",
        )
        self._new_engine = new_engine
        self._settings = settings
        self._gcs: Any = None

    def new(self, index: int) -> RayWorker:
        worker = RayWorker(self._ray, lambda: self._kind.remote(self._new_engine), index, self._settings)
        self.workers.append(worker)
        return worker

    async def leaving(self) -> frozenset[str]:
        """Nodes that are being drained (`ray drain-node`, or a cloud that takes its machine back)."""
        return await asyncio.to_thread(self._draining)

    def _draining(self) -> frozenset[str]:
        try:
            if self._gcs is None:  # as Ray Serve asks it; there is no public way
                address = self._ray.get_runtime_context().gcs_address
                self._gcs = self._ray._raylet.GcsClient(address=address)
            return frozenset(self._gcs.get_draining_nodes(timeout=GCS_S))
        except Exception as error:  # whatever goes wrong there, replicas go on as they are
            log.debug("which nodes are drained is not known: %r", error)
            return frozenset()


class RayWorker:
    """One place, and the actor that has it now."""

    def __init__(self, ray: Any, new_actor: Callable[[], Any], index: int, settings: RaySettings) -> None:
        self.actor: Any = None
        self._ray = ray
        self._new_actor = new_actor
        self._index = index
        self._settings = settings

    async def begin(self, life: int) -> Begun:
        loop = asyncio.get_running_loop()
        waits = loop.call_later(WAITS_S, self._say_that_it_waits)
        try:
            if self.actor is None:
                self.actor = self._new_actor()
            begun: Begun = await self._ask(self.actor.begin, life)
            return begun
        finally:
            waits.cancel()

    def send(self, batch: Batch) -> None:
        try:
            self.actor.take.options(num_returns=0).remote(batch)
        except self._ray.exceptions.RayError as error:
            log.debug("orders were not sent: %r", error)  # the news will not come either, and say why

    async def news(self, life: int) -> News:
        news: News = await self._ask(self.actor.news, life)
        return news

    def give_up(self) -> None:
        actor, self.actor = self.actor, None
        if actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    async def close(self) -> None:
        self.give_up()

    async def _ask(self, method: Any, life: int) -> Any:
        errors = self._ray.exceptions
        try:
            return await method.remote(life)
        except errors.ActorDiedError as error:
            self.actor = None  # for good: another one has to take its place
            raise ReplicaLost(_first_line(error)) from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, ReplicaLost):
                raise ReplicaLost(str(error.cause)) from None
            raise EngineError(f"its engine could not be made: {error.cause}") from error
        except errors.RayError as error:
            raise ReplicaLost(_first_line(error)) from error

    def _say_that_it_waits(self) -> None:
        log.warning(
            "replica %d is not there after %g s: its model is still loading, or no machine of the cluster "
            "has %g CPUs and %g GPUs left for it (see `ray status`)",
            self._index,
            WAITS_S,
            self._settings.num_cpus,
            self._settings.num_gpus,
        )


class _Actor:
    """What runs in a replica's process, all of it on one event loop. Calls may overtake each other."""

    def __init__(self, new_engine: Callable[[], Engine]) -> None:
        self._new_engine = new_engine
        self._making: asyncio.Task[Host] | None = None

    async def begin(self, life: int) -> Begun:
        if self._making is None:
            self._making = asyncio.create_task(self._make(), name="replica-makes")
        try:
            host = await asyncio.shield(self._making)
        except Exception:
            self._making = None
            raise
        self.host = host
        return host.begin(life)

    async def take(self, batch: Batch) -> None:
        self.host.take(batch)

    async def news(self, life: int) -> News:
        return await self.host.news(life)

    async def where(self) -> tuple[str, int]:
        """The node, and the process there."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    async def _make(self) -> Host:
        node, _ = await self.where()
        host = Host(await asyncio.to_thread(self._new_engine), node)
        self._running = asyncio.create_task(self._run(host.engine), name="replica-engine")
        return host

    async def _run(self, engine: Engine) -> None:
        try:
            await engine.run()
        except Exception as error:
            log.error("the engine is dead: %r", error, exc_info=error)
            os._exit(EXIT_DEAD)  # Ray starts another one


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise SettingsError("ray", INSTALL) from None
    return ray


def _join(ray: Any, settings: RaySettings) -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {"configure_logging": False, "log_to_driver": False}
    if settings.address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": settings.object_store_bytes}
    try:
        ray.init(address=settings.address, **options)
        ray._private.worker._worker_logs_enabled = False  # on standard output, which is not Ray's
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError("ray", f"no cluster at {settings.address!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:MAX_REASON]
