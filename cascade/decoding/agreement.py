"""How many hints the edge keeps.

Row i of logits judges hint i: it was computed after everything before it, hints 0 .. i-1 included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..settings import check_number
from .sampler import score_of
from .sampling import Sampling

__all__ = ["common_prefix", "is_nearly_as_good", "lenient_prefix"]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens two texts share; by halves, for slices compare fast.

    Of hints and the edge's own picks, which may be one more: what is kept losslessly.
    """
    left = left if isinstance(left, list) else list(left)
    right = right if isinstance(right, list) else list(right)
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def lenient_prefix(
    hints: Sequence[int],
    picks: Sequence[int],
    logits: Any,
    sampling: Sampling,
    position: int,
    *,
    alpha: float,
) -> int:
    """Lenient: how many hints, from the first, are good enough.

    Row i of `logits` [n, V] stands for `position` + i. Keeps hint v where score(v) >= score(pick) + log(1 -
    alpha), alpha in [0, 1). At T = 0 scores are logits, and this is p(v) >= (1 - alpha) max p: the Token-v3
    rule of Speculative Cascades (ICLR 2025). alpha = 0 is lossless at every T: a tie is not enough then.
    """
    check_number("alpha", alpha, low=0.0)
    if alpha == 0:
        return common_prefix(hints, picks)
    check_number("alpha", alpha, high=math.nextafter(1.0, 0.0))
    count = 0
    for i, (hint, own) in enumerate(zip(hints, picks, strict=False)):
        if hint != own and not is_nearly_as_good(hint, own, logits[i], sampling, position + i, alpha=alpha):
            break
        count += 1
    return count


def is_nearly_as_good(
    hint: int, own: int, logits: Any, sampling: Sampling, position: int, *, alpha: float
) -> bool:
    """The rule of `lenient_prefix` for one hint, not the own pick; `logits` is its row, 0 < alpha < 1."""
    hint_score, own_score = score_of(logits, sampling, position, (hint, own))
    return bool(hint_score >= own_score + math.log1p(-alpha))
