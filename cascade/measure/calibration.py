"""How likely the target confirms a guess, learnt online from what the draft says about it.

Logistic regression, its weights tracked by a Kalman filter: each verdict moves them by as much as they are
uncertain, and a little uncertainty comes back with every verdict, most of it to the intercept. So a draft
that is too sure of itself is seen through within some hundred tokens, and a text on which it suddenly fares
worse within some dozen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Calibration", "Confidence"]

MOST_LOGIT = 7.0
MOST_VARIANCE = 4.0
NEW_TEXT_VARIANCE = 0.05
"""Another text may suit the draft better or worse: so unsure is the intercept when a stream begins."""
INTERCEPT_DRIFT = 4e-4
"""Variance that each verdict gives back: about a hundred verdicts are remembered."""
SLOPE_DRIFT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """What a draft says about one guess; None where it says nothing of the kind."""

    promise: float | None = None
    """Its own estimate of the chance that the target picks this token."""
    probability: float | None = None
    """Of the guess under the draft's softmax; margin and entropy come with it."""
    margin: float = 0.0
    """How far its score stands above that of the runner-up, shared noise included."""
    entropy: float = 0.0
    """Of the draft's softmax, in nats."""


class Calibration:
    """Chances of agreement. A stream forks it and learns; the device adopts what a stream has learnt."""

    def __init__(self, *, prior: float = 0.8) -> None:
        at_first = _logit(prior)
        # Features: the intercept, what was said, the place in the window. What is said is believed at first.
        self._silent = _Weights([at_first, 0.0], [1.0, 0.05])
        self._promise = _Weights([0.0, 1.0, 0.0], [1.0, 0.2, 0.05])
        self._softmax = _Weights([0.0, 0.7, 0.3, 0.0, 0.0], [1.0, 0.2, 0.2, 0.2, 0.05])

    def chance(self, confidence: Confidence, place: int) -> float:
        """That the target confirms the guess at this place in the window, those before it being confirmed."""
        weights, features = self._read(confidence, place)
        return weights.chance(features)

    def learn(self, confidence: Confidence, place: int, *, is_agreed: bool) -> None:
        weights, features = self._read(confidence, place)
        weights.learn(features, float(is_agreed))

    def fork(self) -> Calibration:
        """For a new text: what is known, and the doubt whether it holds here too."""
        twin = Calibration()
        twin.adopt(self)
        for weights in (twin._silent, twin._promise, twin._softmax):
            weights.covariance[0][0] += NEW_TEXT_VARIANCE
        return twin

    def adopt(self, other: Calibration) -> None:
        """Remember what another one has learnt."""
        self._silent = other._silent.copy()
        self._promise = other._promise.copy()
        self._softmax = other._softmax.copy()

    def _read(self, confidence: Confidence, place: int) -> tuple[_Weights, Sequence[float]]:
        depth = min(place, 16) / 8
        if confidence.promise is not None:
            return self._promise, (1.0, _logit(confidence.promise), depth)
        if confidence.probability is not None:
            margin = min(confidence.margin, 8.0) / 2 - 1
            return self._softmax, (1.0, _logit(confidence.probability), margin, confidence.entropy - 1, depth)
        return self._silent, (1.0, depth)


class _Weights:
    """A normal distribution over the weights of one regression."""

    __slots__ = ("covariance", "mean")

    def __init__(self, mean: list[float], variances: Sequence[float]) -> None:
        self.mean = mean
        self.covariance = [
            [variance if row == column else 0.0 for column in range(len(variances))]
            for row, variance in enumerate(variances)
        ]

    def chance(self, features: Sequence[float]) -> float:
        return _sigmoid(_dot(self.mean, features))

    def learn(self, features: Sequence[float], verdict: float) -> None:
        """One step of an extended Kalman filter for a verdict of 0 or 1."""
        covariance = self.covariance
        for index, row in enumerate(covariance):
            drift = SLOPE_DRIFT if index else INTERCEPT_DRIFT
            row[index] = min(row[index] + drift, MOST_VARIANCE)
        chance = self.chance(features)
        moved = [_dot(row, features) for row in covariance]
        information = chance * (1 - chance)
        shrinkage = 1 / (1 + information * _dot(moved, features))
        step = (verdict - chance) * shrinkage
        self.mean = [weight + step * each for weight, each in zip(self.mean, moved, strict=True)]
        for row, each in zip(covariance, moved, strict=True):
            for index, other in enumerate(moved):
                row[index] -= information * shrinkage * each * other

    def copy(self) -> _Weights:
        twin = _Weights(self.mean.copy(), [])
        twin.covariance = [row.copy() for row in self.covariance]
        return twin


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(map(float.__mul__, left, right))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _logit(chance: float) -> float:
    if chance <= 0:
        return -MOST_LOGIT
    if chance >= 1:
        return MOST_LOGIT
    return min(max(math.log(chance / (1 - chance)), -MOST_LOGIT), MOST_LOGIT)
