"""Runs of one point put together: mean and confidence interval over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .store import Run

__all__ = ["Estimate", "Group", "estimate", "grouped"]

# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal distribution's will do.
T_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11)
T_95_MANY = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    mean: float
    half_width: float
    """Of the 95 % confidence interval over seeds; nan for a single one."""

    def __str__(self) -> str:
        if math.isnan(self.half_width):
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {self.half_width:.2f}"


@dataclass(frozen=True, slots=True)
class Group:
    """All seeds of one point."""

    settings: Mapping[str, Any]
    runs: Sequence[Run]

    def figure(self, name: str) -> Estimate:
        return estimate([run.figures[name] for run in self.runs])


def estimate(values: Sequence[float]) -> Estimate:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, math.nan)
    freedom = len(values) - 1
    t = T_95[freedom - 1] if freedom <= len(T_95) else T_95_MANY
    return Estimate(mean, t * statistics.stdev(values) / math.sqrt(len(values)))


def grouped(runs: Iterable[Run], where: Mapping[str, Any] | None = None) -> list[Group]:
    """By point, in the order of the grid; only points with the values of `where`."""
    points: dict[str, list[Run]] = {}
    for run in runs:
        if all(run.settings.get(name) == value for name, value in (where or {}).items()):
            points.setdefault(run.folder.name.partition("-")[0], []).append(run)
    return [Group(members[0].settings, members) for members in points.values()]
