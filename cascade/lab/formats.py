"""What a target's passes take in each weight format on one core, measured in turns."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable

__all__ = ["FORMATS", "WIDTHS", "cost_curves"]

FORMATS = ("bfloat16", "int8", "int4")
WIDTHS = (1, 2, 3, 4, 6, 8, 16)
TEXT_TOKENS = 120
"""Before the rows that are measured."""

Curve = dict[int, float]
"""Rows -> seconds."""


def cost_curves(model: str, core: int, repeats: int, clock: Callable[[], float]) -> dict[str, Curve]:
    """In a process of its own, so that nothing stays behind in this one."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (model, core, repeats, clock))


def _measure(ref: str, core: int, repeats: int, clock: Callable[[], float]) -> dict[str, Curve]:
    from ..models.base import Feed
    from ..models.huggingface import HuggingFaceModel
    from ..models.tuning import tune
    from .cores import pinned

    with pinned(core):
        models = {dtype: HuggingFaceModel.load(ref, dtype=dtype, device="cpu") for dtype in FORMATS}
        sequences = {dtype: model.new_sequence() for dtype, model in models.items()}
        for dtype, model in models.items():
            tune(model, clock, num_threads=1)
            model.forward([Feed(sequences[dtype], range(5, 5 + TEXT_TOKENS), 0)])
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(repeats + 1):
            for width in WIDTHS:
                for dtype, model in models.items():
                    started_s = clock()
                    model.forward([Feed(sequences[dtype], range(100, 100 + width), width)])
                    seconds.setdefault((dtype, width), []).append(clock() - started_s)
                    sequences[dtype].truncate(TEXT_TOKENS)
    return {
        dtype: {width: statistics.median(seconds[dtype, width][1:]) for width in WIDTHS} for dtype in FORMATS
    }
