"""The settings of a session's sampler."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError
from ..settings import check_int, check_number

__all__ = ["Sampling"]

_LEAST_TEMPERATURE = 1e-6
"""Below it, logit / T outgrows the resolution of the noise; ask for 0 instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are picked from logits.

    A text is a function of this, so device and edge use the same. Cuts act in this order: temperature, top_k,
    top_p, min_p. At temperature 0 the largest logit is picked and cuts and seed play no part.
    """

    temperature: float = 0.0
    """0, or at least 1e-6."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 is off."""
    top_p: float = 1.0
    """Keep the likeliest tokens until they hold this much of the probability; 1 is off, 0 keeps one token."""
    min_p: float = 0.0
    """Keep tokens at least this likely, measured by the likeliest; 0 is off."""
    seed: int = 0
    """64 bits, unsigned."""

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, low=0.0, high=100.0)
        if 0 < self.temperature < _LEAST_TEMPERATURE:
            raise SettingsError(
                "temperature", f"must be 0 or at least {_LEAST_TEMPERATURE:g}, not {self.temperature:g}"
            )
        check_int("top_k", self.top_k, low=0)
        check_number("top_p", self.top_p, low=0.0, high=1.0)
        check_number("min_p", self.min_p, low=0.0, high=1.0)
        check_int("seed", self.seed, low=0, high=2**64 - 1)

    @property
    def is_greedy(self) -> bool:
        """Whether the largest logit is picked, without noise."""
        return self.temperature == 0

    @property
    def has_cuts(self) -> bool:
        """Whether any of top-k, top-p and min-p is on."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0
