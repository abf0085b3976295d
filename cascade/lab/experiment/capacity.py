"""The capacity curve: how many devices hold a latency goal. The runs' own, beside it the fluid model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from ..fluid import Crowd, devices_within
from .crowd import crowd_of
from .summary import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["devices_held", "draw_capacity"]

NUM_GOALS = 60
BEYOND = 0.5
"""The fluid model goes on so much further than the runs."""
MODEL_STYLE: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (1, 2))}

Point = tuple[float, float]
"""Devices, and what they waited for a token."""


def devices_held(points: Sequence[Point], goal: float) -> float | None:
    """On straight lines between the points, from few devices to many; 0 where the fewest miss the goal, None
    where the most hold it: there were no more to ask."""
    if points[0][1] > goal:
        return 0.0
    for (few, short), (many, long) in pairwise(points):
        if long > goal:
            return few + (many - few) * (goal - short) / (long - short)
    return None


def draw_capacity(
    axes: Axes, y: str, curves: Sequence[tuple[str, Sequence[Group]]], styles: Sequence[dict[str, Any]]
) -> None:
    """A curve for each label; `y` is the latency that the goal is about."""
    drawn = [
        sorted((group.settings["load.devices"], group.figure(y).mean) for group in groups)
        for _, groups in curves
    ]
    latencies = [latency for points in drawn for _, latency in points]
    least, most = min(latencies), max(latencies)
    goals = [least + (most - least) * step / (NUM_GOALS - 1) for step in range(NUM_GOALS)]
    has_model = False
    for (label, groups), points, style in zip(curves, drawn, styles, strict=True):
        known = [(goal, devices) for goal in goals if (devices := devices_held(points, goal))]
        line = {name: value for name, value in style.items() if name not in ("marker", "markersize")}
        axes.plot(*_columns(known), label=label, **line)
        places = _columns([(latency, devices) for devices, latency in points])
        axes.plot(*places, style["marker"], color=style["color"], markersize=style["markersize"])
        crowd = _crowd(groups) if y == "ms_per_token" else None
        if crowd is not None:
            has_model = True
            edges = groups[0].settings["load.edges"]
            asked = [*goals, *(most * (1 + BEYOND * step / 8) for step in range(1, 9))]
            model = [(goal, edges * devices_within(crowd, goal / 1000)) for goal in asked]
            axes.plot(*_columns([place for place in model if place[1]]), color=style["color"], **MODEL_STYLE)
    if has_model:
        axes.plot([], [], color="black", label="fluid model", **MODEL_STYLE)
    axes.set_ylim(bottom=0)


def _crowd(groups: Sequence[Group]) -> Crowd | None:
    """All that differs is how many they are; None where that is not so, or the model knows too little."""
    try:
        crowds = [crowd_of(group.settings) for group in groups]
    except SettingsError:
        return None
    bare = [dataclasses.replace(crowd, cost_s=float) for crowd in crowds]
    edges = {group.settings["load.edges"] for group in groups}
    return crowds[0] if len(set(bare)) == len(edges) == 1 else None


def _columns(places: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in places], [y for _, y in places]
