"""What a draft says about its guess, read off its last row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..decoding import Sampling
from ..decoding.sampler import as_numpy, score_of
from ..measure import Confidence
from ..models.base import IN_LOGITS, TokenSequence, promise_of

__all__ = ["confidence_in"]

SILENT = Confidence()
NUM_RIVALS = 8
"""Likeliest tokens among which the runner-up is looked for; shared noise seldom lifts another one so high."""

DEPTHS = (4.0, 12.0)
"""Below the largest logit: where they are looked for first."""


def confidence_in(
    sequence: TokenSequence, logits: Any, token: int, sampling: Sampling, position: int
) -> Confidence:
    """About `token`, picked from `logits` [V] for `position`."""
    promise = promise_of(sequence)
    if promise is None:
        return SILENT
    if promise != IN_LOGITS:
        return Confidence(promise=float(promise))
    row = as_numpy(logits)
    shifted = row - row.max()
    weights = np.exp(shifted)
    total = float(weights.sum())
    return Confidence(
        probability=float(weights[token]) / total,
        margin=_margin(row, token, sampling, position),
        # -sum p log p, with p = w / total; a masked token has weight 0 and a logit of -inf
        entropy=float(np.log(total) - weights @ np.maximum(shifted, -80.0) / total),
    )


def _margin(row: Any, token: int, sampling: Sampling, position: int) -> float:
    """Between the pick's score and the best other one, in units of the temperature."""
    rivals = _likeliest(row, min(NUM_RIVALS, row.shape[0]))
    rivals = rivals[rivals != token]
    if not rivals.size:
        return 0.0
    scores = score_of(row, sampling, position, [token, *rivals.tolist()])
    margin = float(scores[0] - scores[1:].max())
    return min(max(margin, 0.0), 100.0)


def _likeliest(row: Any, count: int) -> Any:
    """Ids of the `count` largest logits, in no order. Most tokens of a large vocabulary are far below."""
    peak = row.max()
    for depth in DEPTHS:
        near = np.flatnonzero(row >= peak - depth)
        if near.size >= count:
            return near[np.argpartition(row[near], -count)[-count:]]
    return np.argpartition(row, -count)[-count:]
