"""Cost curves as they are written down: declared by a line, or measured at a few widths."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from ..errors import SettingsError
from ..settings import check_number

__all__ = ["check_curve", "on_curve"]

Curve = Sequence[tuple[float, float]]
"""(rows, what a pass of so many takes), from narrow to wide."""


def check_curve(field: str, curve: object) -> tuple[tuple[float, float], ...]:
    """The corners of a curve that a file gives; an error of ours where they are none."""
    if not isinstance(curve, list | tuple) or len(curve) < 2:
        raise SettingsError(field, "must be a list of at least two [rows, milliseconds]")
    corners = []
    for corner in curve:
        if not isinstance(corner, list | tuple) or len(corner) != 2:
            raise SettingsError(field, f"takes pairs, [rows, milliseconds], not {corner!r}")
        rows, cost = corner
        check_number(field, rows, low=1)
        check_number(field, cost, low=0)
        corners.append((float(rows), float(cost)))
    for (rows, cost), (more_rows, more_cost) in pairwise(corners):
        if more_rows <= rows or more_cost < cost:
            raise SettingsError(field, f"must rise, and does not at {more_rows:g} rows")
    return tuple(corners)


def on_curve(curve: Curve, rows: float) -> float:
    """On straight lines between the corners; beyond the last two as between them."""
    right = min(max(1, bisect_right(curve, rows, key=lambda corner: corner[0])), len(curve) - 1)
    (narrow, less), (wide, more) = curve[right - 1], curve[right]
    if rows <= narrow:
        return less
    return less + (more - less) * (rows - narrow) / (wide - narrow)
