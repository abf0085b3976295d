"""`cascade serve`: an edge on the network, from a model's name to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from ..edge import Engine
from ..edge.replicas import RaySettings, ReplicaSettings
from ..errors import SettingsError
from ..links.listening import check_port
from .serving import ServeOptions, Serving
from .serving.engines import EngineRecipe, VllmRecipe
from .signals import ENDING, on_signals

__all__ = ["main"]

log = logging.getLogger(__name__)

DEAD_S = 5.0
"""After its engine has died the edge stays for so long: devices hear why, and `/health` says so."""
EXIT_DEAD = 1
"""What a supervisor answers by starting the edge again."""
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
LOOPBACK = ("127.", "localhost", "::1")
Opening = contextlib.AbstractAsyncContextManager[Engine, bool | None]


def main(
    recipe: EngineRecipe | VllmRecipe,
    options: ServeOptions,
    *,
    ray: RaySettings | None = None,
    replicas: ReplicaSettings | None = None,
    json_output: bool = False,
) -> int:
    """Serve until told to stop; returns the exit code. With `ray`, the engines are replicas there."""
    _set_up_logging()
    _raise_file_limit()
    check_port(options.host, options.port)  # loading may take a minute: say at once that it is in vain
    if options.is_open and not options.host.startswith(LOOPBACK):
        log.warning("whoever reaches %s may use this edge; --tokens FILE lets in whom you know", options.host)
    if isinstance(recipe, VllmRecipe):
        if ray is not None:
            raise SettingsError("ray", "replicas run our own engine; vLLM spreads over devices by --vllm ...")
        opening: Opening = recipe.opened()
    elif ray is None:
        opening = contextlib.nullcontext(recipe())
    else:
        opening = _on_ray(recipe, ray, replicas or ReplicaSettings())
    return asyncio.run(_serve_over(opening, options, json_output=json_output))


@contextlib.asynccontextmanager
async def _on_ray(recipe: EngineRecipe, ray: RaySettings, replicas: ReplicaSettings) -> AsyncIterator[Engine]:
    from ..edge.replicas import ReplicatedEngine
    from ..edge.replicas.on_ray import ray_workers

    async with ray_workers(recipe, ray) as workers, ReplicatedEngine.over(workers, replicas) as engine:
        yield engine


async def _serve_over(opening: Opening, options: ServeOptions, *, json_output: bool) -> int:
    async with opening as engine:
        # Files are read when it is made, and that is for a thread.
        return await _serve(await asyncio.to_thread(Serving, engine, options), json_output=json_output)


async def _serve(serving: Serving, *, json_output: bool) -> int:
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def on_stop() -> None:
        (stop_now if stop.is_set() else stop).set()

    async with serving:
        reloads: set[asyncio.Task[None]] = set()

        def on_hangup() -> None:
            task = asyncio.create_task(serving.reload(), name="serve-reload")
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        on_signals(on_stop, *ENDING)
        on_signals(on_hangup, "SIGHUP")
        _announce(serving, json_output=json_output)
        await _first_of(stop.wait(), serving.edge.engine_ended.wait())
        if not stop.is_set():
            log.error("the engine is dead, and devices are told so; going down in %g s", DEAD_S)
            await _first_of(stop.wait(), asyncio.sleep(DEAD_S))
            return EXIT_DEAD
        log.info("going down: sessions have %g s to finish or to move away", serving.options.drain_s)
        drain = asyncio.create_task(serving.drain(), name="serve-drain")
        hurry = asyncio.create_task(stop_now.wait(), name="serve-hurry")
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        is_clean = drain.done() and drain.result()
        for task in (drain, hurry):
            task.cancel()
        await asyncio.gather(drain, hurry, return_exceptions=True)
    log.info("down; %s", "nobody was cut short" if is_clean else "some sessions were cut short")
    return 0


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Until one of them is over."""
    tasks = [asyncio.create_task(wait, name="serve-wait") for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _announce(serving: Serving, *, json_output: bool) -> None:
    """Where it listens: the one thing that goes to standard output."""
    facts: dict[str, Any] = {
        "event": "listening",
        "edge": serving.options.name,
        "model": serving.edge.model_name,
        "http": serving.http_url,
        "link": serving.link_url,
        "mqtt": serving.mqtt_url,
        "pid": os.getpid(),
    }
    if json_output:
        print(json.dumps(facts), flush=True)
    else:
        print(f"{facts['edge']} serves {facts['model']} at {facts['link']}", flush=True)
        if facts["mqtt"]:
            print(f"  and as {facts['edge']} at {facts['mqtt']}", flush=True)
        print(f"  health {facts['http']}/health, metrics {facts['http']}/metrics", flush=True)
        print("  Ctrl-C drains and stops; once more stops at once", flush=True)


def _set_up_logging() -> None:
    """One line an event on standard error; sessions are lines of JSON."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    sessions = logging.getLogger("cascade.sessions")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    sessions.handlers[:] = [handler]
    sessions.propagate = False


def _raise_file_limit() -> None:
    """Every link is an open file, and the usual limit of 1,024 is there for programs from another time."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
