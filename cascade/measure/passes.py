"""How long the edge's passes take, by how many hints they are fed, from when commits arrive."""

from __future__ import annotations

__all__ = ["PassEstimator"]

FORGETTING = 0.98
"""Of evidence, with every pass: some fifty are remembered."""
OUTLIER = 0.5
"""A gap between commits that is this share off what is expected: not the pass did that, but the link."""
MAX_OUTLIERS = 6
"""In a row; then passes themselves have changed."""
SHORTEST_S = 1e-4
SAYS = 5.0
"""Passes that the edge's own word counts for."""
HINT_DOUBT = 50.0
"""Evidence that a hint costs nothing, in squared hints: so we think until shown otherwise."""


class PassEstimator:
    """Least squares with forgetting: seconds = `base_s` + `hint_s` * hints."""

    def __init__(self) -> None:
        self.base_s = 0.0
        """Of a pass without hints; 0 before anything is known."""
        self.hint_s = 0.0
        """What a hint adds."""
        self._weight = self._hints = self._squares = self._seconds = self._products = 0.0
        self._num_outliers = 0

    @property
    def mean_s(self) -> float | None:
        """Of the passes seen lately."""
        return self._seconds / self._weight if self._weight else None

    def expect_s(self, num_hints: float) -> float:
        return self.base_s + self.hint_s * num_hints

    def add_said(self, seconds: float, num_hints: float) -> None:
        """What the edge says a pass took, in whole milliseconds."""
        is_far_off = abs(seconds - self.expect_s(num_hints)) > OUTLIER * seconds
        if is_far_off:
            self._forget_all()
        if not self._weight:
            self._add(seconds, num_hints, SAYS)

    def add_gap(self, seconds: float, num_hints: float) -> bool:
        """Between two commits, if the second's pass began right after the first's, with so many hints.

        False: it cannot be that; link or edge are not as they were.
        """
        if not self._weight:
            return True
        expected_s = self.expect_s(num_hints)
        if abs(seconds - expected_s) > OUTLIER * expected_s:
            self._num_outliers += 1
            if self._num_outliers < MAX_OUTLIERS:
                return False
            self._forget_all()
        self._num_outliers = 0
        self._add(seconds, num_hints, 1.0)
        return True

    def _forget_all(self) -> None:
        self._weight = self._hints = self._squares = self._seconds = self._products = 0.0

    def _add(self, seconds: float, num_hints: float, weight: float) -> None:
        self._weight = FORGETTING * self._weight + weight
        self._hints = FORGETTING * self._hints + weight * num_hints
        self._squares = FORGETTING * self._squares + weight * num_hints * num_hints
        self._seconds = FORGETTING * self._seconds + weight * seconds
        self._products = FORGETTING * self._products + weight * seconds * num_hints
        mean_hints, mean_s = self._hints / self._weight, self._seconds / self._weight
        spread = self._squares - self._weight * mean_hints**2 + HINT_DOUBT
        slope = (self._products - self._weight * mean_hints * mean_s) / spread
        self.hint_s = min(max(slope, 0.0), mean_s / 4)
        self.base_s = max(mean_s - self.hint_s * mean_hints, mean_s / 4, SHORTEST_S)
