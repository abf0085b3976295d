"""The fastest way to run a model on this machine, found by trying.

How many threads a pass should take, and up to which width packed weights win, are properties of a machine;
what is taken without trying are another one's. The clock is the caller's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from .base import Feed
from .huggingface import HuggingFaceModel

__all__ = ["Tuning", "tune"]

WIDTHS = (2, 4, 6, 8, 12, 16, 24, 32)
"""Rows at which the kernels are compared."""

THREAD_ROWS = (1, 4)
"""Passes of a quiet edge, whose speed a single stream sees: they choose the number of threads."""

REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was found, and is set."""

    num_threads: int
    narrow_rows: int | None
    """Up to so many rows the packed weights are used; None for formats that have none."""


def tune(model: HuggingFaceModel, clock: Callable[[], float], *, num_threads: int | None = None) -> Tuning:
    """Measure and set: threads of the whole process (unless given), and the kernels' widths. Takes seconds.

    An exact model's threads are part of its numerics class, and stay.
    """
    import torch

    if num_threads is None and not model.exact:
        num_threads = _fewest_of_fastest(model, clock)
        torch.set_num_threads(num_threads)
    return Tuning(num_threads=torch.get_num_threads(), narrow_rows=_narrow_rows(model, clock))


def _fewest_of_fastest(model: HuggingFaceModel, clock: Callable[[], float]) -> int:
    import torch

    most = torch.get_num_threads()
    candidates = sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})
    seconds: dict[int, float] = {}
    for count in candidates:
        torch.set_num_threads(count)
        seconds[count] = sum(_pass_s(model, clock, rows) for rows in THREAD_ROWS)
    return min(candidates, key=lambda count: seconds[count])


def _narrow_rows(model: HuggingFaceModel, clock: Callable[[], float]) -> int | None:
    """The last width before the first at which bfloat16 is faster."""
    if model.narrow_rows is None:
        return None
    best = 1
    for rows in WIDTHS:
        model.narrow_rows = rows
        packed_s = _pass_s(model, clock, rows)
        model.narrow_rows = rows - 1
        if _pass_s(model, clock, rows) < packed_s:
            break
        best = rows
    model.narrow_rows = best
    return best


def _pass_s(model: HuggingFaceModel, clock: Callable[[], float], num_rows: int) -> float:
    """Median seconds of a pass of so many rows over one text."""
    sequence = model.new_sequence()
    tokens = _some(model, num_rows)
    seconds = []
    for _ in range(REPEATS + 1):
        start = clock()
        model.forward([Feed(sequence, tokens, 1)])
        seconds.append(clock() - start)
        sequence.truncate(0)
    sequence.release()
    return statistics.median(seconds[1:])


def _some(model: HuggingFaceModel, count: int) -> list[int]:
    return [index % model.vocab_size for index in range(count)]
