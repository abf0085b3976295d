"""Picks of many rows at once, every token of every row computed: for small vocabularies, and for GPUs.

Written against `Arrays`, so NumPy and torch run the same lines. `race.py` picks the same tokens with less
work where one core meets a large vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import NUMPY, Arrays
from .cuts import log_min_p, weights
from .noise import gumbel_of_hash, hash_of_lanes, keys_of, token_lanes
from .sampling import Sampling

__all__ = ["greedy_dense", "pick_dense"]


def pick_dense(
    logits: Any, samplings: Sequence[Sampling], positions: Sequence[int], arrays: Arrays
) -> tuple[Any, Any]:
    """Picks [R] of rows [R, V], all at temperatures above 0; [R] floats, finite where a row is sound."""
    k0, k1 = map(arrays.lane_column, keys_of([s.seed for s in samplings], positions))
    lanes = token_lanes(logits.shape[1], arrays)
    temperature = arrays.column([s.temperature for s in samplings])
    for s in samplings:
        if s.has_cuts:
            break
    else:
        score = arrays.floats(logits)
        score /= temperature
        score += gumbel_of_hash(hash_of_lanes(lanes, k0, k1, arrays), arrays)
        return _best(score, None, arrays)
    order = arrays.ranking(logits)  # [R, V]
    score = arrays.floats(arrays.gather(logits, order))
    score /= temperature
    kept = _survive(score, samplings, arrays)
    score += gumbel_of_hash(hash_of_lanes(lanes[order], k0, k1, arrays), arrays)
    picks, _ = _best(arrays.where(kept, score, -math.inf), order, arrays)
    return picks, arrays.largest(logits)[:, 0]  # a NaN ranks last, and would go unseen


def greedy_dense(logits: Any, arrays: Arrays) -> tuple[Any, Any]:
    """The lowest id of every row's largest logit [R]; and [R] floats, finite where the row was sound."""
    return _best(logits, None, arrays)


def _survive(ranked: Any, samplings: Sequence[Sampling], arrays: Arrays) -> Any:
    """Which tokens survive the cuts (rules in `cuts.py`). `ranked` = logit / T, [R, V], descending."""
    vocab_size = ranked.shape[1]
    rank = arrays.floats(arrays.tokens(vocab_size))
    depth = ranked - ranked[:, :1]
    kept = depth > -math.inf
    if any(s.top_k for s in samplings):
        kept &= rank < arrays.column([s.top_k or vocab_size for s in samplings])
    if any(s.top_p < 1 for s in samplings):
        weight = arrays.where(kept, weights(depth, arrays), 0.0)
        upto = arrays.running_sum(weight)
        share = arrays.column([s.top_p if s.top_p < 1 else math.inf for s in samplings])
        kept &= (upto - weight < share * upto[:, -1:]) | (rank == 0)
    if any(s.min_p for s in samplings):
        kept &= depth >= arrays.column([log_min_p(s) for s in samplings])
    return kept


def _best(score: Any, ids: Any, arrays: Arrays) -> tuple[Any, Any]:
    """The lowest id of every row's best score [R], and that score [R]. No ids: counted along the row."""
    if ids is None and arrays is NUMPY:
        picks = score.argmax(axis=1)  # the first of equals, and a NaN before all; torch promises neither
        return picks, score[np.arange(picks.shape[0]), picks]
    best = arrays.largest(score)
    if ids is None:
        ids = arrays.tokens(score.shape[1])[None]
    return arrays.smallest(arrays.where(score == best, ids, score.shape[1])), best[:, 0]
