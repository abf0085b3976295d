"""The pick of one row of a large vocabulary, with noise only for the tokens that can still win.

Every token is hashed (a few integer operations), but logarithms are dear. The noise grows with the hash, so a
token that needs noise above x to beat a score already seen needs a hash above H(x), and most tokens are out
by one comparison. The bounds are exact, with slack: the winner is the one of `dense.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import MASK, NUMPY
from .noise import gumbel_of_hash, hash_of_lanes, key_of, token_lanes
from .sampling import Sampling

__all__ = ["noisy_scores", "winner"]

_FEW = 512
"""So many tokens are scored without asking which of them can win."""
_NEAR = 4.0
"""Tokens this close to the largest logit, in units of T, are judged apart from those below."""


def noisy_scores(
    row: npt.NDArray[Any], ids: npt.NDArray[np.int64], sampling: Sampling, position: int
) -> npt.NDArray[np.float64]:
    """logit / T + g of the tokens `ids` of one row [V]."""
    return _scores(
        row[ids], _hashes(token_lanes(row.shape[0])[ids], sampling, position), sampling.temperature
    )


def winner(
    row: npt.NDArray[Any], ids: npt.NDArray[np.int64] | None, sampling: Sampling, position: int
) -> int:
    """The token of `ids` (ascending; None: all of the row [V]) with the best score, ties to the lowest id."""
    lanes = token_lanes(row.shape[0])
    if ids is not None:
        row, lanes = row[ids], lanes[ids]
    h = _hashes(lanes, sampling, position)
    if row.shape[0] > _FEW:
        able = _contenders(row, h, sampling.temperature)
        row, h, ids = row[able], h[able], able if ids is None else ids[able]
    best = int(_scores(row, h, sampling.temperature).argmax())  # the first of equals
    return best if ids is None else int(ids[best])


def _hashes(lanes: npt.NDArray[np.uint32], sampling: Sampling, position: int) -> npt.NDArray[np.uint32]:
    k0, k1 = key_of(sampling.seed, position)
    hashes: npt.NDArray[np.uint32] = hash_of_lanes(lanes, np.uint32(k0), np.uint32(k1), NUMPY)
    return hashes


def _scores(
    values: npt.NDArray[Any], h: npt.NDArray[np.uint32], temperature: float
) -> npt.NDArray[np.float64]:
    score: npt.NDArray[np.float64] = gumbel_of_hash(h, NUMPY)
    score += values.astype(np.float64) / temperature
    return score


def _contenders(
    values: npt.NDArray[Any], h: npt.NDArray[np.uint32], temperature: float
) -> npt.NDArray[np.int64]:
    """Indices of the tokens that may have the best score."""
    # 1. A score to beat: the better of the likeliest token and the one with the most noise.
    likeliest = values.argmax()
    seen = np.array([likeliest, h.argmax()])
    best = float(_scores(values[seen], h[seen], temperature).max())
    # 2. The noise that a token of the largest logit needs to reach it. The slack covers rounding, of sums at
    # any size too.
    peak = float(values[likeliest]) / temperature
    needed = best - peak - 1e-6 - abs(peak) * 1e-15
    # 3. Tokens further than _NEAR below the largest need _NEAR more noise than that.
    with np.errstate(over="ignore"):  # the lowest of floats is a common mask
        border = values.dtype.type(float(values[likeliest]) - _NEAR * temperature)
        near = values >= np.nextafter(border, values.dtype.type(-np.inf))
    able = near & (h >= _least_hash(needed))
    able |= h >= _least_hash(needed + _NEAR)
    return np.flatnonzero(able)


def _least_hash(noise: float) -> np.uint32:
    """H(x): no smaller hash gives noise of x or more."""
    if noise < -4:  # all noise is above -3.2
        return np.uint32(0)
    return np.uint32(min(max(int(math.exp(-math.exp(-noise)) * 2.0**32) - 2, 0), MASK))
