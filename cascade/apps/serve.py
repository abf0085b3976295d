"""`cascade serve`: an edge on the network, from a model's name to a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any

from ..edge import BatchEngine
from ..links.listening import check_port
from ..models.base import LanguageModel
from ..models.runner import PacedRunner, Runner, ThreadRunner
from ..models.synthetic import SyntheticTarget
from .serving import ServeOptions, Serving
from .signals import ENDING, on_signals

__all__ = ["SYNTHETIC", "main"]

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
"""A model that is a hash function, for tests and demonstrations."""
SYNTHETIC_PASS_S = 0.05
SYNTHETIC_ROW_S = 0.0001
DEAD_S = 5.0
"""After its engine has died the edge stays for so long: devices hear why, and `/health` says so."""
EXIT_DEAD = 1
"""What a supervisor answers by starting the edge again."""
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
LOOPBACK = ("127.", "localhost", "::1")


def main(
    ref: str,
    options: ServeOptions,
    *,
    dtype: str = "bfloat16",
    exact: bool = False,
    num_threads: int | None = None,
    json_output: bool = False,
) -> int:
    """Serve until told to stop; returns the exit code."""
    _set_up_logging()
    _raise_file_limit()
    check_port(options.host, options.port)  # loading may take a minute: say at once that it is in vain
    if options.is_open and not options.host.startswith(LOOPBACK):
        log.warning("whoever reaches %s may use this edge; --tokens FILE lets in whom you know", options.host)
    model, runner = _open(ref, dtype=dtype, exact=exact, num_threads=num_threads)
    serving = Serving(BatchEngine(model, runner, options.edge), options)
    return asyncio.run(_serve(serving, json_output=json_output))


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


def _open(ref: str, *, dtype: str, exact: bool, num_threads: int | None) -> tuple[LanguageModel, Runner]:
    """The model behind a reference, and what runs its passes."""
    if ref == SYNTHETIC:
        return SyntheticTarget(), PacedRunner(lambda rows: SYNTHETIC_PASS_S + SYNTHETIC_ROW_S * rows)
    from ..models.loading import open_model

    log.info("loading %s", ref)
    model = open_model(ref, dtype=dtype, exact=exact, num_threads=num_threads)
    _tune(model, num_threads)
    return model, ThreadRunner()


def _tune(model: LanguageModel, num_threads: int | None) -> None:
    from ..models.huggingface import HuggingFaceModel
    from ..models.tuning import tune

    if isinstance(model, HuggingFaceModel):
        with asyncio.Runner() as runner:
            found = tune(model, runner.get_loop().time, num_threads=num_threads)
        packed = "" if found.narrow_rows is None else f", packed weights up to {found.narrow_rows} rows"
        log.info("fastest here: %d threads%s", found.num_threads, packed)


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
