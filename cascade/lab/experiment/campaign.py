"""All runs of an experiment: over the cores, going on where an earlier call stopped."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ...errors import SettingsError
from ..workers import worker_pool
from .reading import flat, read_experiment
from .settings import Experiment, Point
from .store import Store, digest_of, key_of
from .trial import Outcome, merged, run_edge

__all__ = ["Work", "run_campaign", "works_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """One run to do."""

    number: int
    """Of the point."""
    seed: int
    point: Point
    clock: str
    records: str

    @property
    def key(self) -> str:
        return key_of(self.point, self.seed, self.clock, self.records, __version__)


def works_of(experiment: Experiment) -> list[Work]:
    """Seed by seed, so that an unfinished campaign has something everywhere."""
    return [
        Work(number, seed, point, experiment.clock, experiment.records)
        for seed in range(experiment.seeds)
        for number, point in enumerate(experiment.points)
    ]


def run_campaign(
    file: Path,
    out: Path,
    *,
    quick: bool = False,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Run what is not there yet; returns how many runs that was. Progress counts edges.

    Runs in real time are made one after the other: side by side they would measure each other.
    """
    experiment = read_experiment(file, quick=quick)
    store = Store(out)
    _keep_file(file, store, experiment, quick=quick)
    works = works_of(experiment)
    left = [work for work in works if not store.has(work.number, work.seed, work.key)]
    num_all = sum(work.point.load.edges for work in works)
    num_left = sum(work.point.load.edges for work in left)
    say = on_progress or (lambda done, total: None)
    say(num_all - num_left, num_all)
    jobs = 1 if experiment.clock == "real" else min(jobs or os.cpu_count() or 1, max(1, num_left))
    for _ in _edges_run(left, jobs, out):
        num_left -= 1
        say(num_all - num_left, num_all)
    return len(left)


def _edges_run(left: list[Work], jobs: int, out: Path) -> Iterator[None]:
    """Edge by edge, over processes; a run is kept when its last edge is there."""
    if jobs == 1:
        for work in left:
            parts = []
            for edge in range(work.point.load.edges):
                parts.append(_run(work, edge))
                if edge + 1 == work.point.load.edges:
                    _keep(work, merged(parts, work.point.prices), out)
                yield
        return
    with worker_pool(jobs) as pool:
        places: dict[Future[Outcome | None], tuple[int, int]] = {}
        for number, work in enumerate(left):
            if work.point.load.edges == 1:
                places[pool.submit(_do, work, out)] = number, 0
            for edge in range(work.point.load.edges) if work.point.load.edges > 1 else ():
                places[pool.submit(_run, work, edge)] = number, edge
        ready: dict[int, dict[int, Outcome]] = {}
        try:
            while places:
                done, _ = wait(places, return_when=FIRST_COMPLETED)
                for future in done:
                    number, edge = places.pop(future)  # and what it holds, if it was kept
                    outcome = future.result()
                    if outcome is not None:
                        edges = ready.setdefault(number, {})
                        edges[edge] = outcome
                        if len(edges) == left[number].point.load.edges:
                            parts = [edges[edge] for edge in sorted(edges)]
                            _keep(left[number], merged(parts, left[number].point.prices), out)
                            del ready[number]
                    yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(work: Work, edge: int) -> Outcome:
    return run_edge(work.point, work.seed, edge, clock=work.clock, records=work.records)


def _do(work: Work, out: Path) -> None:
    """A run of one edge is kept where it was made."""
    _keep(work, _run(work, 0), out)


def _keep(work: Work, outcome: Outcome, out: Path) -> None:
    about = {
        "key": work.key,
        "settings": flat(work.point),
        "seed": work.seed,
        "clock": work.clock,
        "cascade": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "figures": outcome.figures,
        "effort": dataclasses.asdict(outcome.effort),
        "digest": digest_of(outcome.lines),
    }
    lines = outcome.lines if work.records != "none" else {}
    if work.records == "tokens":
        lines = {kind: outcome.lines[kind] for kind in ("tokens", "streams", "steps")}
    Store(out).put(work.number, work.seed, about, lines)


def _keep_file(file: Path, store: Store, now: Experiment, *, quick: bool) -> None:
    """A folder belongs to one experiment; its file may grow, but not become another."""
    kept = store.experiment_file
    if kept.is_file() and (kept.read_bytes() != file.read_bytes() or store.is_quick != quick):
        before = store.experiment
        if list(map(flat, before.points)) != list(map(flat, now.points)) or before.clock != now.clock:
            raise SettingsError(
                "out", f"{store.folder} holds runs of another experiment; name another --out, or delete it"
            )
    try:
        store.keep(file, quick=quick)
    except OSError as error:
        raise SettingsError("out", f"cannot write to {store.folder}: {error.strerror}") from None
