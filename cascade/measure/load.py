"""How busy the device's processor is with other work, as its draft steps feel it."""

from __future__ import annotations

__all__ = ["LoadEstimator"]

FORGETTING = 0.9
"""Of evidence, with every step: some ten are remembered. Other work comes and goes."""


class LoadEstimator:
    """The share of lately drafted steps' time in which the processor worked for somebody else."""

    def __init__(self) -> None:
        self._waited_s = self._seconds = 0.0

    @property
    def share(self) -> float:
        """0: none of it, and before the first step."""
        return self._waited_s / self._seconds if self._seconds else 0.0

    def add(self, waited_s: float, seconds: float) -> None:
        """A step took so long, and waited for the processor for that part of it."""
        self._waited_s = FORGETTING * self._waited_s + waited_s
        self._seconds = FORGETTING * self._seconds + seconds
