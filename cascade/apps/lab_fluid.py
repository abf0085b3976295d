"""`cascade lab fluid`: an experiment's points, asked of the fluid model instead of run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..lab.experiment.crowd import crowd_of
from ..lab.experiment.reading import flat, read_experiment, shown_axes
from ..lab.fluid import Crowd, devices_on_broker, devices_within, flow, knee
from ..settings import check_int, check_number

__all__ = ["ask"]


def ask(
    file: Path,
    *,
    devices: Sequence[int],
    goals_ms: Sequence[float],
    edges: int | None,
    brokers_per_s: Sequence[float],
    as_json: bool,
) -> None:
    """Each point with so many devices; how many of them hold these goals; and where edges and brokers that
    take so many messages a second are saturated."""
    for number in devices:
        check_int("devices", number, low=1)
    for name, values in (("goal", goals_ms), ("broker", brokers_per_s)):
        for value in values:
            check_number(name, value, low=0.001)
    experiment = read_experiment(file)
    axes = [name for name in shown_axes(experiment) if name != "load.devices"]
    answers: dict[str, list[dict[str, Any]]] = {"devices": [], "goals": [], "saturation": []}
    for settings in _kinds([flat(point) for point in experiment.points]):
        crowd, num_edges = crowd_of(settings), edges or settings["load.edges"]
        about = {**{name: settings[name] for name in axes}, "edges": num_edges}
        for number in devices:
            answers["devices"].append({**about, "devices": number, **_told(crowd, number, num_edges)})
        for goal_ms in goals_ms:
            held = num_edges * devices_within(crowd, goal_ms / 1000)
            answers["goals"].append({**about, "goal_ms": goal_ms, "devices_held": held})
        answers["saturation"].append({**about, "what": "edges", "devices": num_edges * knee(crowd)})
        for limit in brokers_per_s:
            what = f"broker, {limit:,.0f} messages/s"
            found = devices_on_broker(crowd, limit, num_edges)
            answers["saturation"].append({**about, "what": what, "devices": found})
    if as_json:
        print(json.dumps(answers))
        return
    for rows in filter(None, answers.values()):
        table = Table(*(name.replace("_", " ") for name in rows[0]))
        for row in rows:
            table.add_row(
                *(f"{value:,}" if isinstance(value, int | float) else str(value) for value in row.values())
            )
        Console().print(table)


def _told(crowd: Crowd, devices: int, edges: int) -> dict[str, float]:
    one = flow(crowd, devices / edges)
    return {
        "ms_per_token": round(1000 * one.s_per_token, 2),
        "tokens_per_s": round(edges * one.tokens_per_s, 1),
        "passes_per_s": round(edges * one.passes_per_s, 2),
        "messages_per_s": round(edges * one.messages_per_s, 1),
    }


def _kinds(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points that differ in more than how many devices they have."""
    kinds: dict[str, dict[str, Any]] = {}
    for settings in points:
        rest = {name: value for name, value in settings.items() if name != "load.devices"}
        kinds.setdefault(json.dumps(rest, sort_keys=True, default=str), settings)
    return list(kinds.values())
