"""All runs of an experiment: over the cores, going on where an earlier call stopped."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ...errors import SettingsError
from .reading import flat, read_experiment
from .settings import Experiment, Point
from .store import Store, digest_of, key_of
from .trial import run_trial

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
    file: Path, out: Path, *, jobs: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> int:
    """Run what is not there yet; returns how many runs that was.

    Runs in real time are made one after the other: side by side they would measure each other.
    """
    experiment = read_experiment(file)
    store = Store(out)
    _keep_file(file, store)
    works = works_of(experiment)
    left = [work for work in works if not store.has(work.number, work.seed, work.key)]
    num_done = len(works) - len(left)
    say = on_progress or (lambda done, total: None)
    say(num_done, len(works))
    jobs = 1 if experiment.clock == "real" else min(jobs or os.cpu_count() or 1, max(1, len(left)))
    if jobs == 1:
        for work in left:
            _do(work, out)
            num_done += 1
            say(num_done, len(works))
        return len(left)
    # Spawned, not forked: a fork would inherit whatever threads the caller has.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_do, work, out) for work in left]
        try:
            for future in as_completed(futures):
                future.result()
                num_done += 1
                say(num_done, len(works))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(left)


def _do(work: Work, out: Path) -> None:
    outcome = run_trial(work.point, work.seed, clock=work.clock, records=work.records)
    about = {
        "key": work.key,
        "settings": flat(work.point),
        "seed": work.seed,
        "clock": work.clock,
        "cascade": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "figures": outcome.figures,
        "digest": digest_of(outcome.lines),
    }
    lines = outcome.lines if work.records != "none" else {}
    if work.records == "tokens":
        lines = {kind: outcome.lines[kind] for kind in ("tokens", "streams", "steps")}
    Store(out).put(work.number, work.seed, about, lines)


def _keep_file(file: Path, store: Store) -> None:
    """A folder belongs to one experiment; its file may grow, but not become another."""
    kept = store.experiment_file
    if kept.is_file() and kept.read_bytes() != file.read_bytes():
        before, now = read_experiment(kept), read_experiment(file)
        if before.points != now.points or before.clock != now.clock:
            raise SettingsError(
                "out", f"{store.folder} holds runs of another experiment; name another --out, or delete it"
            )
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        if file.resolve() != kept.resolve():
            shutil.copyfile(file, kept)
    except OSError as error:
        raise SettingsError("out", f"cannot write to {store.folder}: {error.strerror}") from None
