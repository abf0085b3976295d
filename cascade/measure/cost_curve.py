"""t(rows): what a pass of so many rows takes, learnt from the passes that run anyway.

Passes of about the same width share a bucket, whose medians shrug off a pass that something else slowed down.
A line through all buckets (a fixed cost and a cost per row) steadies those with few passes and goes on where
nothing was measured; many passes in a bucket outvote it, so the curve may have any shape. It never falls: a
wider pass that looks cheaper is noise, and is averaged with its neighbours.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CostCurve"]

BUCKETS_PER_OCTAVE = 4
PASSES_PER_BUCKET = 15
"""Older ones are forgotten: a machine may get slower, or its other work go away."""
LINE_WEIGHT = 1.0
"""The line counts as so many passes in every bucket."""
FAR_ROWS = 1e9
"""Beyond any pass: the last piece of the curve ends here."""


class CostCurve:
    """Seconds by rows. Before the first pass `start_s`, whatever the width: all hints seem worth it."""

    def __init__(self, *, start_s: float = 0.05) -> None:
        self._start_s = start_s
        self._buckets: dict[int, deque[tuple[int, float]]] = {}
        self._knots: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def is_measured(self) -> bool:
        return bool(self._buckets)

    def add(self, rows: int, seconds: float) -> None:
        """A pass of `rows` rows took so long."""
        number = round(BUCKETS_PER_OCTAVE * math.log2(max(1, rows)))
        self._buckets.setdefault(number, deque(maxlen=PASSES_PER_BUCKET)).append((rows, seconds))
        self._knots = None

    def seconds(self, rows: float) -> float:
        return float(self.seconds_of(rows))

    def seconds_of(self, rows: ArrayLike) -> NDArray[np.float64]:
        """The same for many widths at once."""
        if self._knots is None:
            self._knots = self._fit()
        result: NDArray[np.float64] = np.interp(np.asarray(rows, dtype=np.float64), *self._knots)
        return result

    def _fit(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The corners of the curve: rows, seconds."""
        if not self._buckets:
            return np.array([1.0, FAR_ROWS]), np.array([self._start_s, self._start_s])
        passes = [self._buckets[number] for number in sorted(self._buckets)]
        weights = np.array([float(len(bucket)) for bucket in passes])
        rows = np.array([statistics.median(rows for rows, _ in bucket) for bucket in passes])
        seconds = np.array([statistics.median(seconds for _, seconds in bucket) for bucket in passes])
        fixed_s, per_row_s = _line(rows, seconds, weights)
        steadied = (weights * seconds + LINE_WEIGHT * (fixed_s + per_row_s * rows)) / (weights + LINE_WEIGHT)
        rising = _rising(steadied.tolist(), weights.tolist())
        if rows[0] > 1:
            rows = np.concatenate([[1.0], rows])
            rising = [min(fixed_s + per_row_s, rising[0]), *rising]
        rows = np.concatenate([rows, [FAR_ROWS]])
        return rows, np.array([*rising, rising[-1] + per_row_s * (FAR_ROWS - rows[-2])])


def _line(
    rows: NDArray[np.float64], seconds: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Least squares of relative errors: (fixed cost, cost per row), neither below 0."""
    weights = weights / np.maximum(seconds, 1e-9) ** 2
    weights = weights / weights.sum()
    mean_rows, mean_s = float(weights @ rows), float(weights @ seconds)
    spread = float(weights @ (rows - mean_rows) ** 2)
    per_row_s = float(weights @ ((rows - mean_rows) * (seconds - mean_s))) / spread if spread > 1e-9 else 0.0
    per_row_s = min(max(per_row_s, 0.0), mean_s / mean_rows)
    return mean_s - per_row_s * mean_rows, per_row_s


def _rising(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest sequence that never falls: neighbours in the wrong order are pooled."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            both = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / both, both, before[2] + pool[2])
        pools.append(pool)
    return [value for value, _, count in pools for _ in range(count)]
