"""How fast a link carries bytes, from round trips of messages of different sizes."""

from __future__ import annotations

import math

__all__ = ["BandwidthEstimator"]

FORGETTING = 0.98
"""Of evidence, with every round trip: some fifty are remembered."""
CLEAR = 4.0
"""Standard errors that the seconds of a byte must be above nothing; below, the link is too fast to show."""
ROUNDING_S = 0.001
"""Stamps are in milliseconds."""


class BandwidthEstimator:
    """Least squares with forgetting: round trip = what any message takes + seconds of a byte * bytes."""

    def __init__(self) -> None:
        self._weight = self._bytes = self._seconds = 0.0
        """The weight of all evidence, and the means."""
        self._bytes_squared = self._seconds_squared = self._product = 0.0
        """Weighted sums around the means."""

    def add(self, num_bytes: int, rtt_s: float) -> None:
        """A message of so many bytes went up, and a short one came back."""
        kept = FORGETTING * self._weight
        self._weight = kept + 1
        more_bytes, more_s = num_bytes - self._bytes, rtt_s - self._seconds
        self._bytes += more_bytes / self._weight
        self._seconds += more_s / self._weight
        share = kept / self._weight
        self._bytes_squared = FORGETTING * self._bytes_squared + share * more_bytes**2
        self._seconds_squared = FORGETTING * self._seconds_squared + share * more_s**2
        self._product = FORGETTING * self._product + share * more_bytes * more_s

    @property
    def bytes_per_s(self) -> float | None:
        """None where sizes make no clear difference: nothing was large enough for this link."""
        if self._bytes_squared <= 0 or self._weight < 2:
            return None
        s_per_byte = self._product / self._bytes_squared
        unexplained = max(0.0, self._seconds_squared - s_per_byte * self._product) / self._weight
        error = math.sqrt((unexplained + ROUNDING_S**2) / self._bytes_squared)
        return 1 / s_per_byte if s_per_byte > CLEAR * error else None
