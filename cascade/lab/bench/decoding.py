"""Sampling one batch of 32 rows of 49,152 logits on one core, beside a full sort.

Methods take turns, so that a machine that slows down slows all of them down alike; time of the core is shown
beside time on the wall, which grows with what else runs. Rows are peaked as a language model's are: Zipf's
law with noise.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.decoding import Sampling, pick_rows

__all__ = ["run"]

NUM_ROWS = 32
VOCAB_SIZE = 49_152
TEMPERATURE = 0.8
TOP_P = 0.95

SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "temperature": {"temperature": TEMPERATURE},
    "top_p": {"temperature": TEMPERATURE, "top_p": TOP_P},
    "top_k": {"temperature": TEMPERATURE, "top_k": 50},
    "min_p": {"temperature": TEMPERATURE, "min_p": 0.05},
}

Pick = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]]


def run(*, repeats: int = 20) -> dict[str, Any]:
    """Median and spread of each way of sampling, and how many times faster top-p is than a full sort."""
    with _one_core():
        rng = np.random.default_rng(1)
        methods = {name: _ours(Sampling(**settings)) for name, settings in SAMPLINGS.items()}
        methods["top_p_full_sort"] = _full_sort
        samples_ms: dict[str, list[float]] = {name: [] for name in methods}
        cores_ms: dict[str, list[float]] = {name: [] for name in methods}
        _ = [method(_peaked_rows(rng)) for method in methods.values()]  # tables and caches
        for _ in range(repeats):
            rows = _peaked_rows(rng)
            for name, method in methods.items():
                wall_ms, core_ms = _elapsed_ms(method, rows)
                samples_ms[name].append(wall_ms)
                cores_ms[name].append(core_ms)
    medians_ms = {name: statistics.median(values) for name, values in samples_ms.items()}
    return {
        "repeats": repeats,
        "rows": NUM_ROWS,
        "vocab_size": VOCAB_SIZE,
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
        "sampling": [
            {
                "method": name,
                "median_ms": round(medians_ms[name], 3),
                "min_ms": round(min(values), 3),
                "max_ms": round(max(values), 3),
                "core_ms": round(statistics.median(cores_ms[name]), 3),
            }
            for name, values in samples_ms.items()
        ],
        "top_p_ms": round(medians_ms["top_p"], 3),
        "top_p_core_ms": round(statistics.median(cores_ms["top_p"]), 3),
        "full_sort_over_top_p": round(medians_ms["top_p_full_sort"] / medians_ms["top_p"], 2),
    }


def _ours(sampling: Sampling) -> Pick:
    return lambda rows: pick_rows(rows, [sampling] * len(rows), range(len(rows)))


def _full_sort(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Top-p the usual way: sort all, sum all, noise for all."""
    rng = np.random.default_rng(1)
    picks = np.empty(len(rows), np.int64)
    for r, row in enumerate(rows):
        order = np.argsort(row)[::-1]
        scaled = row[order].astype(np.float64) / TEMPERATURE
        chances = np.exp(scaled - scaled[0])
        chances /= chances.sum()
        scaled[np.cumsum(chances) - chances >= TOP_P] = -np.inf
        picks[r] = order[np.argmax(scaled + rng.gumbel(size=len(row)))]
    return picks


def _peaked_rows(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """[NUM_ROWS, VOCAB_SIZE]; top-p keeps about a hundred tokens of a row."""
    ranks = np.stack([rng.permutation(VOCAB_SIZE) for _ in range(NUM_ROWS)])
    return (20 - 1.3 * np.log1p(ranks) + rng.normal(0, 0.7, ranks.shape)).astype(np.float32)


def _elapsed_ms(method: Pick, rows: npt.NDArray[np.float32]) -> tuple[float, float]:
    """On the wall, and of the core."""
    wall_s, core_s = time.perf_counter(), time.thread_time()
    method(rows)
    return (time.perf_counter() - wall_s) * 1000, (time.thread_time() - core_s) * 1000


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread to one core, where the system lets us; NumPy starts no other for what we measure."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
