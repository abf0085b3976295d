"""The folder of an experiment: its file, and a folder of lines for every run.

    DIR/experiment.toml          the file as it was run
    DIR/quick                    there, if it was run in its quick form
    DIR/runs/0007-seed2/run.json       settings, seed, versions, machine, figures, digest of the lines
    DIR/runs/0007-seed2/tokens.jsonl   and streams, steps, messages, control: see docs/lab-records.md

A run's folder appears whole or not at all, so whoever goes on knows what is left.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SettingsError
from .effort import Effort
from .reading import flat, read_experiment
from .settings import Experiment, Point

__all__ = ["FILE", "Run", "Store", "digest_of", "read_lines"]

FILE = "experiment.toml"
QUICK = "quick"
"""Lies there where the runs are of the quick form."""


@dataclass(frozen=True, slots=True)
class Run:
    """What `run.json` says, and where its lines are."""

    folder: Path
    settings: Mapping[str, Any]
    seed: int
    figures: Mapping[str, float]
    digest: str
    effort: Effort
    """What it took to make it."""

    def lines(self, kind: str) -> list[dict[str, Any]]:
        return read_lines(self.folder / f"{kind}.jsonl")


class Store:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def experiment_file(self) -> Path:
        return self.folder / FILE

    @property
    def is_quick(self) -> bool:
        """Were these runs made in the quick form of the file?"""
        return (self.folder / QUICK).is_file()

    @property
    def experiment(self) -> Experiment:
        """As it was run."""
        return read_experiment(self.experiment_file, quick=self.is_quick, is_kept=True)

    def keep(self, file: Path, *, quick: bool) -> None:
        """The file that the runs are made from, and in which form."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if file.resolve() != self.experiment_file.resolve():
            shutil.copyfile(file, self.experiment_file)
        if quick:
            (self.folder / QUICK).touch()

    def run_folder(self, number: int, seed: int) -> Path:
        return self.folder / "runs" / f"{number:04d}-seed{seed}"

    def has(self, number: int, seed: int, key: str) -> bool:
        """Is this run here, made with these settings by this version?"""
        try:
            about = json.loads((self.run_folder(number, seed) / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(about.get("key") == key)

    def put(
        self,
        number: int,
        seed: int,
        about: Mapping[str, Any],
        lines: Mapping[str, Iterable[Mapping[str, Any]]],
    ) -> None:
        folder = self.run_folder(number, seed)
        scratch = folder.with_name(f".{folder.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for kind, entries in lines.items():
            with (scratch / f"{kind}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(entry)}\n" for entry in entries)
        (scratch / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)

    def runs(self) -> list[Run]:
        """All that are here, in order."""
        found = []
        for path in sorted((self.folder / "runs").glob("*/run.json")):
            if path.parent.name.startswith("."):
                continue
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
                found.append(
                    Run(
                        path.parent,
                        about["settings"],
                        about["seed"],
                        about["figures"],
                        about["digest"],
                        Effort(**about["effort"]),
                    )
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SettingsError("run", f"{path} cannot be read: {error!r}; delete its folder") from None
        if not found:
            raise SettingsError(
                "dir", f"there are no runs in {self.folder}; `cascade lab run FILE --out DIR`"
            )
        return found


def digest_of(lines: Mapping[str, Iterable[Mapping[str, Any]]]) -> str:
    """Of everything that was recorded: equal digests, equal runs."""
    digest = hashlib.sha256()
    for kind in sorted(lines):
        for entry in lines[kind]:
            digest.update(json.dumps(entry, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def key_of(point: Point, seed: int, clock: str, records: str, version: str) -> str:
    """What a run is a function of."""
    about = json.dumps([flat(point), seed, clock, records, version], sort_keys=True, default=str)
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none, where the run kept none."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
