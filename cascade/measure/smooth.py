"""A running mean that forgets."""

from __future__ import annotations

__all__ = ["Smoothed"]


class Smoothed:
    """An exponentially weighted mean and mean deviation; the first value counts in full."""

    __slots__ = ("_weight", "deviation", "value")

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self.value: float | None = None
        self.deviation = 0.0

    def add(self, sample: float) -> None:
        if self.value is None:
            self.value = sample
            return
        error = sample - self.value
        self.value += self._weight * error
        self.deviation += self._weight * (abs(error) - self.deviation)
