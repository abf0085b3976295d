"""What the commands of `cascade lab` do."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import CascadeError, SettingsError
from ..lab.experiment.campaign import run_campaign, works_of
from ..lab.experiment.checking import check_folder
from ..lab.experiment.effort import Effort
from ..lab.experiment.measured import FIGURES
from ..lab.experiment.reading import read_experiment, shown_axes
from ..lab.experiment.report import comparisons, shown, write_book, write_report
from ..lab.experiment.store import Store
from ..lab.experiment.summary import Group, grouped

__all__ = [
    "check",
    "compare",
    "export",
    "list_experiments",
    "peers",
    "record",
    "report",
    "run",
    "run_all",
    "show",
]

SHOWN = ("ms_per_token", "first_token_ms", "passes_per_token", "bytes_per_token")


def run(file: Path, out: Path, *, quick: bool, jobs: int | None, as_json: bool) -> None:
    num_made = _make(file, out, quick=quick, jobs=jobs)
    page = write_report(out)
    runs = Store(out).runs()
    groups = grouped(runs)
    effort = Effort.of_all(run.effort for run in runs)
    if as_json:
        facts = {"report": str(page), "runs_made": num_made, "effort": dataclasses.asdict(effort)}
        print(json.dumps({**facts, "points": _as_json(groups)}))
    else:
        _print_points(groups, shown_axes(Store(out).experiment))
        print(f"effort: {effort}")
        print(f"report: {page}")


def run_all(folder: Path, out: Path, *, quick: bool, jobs: int | None, as_json: bool) -> None:
    """Every experiment of a folder, and one report of all."""
    files = _experiments_in(folder)
    for file in files:
        read_experiment(file, quick=quick)  # a mistake in the last is to be told before the first has run
    num_made = sum(_make(file, out / file.stem, quick=quick, jobs=jobs) for file in files)
    stores = [Store(out / file.stem) for file in files]
    page = write_book(out, [store.folder for store in stores])
    found = {store.folder.name: comparisons(store) for store in stores}
    if as_json:
        print(json.dumps({"report": str(page), "runs_made": num_made, "published": found}))
        return
    table = Table("experiment", "published", "ours")
    for name, rows in found.items():
        for row in rows:
            table.add_row(name, f"{row['paper']}: {row['says']}", f"{row['ours']}: {shown(row)}")
    Console().print(table)
    print(f"report: {page}")


def _make(file: Path, out: Path, *, quick: bool, jobs: int | None) -> int:
    """Run what is missing, and say how far it is."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(f"{file.stem}, runs, edge by edge", total=None)

        def say(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and done * 10 // total != (done - 1) * 10 // total:
                print(
                    f"{file.stem}: {done} of {total} done", file=sys.stderr, flush=True
                )  # a log wants a line now and then

        try:
            return run_campaign(file, out, quick=quick, jobs=jobs, on_progress=say)
        except KeyboardInterrupt:
            bar.stop()
            print("stopped; the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None


def _experiments_in(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise SettingsError("dir", f"there are no experiments (*.toml) in {folder}")
    return paths


def list_experiments(folder: Path, *, as_json: bool) -> None:
    rows = []
    for path in _experiments_in(folder):
        experiment = read_experiment(path)
        rows.append({"file": str(path), "about": experiment.about, "runs": len(works_of(experiment))})
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("experiment", "asks", "runs")
    for row in rows:
        table.add_row(str(row["file"]), str(row["about"]), str(row["runs"]))
    Console().print(table)


def show(file: Path, *, quick: bool, as_json: bool) -> None:
    experiment = read_experiment(file, quick=quick)
    facts: dict[str, Any] = {
        "about": experiment.about,
        "clock": experiment.clock,
        "axes": {name: list(values) for name, values in experiment.axes.items()},
        "points": len(experiment.points),
        "seeds": experiment.seeds,
        "runs": len(works_of(experiment)),
        "figures": [figure.title or figure.kind for figure in experiment.figures],
    }
    if as_json:
        print(json.dumps(facts))
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        if isinstance(value, dict):
            value = "\n".join(f"{axis}: {', '.join(map(str, taken))}" for axis, taken in value.items())
        table.add_row(name, "\n".join(value) if isinstance(value, list) else str(value))
    Console().print(table)


def report(folder: Path) -> None:
    print(write_report(folder))


def export(folder: Path, out: Path) -> None:
    from ..lab.experiment.export import export_parquet

    for path in export_parquet(folder, out):
        print(path)


def compare(before: Path, after: Path, figure: str, *, as_json: bool) -> None:
    if figure not in FIGURES:
        raise SettingsError("figure", f"there is no {figure!r}; there are {', '.join(FIGURES)}")
    old, new = (_by_settings(Store(folder)) for folder in (before, after))
    rows = []
    for key in [key for key in old if key in new]:
        was, now = old[key].figure(figure), new[key].figure(figure)
        change = now.mean / was.mean - 1 if was.mean else 0.0
        rows.append({"point": key, "before": was.mean, "after": now.mean, "change": round(change, 6)})
    if not rows:
        raise SettingsError("dir", f"{before} and {after} have no point in common")
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("point", "before", "after", "change", title=FIGURES[figure], title_justify="left")
    for row in rows:
        table.add_row(
            str(row["point"]), f"{row['before']:.4g}", f"{row['after']:.4g}", f"{row['change']:+.1%}"
        )
    Console().print(table)


def peers(
    target: str,
    draft: str,
    link: str,
    *,
    endpoint: str,
    endpoint_model: str,
    key_env: str,
    has_assisted: bool,
    num_questions: int,
    num_tokens: int,
    as_json: bool,
) -> None:
    from ..lab.peers.meeting import Meeting, meet
    from ..lab.replay import QUESTIONS
    from ..links.profiles import load_profile

    if endpoint and not endpoint_model:
        raise SettingsError("endpoint-model", "is missing: an endpoint has to be told which model is meant")
    profile = load_profile(link)
    meeting = Meeting(
        target=target,
        draft=draft,
        up=profile.up,
        down=profile.down,
        questions=QUESTIONS[:num_questions],
        num_tokens=num_tokens,
        endpoint=endpoint,
        endpoint_model=endpoint_model,
        key=os.environ.get(key_env, ""),
        has_assisted=has_assisted,
    )
    rows = meet(meeting)
    if as_json:
        print(json.dumps({"link": link, "questions": num_questions, "tokens": num_tokens, "peers": rows}))
        return
    table = Table(*rows[0], title=f"over {link}; by_first: time per token by that of {rows[0]['who']}")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def record(out: Path, target: str, draft: str, *, num_texts: int, num_tokens: int) -> None:
    from ..lab.record import record_pair
    from ..models.paced import write_recording

    if not out.name.endswith(".json.gz"):
        raise SettingsError("out", f"{out} must end in .json.gz, so that an experiment knows it for a file")
    recording = record_pair(target, draft, num_texts=num_texts, num_tokens=num_tokens)
    try:
        write_recording(recording, out)
    except OSError as error:
        raise SettingsError("out", f"cannot write {out}: {error.strerror}") from None
    print(f"{len(recording.texts)} texts, agreement {recording.agreement:.3f}: {out}")


def check(folder: Path, *, as_json: bool) -> None:
    faults = check_folder(folder)
    num_runs = len(Store(folder).runs())
    if as_json:
        print(json.dumps({"runs": num_runs, "faults": faults}))
    if faults:
        raise CascadeError("\n".join([f"{len(faults)} faults in {folder}:", *faults[:20]]))
    if not as_json:
        print(f"{num_runs} runs: every figure follows from its lines")


def _by_settings(store: Store) -> dict[str, Group]:
    axes = shown_axes(store.experiment)
    return {
        ", ".join(f"{name} {group.settings[name]}" for name in axes): group for group in grouped(store.runs())
    }


def _print_points(groups: list[Group], axes: list[str]) -> None:
    table = Table(*axes, *SHOWN)
    for group in groups:
        table.add_row(
            *(str(group.settings[name]) for name in axes), *(str(group.figure(name)) for name in SHOWN)
        )
    Console().print(table)


def _as_json(groups: list[Group]) -> list[dict[str, Any]]:
    return [
        {
            "settings": dict(group.settings),
            "seeds": len(group.runs),
            "figures": {name: group.figure(name).mean for name in FIGURES},
            "half_widths": {
                name: width for name in FIGURES if (width := group.figure(name).half_width) == width
            },
        }
        for group in groups
    ]
