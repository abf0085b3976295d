"""Which tokens a sampler may choose: top-k, then top-p, then min-p.

Tokens are *ranked*: larger logit first, ties by lower id. Each cut keeps a head of that ranking, so what
survives all of them is its first n tokens, and the membership rules are three counts:

- top-k: the first k. Ties at the border: the lowest ids.
- top-p: a token stays while the tokens ranked before it, of those that top-k left, weigh less than p of their
  total. The first always stays.
- min-p: a token stays while its probability is at least min_p times the first one's.

This is transformers' order (temperature, top-k, top-p, min-p), with ties made definite. A token whose logit
is -inf never survives. Top-p sums weights exp((logit - largest) / T) in whole numbers of 2^-32: sums of whole
numbers are exact in a double, in any order, so that two libraries, or two batch widths, find the same border
even where probabilities tie.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import NUMPY, Arrays
from .sampling import Sampling

__all__ = ["log_min_p", "survivors", "weights"]

_WEIGHT_ONE = 2.0**32
"""A vocabulary of 2^21 tokens still sums below 2^53."""
_BLOCK = 8192
"""Tokens at a time: doubles that stay in a core's cache, in memory that is not handed back each time."""
_ROUGH = 4e-6
"""Relative error of a total in float32. Depths are off by 3 roundings, and their mean under the softmax is at
most log V, 12 or so: 2e-6. Exponentials and sums add as much."""


def weights(depth: Any, arrays: Arrays) -> Any:
    """Top-p's weights of tokens that are `depth` = (logit - largest) / T below the first."""
    w = arrays.exp(depth)
    w *= _WEIGHT_ONE
    return arrays.rint(w)


def log_min_p(sampling: Sampling) -> float:
    """The depth at which min-p cuts."""
    return math.log(sampling.min_p) if sampling.min_p > 0 else -math.inf


def survivors(row: npt.NDArray[Any], sampling: Sampling) -> npt.NDArray[np.int64]:
    """Ids of the tokens of one row [V] that survive the cuts, ascending.

    Temperature above 0, the largest logit finite. Sorts only a head of the ranking that is known to hold the
    survivors.
    """
    if not sampling.has_cuts:
        return np.flatnonzero(row > -np.inf)
    temperature = sampling.temperature
    largest = float(row.max())
    # 1. Ids of a head of the ranking, not too long, and how many of its tokens top-k and top-p leave.
    if 0 < sampling.top_k < row.shape[0]:
        ids = _likeliest(row, largest, temperature, sampling.top_k)
        ranked = np.sort(row[ids])[::-1]
        depth = _depth(ranked[: sampling.top_k], temperature, largest)
        size = int(np.count_nonzero(depth > -np.inf))
        if sampling.top_p < 1:
            upto = np.cumsum(weights(depth, NUMPY))
            size = min(size, _count_until(upto, sampling.top_p * float(upto[-1])))
    elif sampling.top_p < 1:
        ids, size = _nucleus(row, largest, sampling)
        ranked = np.sort(row[ids])[::-1]
    else:
        slack = 1e-6 + abs(largest / temperature) * 1e-15
        ids = _within(row, largest, (slack - log_min_p(sampling)) * temperature)
        depth = _depth(row[ids], temperature, largest)
        return _taken(ids, (depth >= log_min_p(sampling)) & (depth > -np.inf))
    # 2. How many of those min-p leaves.
    if sampling.min_p > 0:
        depth = _depth(ranked[:size], temperature, largest)
        size = int(np.count_nonzero(depth >= log_min_p(sampling)))
    # 3. Which: all above the border, and the lowest ids of those at it.
    values, border = row[ids], ranked[size - 1]
    at_border = values == border
    num_above = int(np.count_nonzero(values > border))
    return _taken(ids, (values > border) | (at_border & (np.cumsum(at_border) <= size - num_above)))


def _depth(values: npt.NDArray[Any], temperature: float, largest: float) -> npt.NDArray[np.float64]:
    depth = values.astype(np.float64)
    depth /= temperature
    depth -= largest / temperature
    return depth


def _count_until(upto: npt.NDArray[np.float64], wanted: float) -> int:
    """How many tokens of the ranking, whose weights sum up to `upto`, until they weigh `wanted`."""
    reached = int(upto.searchsorted(wanted))
    return min(reached + 1, len(upto))


def _likeliest(
    row: npt.NDArray[Any], largest: float, temperature: float, count: int
) -> npt.NDArray[np.int64]:
    """Ids of at least the `count` likeliest tokens, all ties included."""
    reach = 8.0
    while True:
        ids = _within(row, largest, reach * temperature)
        if ids.shape[0] >= count:
            values = row[ids]
            return _taken(ids, values >= np.partition(values, -count)[-count])
        reach = 2 * reach if reach < 64 else math.inf


def _nucleus(row: npt.NDArray[Any], largest: float, sampling: Sampling) -> tuple[npt.NDArray[np.int64], int]:
    """Ids of a head of the ranking that holds what top-p leaves, and how many that are."""
    temperature, share = sampling.temperature, sampling.top_p
    low, high = _rough_total(row, largest, temperature)
    reach = 10.0  # a look at the whole row costs more than a few hundred tokens too many
    while True:
        ids = _within(row, largest, reach * temperature)
        upto = np.cumsum(weights(_depth(np.sort(row[ids])[::-1], temperature, largest), NUMPY))
        if upto[-1] >= share * high or reach > 23:  # where every weight is 0
            break
        reach *= 1.6
    size = _count_until(upto, share * low)
    if size != _count_until(upto, share * high):  # a row in ten or fewer: the bounds do not decide
        size = _count_until(upto, share * _total(row, largest, temperature))
    return ids, size


def _within(row: npt.NDArray[Any], largest: float, reach: float) -> npt.NDArray[np.int64]:
    """Ids of the tokens `reach` or a little more below the largest: a head of the ranking in any case."""
    with np.errstate(over="ignore"):  # the lowest of floats is a common mask
        border = np.nextafter(row.dtype.type(largest - reach), row.dtype.type(-np.inf))
    return np.flatnonzero(row >= border)


def _rough_total(row: npt.NDArray[Any], largest: float, temperature: float) -> tuple[float, float]:
    """Bounds of the sum of all weights, in a third of the time of the sum itself."""
    if row.dtype != np.float32:
        total = _total(row, largest, temperature)
        return total, total
    total = 0.0
    with np.errstate(over="ignore"):  # of masked logits
        for start in range(0, row.shape[0], 2 * _BLOCK):
            depth = row[start : start + 2 * _BLOCK] - np.float32(largest)
            depth *= np.float32(1 / temperature)
            total += float(np.exp(depth, out=depth).sum())
    error = _ROUGH + row.shape[0] * 0.5 / _WEIGHT_ONE / total  # each weight is rounded
    total *= _WEIGHT_ONE
    return total * (1 - error), total * (1 + error)


def _taken(ids: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = ids[kept]
    return found


def _total(row: npt.NDArray[Any], largest: float, temperature: float) -> float:
    """The sum of all weights."""
    total = 0.0
    for start in range(0, row.shape[0], _BLOCK):
        total += float(weights(_depth(row[start : start + _BLOCK], temperature, largest), NUMPY).sum())
    return total
