"""A running mean that forgets, and begins anew when what it measures has become another."""

from __future__ import annotations

__all__ = ["Smoothed"]


JUMP_DEVIATIONS = 4.0
JUMP_SHARE = 0.5
"""A sample further from the mean than both of these is an outlier and not counted; two in a row on one side
are a new value."""


class Smoothed:
    """An exponentially weighted mean and mean deviation; the first value counts in full."""

    __slots__ = ("_outlier_side", "_weight", "deviation", "value")

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self.value: float | None = None
        self.deviation = 0.0
        self._outlier_side = 0

    @property
    def is_in_doubt(self) -> bool:
        """The last sample was an outlier: another one would tell whether there is something new."""
        return self._outlier_side != 0

    def add(self, sample: float) -> None:
        if self.value is None:
            self.value = sample
            return
        error = sample - self.value
        if abs(error) > max(JUMP_DEVIATIONS * self.deviation, JUMP_SHARE * abs(self.value)):
            side = 1 if error > 0 else -1
            if side == self._outlier_side:
                self.value = sample
                self._outlier_side = 0
            else:
                self._outlier_side = side
            return
        self._outlier_side = 0
        self.value += self._weight * error
        self.deviation += self._weight * (abs(error) - self.deviation)
