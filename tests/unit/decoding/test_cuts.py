"""Cuts keep a head of the ranking: against a full sort, at borders, and where short cuts might go wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cascade.decoding import Sampling
from cascade.decoding.arrays import NUMPY
from cascade.decoding.cuts import _rough_total, _total, survivors, weights


def full_sort(row: npt.NDArray[np.float32], sampling: Sampling) -> list[int]:
    """The warpers of transformers (temperature, top-k, top-p, min-p), which keep ties at borders."""
    logits = row.astype(np.float64) / sampling.temperature
    if sampling.top_k:
        logits[logits < np.sort(logits)[-min(sampling.top_k, len(row))]] = -np.inf
    if sampling.top_p < 1:
        order = np.argsort(logits)
        cumulative = np.cumsum(softmax(logits)[order])
        removed = cumulative <= 1 - sampling.top_p
        removed[-1] = False
        logits[order[removed]] = -np.inf
    chances = softmax(logits)
    logits[chances < sampling.min_p * chances.max()] = -np.inf
    return np.flatnonzero(logits > -np.inf).tolist()


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(logits - logits.max())
    chances: npt.NDArray[np.float64] = weights / weights.sum()
    return chances


@pytest.mark.parametrize(
    "cuts",
    [
        {"top_k": 1},
        {"top_k": 50},
        {"top_k": 3000},
        {"top_p": 0.1},
        {"top_p": 0.95},
        {"top_p": 0.999},
        {"min_p": 0.05},
        {"min_p": 1e-6},
        {"top_k": 200, "top_p": 0.9},
        {"top_k": 200, "top_p": 0.9, "min_p": 0.05},
        {"top_p": 0.99, "min_p": 0.001},
    ],
    ids=str,
)
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("temperature", [0.3, 0.8, 2.0])
def test_a_row_without_ties_is_cut_as_transformers_cuts(
    cuts: dict[str, Any], spread: float, temperature: float
) -> None:
    rng = np.random.default_rng(17)
    sampling = Sampling(temperature=temperature, **cuts)
    for _ in range(5):
        row = rng.normal(0, spread, 4000).astype(np.float32)
        assert survivors(row, sampling).tolist() == full_sort(row, sampling)


@pytest.mark.parametrize("vocab_size", [10, 1000, 50_000])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_equal_tokens_are_counted_exactly(vocab_size: int, share: float) -> None:
    """0.1 + 0.1 + 0.1 is not 0.3 in floats, but three of ten equal tokens are three tenths here."""
    row = np.full(vocab_size, 2.5, dtype=np.float32)
    kept = survivors(row, Sampling(temperature=0.7, top_p=share))
    assert kept.tolist() == list(range(round(share * vocab_size)))


def test_weights_are_whole_so_that_sums_do_not_depend_on_order() -> None:
    found = weights(-np.random.default_rng(4).exponential(6, 100_000), NUMPY)
    assert np.array_equal(found, np.rint(found))
    assert found.sum() == found[::-1].cumsum()[-1] == math.fsum(found)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_ties_at_the_border_keep_the_lowest_ids(count: int) -> None:
    row = np.array([1, 0, 2, 1, 1, 0], dtype=np.float32)
    ranking = [2, 0, 3, 4, 1, 5]
    assert survivors(row, Sampling(temperature=1, top_k=count)).tolist() == sorted(ranking[:count])


def test_cuts_that_cut_nothing_keep_all_but_the_masked() -> None:
    row = np.array([0, -np.inf, 1, np.finfo(np.float32).min], dtype=np.float32)
    tried: list[dict[str, Any]] = [{}, {"top_k": 4}, {"top_k": 3}, {"top_k": 9, "min_p": 1e-320}]
    for cuts in tried:
        sampling = Sampling(temperature=1.0, **cuts)
        assert survivors(row, sampling).tolist() == ([0, 2] if "min_p" in cuts else [0, 2, 3])


@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0, 30.0])
@pytest.mark.parametrize("temperature", [1e-3, 0.2, 1.0, 100.0])
@pytest.mark.parametrize("vocab_size", [100, 49_152, 151_936])
def test_the_rough_total_bounds_the_true_one(spread: float, temperature: float, vocab_size: int) -> None:
    row = np.random.default_rng(2).normal(0, spread, vocab_size).astype(np.float32)
    largest = float(row.max())
    low, high = _rough_total(row, largest, temperature)
    total = _total(row, largest, temperature)
    assert low < total < high
    middle, half = (low + high) / 2, (high - low) / 2
    assert abs(total - middle) < 0.5 * half, "the bound has no room left"
