"""The work of several engines in sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ..histogram import Histogram
from ..interface import EngineStats

__all__ = ["total"]


def total(stats: Iterable[EngineStats]) -> EngineStats:
    whole = EngineStats()
    for part in stats:
        for field in dataclasses.fields(EngineStats):
            ours, theirs = getattr(whole, field.name), getattr(part, field.name)
            if isinstance(ours, Histogram):
                ours.counts = [left + right for left, right in zip(ours.counts, theirs.counts, strict=True)]
                ours.total += theirs.total
            else:
                setattr(whole, field.name, ours + theirs)
    return whole
