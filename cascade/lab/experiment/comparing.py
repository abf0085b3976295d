"""Our points beside a published figure, computed from the runs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SettingsError
from .capacity import devices_held
from .measured import FIGURES
from .settings import PublishedSettings
from .store import Run
from .summary import Group, grouped

__all__ = ["Ours", "capacity", "stand_beside"]

MORE_IS_BETTER = ("tokens_per_s", "hinted_share", "kept_share", "at_once_share", "quality")


@dataclass(frozen=True, slots=True)
class Ours:
    """What stands beside a published figure."""

    at: Mapping[str, Any]
    """The values of `per`."""
    value: float
    text: str
    """With its unit."""


def stand_beside(published: PublishedSettings, runs: Sequence[Run]) -> list[Ours]:
    """One figure for each combination of the settings in `per`, in the order of the grid."""
    if published.ours not in FIGURES:
        raise SettingsError("published.ours", f"there is no figure {published.ours!r}")
    groups = grouped(runs)
    for name in (*published.per, *published.of, *published.against):
        if name not in groups[0].settings:
            raise SettingsError("published", f"{name!r} is no setting of a run")
    places = list(dict.fromkeys(tuple(group.settings[name] for name in published.per) for group in groups))
    found = []
    for place in places:
        at = dict(zip(published.per, place, strict=True))
        value = _value(
            published, _having(groups, at | dict(published.of)), _having(groups, at | dict(published.against))
        )
        found.append(Ours(at, value, _text(published, value)))
    return found


def capacity(groups: Sequence[Group], figure: str, goal: float) -> float:
    """Devices at which a figure passes its goal, on straight lines between the points."""
    points = sorted((group.settings["load.devices"], group.figure(figure).mean) for group in groups)
    held = devices_held(points, goal)
    return float(points[-1][0]) if held is None else held  # at least: nobody looked further


def _having(groups: Sequence[Group], where: Mapping[str, Any]) -> list[Group]:
    found = [group for group in groups if all(group.settings[name] == value for name, value in where.items())]
    if not found:
        raise SettingsError("published", f"no point has {dict(where)}")
    return found


def _value(published: PublishedSettings, of: Sequence[Group], against: Sequence[Group]) -> float:
    if published.how == "capacity":
        ours, theirs = (capacity(groups, published.ours, published.goal_ms) for groups in (of, against))
        return ours / theirs if theirs else 0.0
    best = max if published.ours in MORE_IS_BETTER else min
    ours = best(group.figure(published.ours).mean for group in of)
    if published.how == "value":
        return ours
    theirs = best(group.figure(published.ours).mean for group in against)
    if not ours or not theirs:
        return 0.0
    match published.how:
        case "speedup":
            return theirs / ours
        case "gain":
            return ours / theirs
        case "less":
            return 1 - ours / theirs
        case _:
            return ours / theirs - 1


def _text(published: PublishedSettings, value: float) -> str:
    match published.how:
        case "value":
            unit = FIGURES[published.ours].partition("[")[2].rstrip("]")
            return f"{value:.3g}{f' {unit}' if unit else ''}"
        case "less":
            return f"{abs(100 * value):.1f} % {'less' if value >= 0 else 'more'}"
        case "distance":
            return f"{100 * value:+.1f} %"
    return f"{value:.2f} x"
