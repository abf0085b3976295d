"""How often the target confirms what the draft guessed."""

from __future__ import annotations

__all__ = ["AgreementEstimator"]

REMEMBERED_VERDICTS = 16.0
"""What the texts before count for in a new one."""


class AgreementEstimator:
    """A Beta-Bernoulli mean over recent verdicts. Only compared tokens count: what stands behind the first
    disagreement of a chain was never judged."""

    def __init__(self, *, prior: float = 0.8, prior_weight: float = 4.0, memory: float = 256.0) -> None:
        self._num_agreed = prior * prior_weight
        self._num_judged = prior_weight
        self._memory = memory

    @property
    def chance(self) -> float:
        """The chance that the next guess is confirmed."""
        return self._num_agreed / self._num_judged

    def fork(self, *, memory: float) -> AgreementEstimator:
        """For a new text: the same belief, held less firmly."""
        weight = min(self._num_judged, REMEMBERED_VERDICTS)
        return AgreementEstimator(prior=self.chance, prior_weight=weight, memory=memory)

    def add(self, *, num_agreed: int, num_disagreed: int) -> None:
        self._num_agreed += num_agreed
        self._num_judged += num_agreed + num_disagreed
        if self._num_judged > self._memory:
            scale = self._memory / self._num_judged
            self._num_agreed *= scale
            self._num_judged = self._memory
