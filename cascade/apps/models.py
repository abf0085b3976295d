"""`cascade models`: what can be had, what is here, what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ..models.bundled import BUNDLED, SHIPPED, FetchProgress, fetch, is_fetched
from ..models.details import details
from .formats import megabytes

__all__ = ["fetch_one", "print_info", "print_list"]


def print_list(*, json_output: bool) -> None:
    """The models that have names: those to fetch, and those that came with the package."""
    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "about": model.about,
            "license": model.license,
            "download_bytes": model.wheel_bytes,
            "fetched": is_fetched(model.name),
        }
        for model in BUNDLED.values()
    ] + [
        {
            "name": shipped.name,
            "about": shipped.about,
            "license": shipped.license,
            "download_bytes": 0,
            "fetched": shipped.folder.is_dir(),
        }
        for shipped in SHIPPED.values()
    ]
    if json_output:
        print(json.dumps({"models": rows}))
        return
    table = Table("name", "about", "license", "download", "here")
    for row in rows:
        here = "yes" if row["fetched"] else "no"
        download = megabytes(row["download_bytes"]) if row["download_bytes"] else "none"
        table.add_row(row["name"], row["about"], row["license"], download, here)
    Console().print(table)


def fetch_one(name: str, wheel: Path | None) -> None:
    """Fetch with a bar on a terminal, and say where the file is."""
    console = Console(highlight=False)
    with Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("start")

        def show(step: FetchProgress) -> None:
            bar.update(task, description=step.stage, completed=step.done_bytes, total=step.total_bytes)

        path = fetch(name, wheel=wheel, progress=show)
    console.print(f"{name}: {path}", soft_wrap=True)


def print_info(model: str, *, json_output: bool) -> None:
    """What the model's files say."""
    found = details(model)
    if json_output:
        print(json.dumps(found))
        return
    console = Console(highlight=False)
    _print_facts(console, found, "")


def _print_facts(console: Console, facts: Mapping[str, Any], indent: str) -> None:
    for name, value in facts.items():
        label = indent + name.replace("_", " ")
        if isinstance(value, Mapping):
            console.print(f"{label}:")
            _print_facts(console, value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            console.print(f"{label}: {len(value)} points (see --json)")
        else:
            console.print(f"{label}: {_shown(value)}", soft_wrap=True)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
