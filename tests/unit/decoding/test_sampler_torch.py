"""NumPy and torch give the same integers, the same rounded noise and the same picks, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cascade.decoding import Sampling, gumbel, hash_u32, pick, pick_rows, probabilities, scores
from cascade.decoding.arrays import torch_arrays
from cascade.decoding.noise import gumbel_of_hash
from cascade.decoding.sampler import pick_rows_torch
from cascade.errors import ModelError

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

KINDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1e-6},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 1.2, "top_k": 30, "top_p": 0.95, "min_p": 0.02},
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_the_same_integers(seed: int, device: str) -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 2**32, (300, 200))
    positions = rng.integers(0, 2**32, (300, 1))
    found = hash_u32(seed, torch.from_numpy(positions).to(device), torch.from_numpy(tokens).to(device))
    assert found.dtype == torch.int64
    assert np.array_equal(found.cpu().numpy(), hash_u32(seed, positions, tokens))
    assert hash_u32(seed, 3, torch.tensor(4, device=device)).item() == hash_u32(seed, 3, 4)


def test_the_same_rounded_noise(device: str) -> None:
    tokens = np.arange(200_000)
    found = gumbel(13, 77, torch.from_numpy(tokens).to(device))
    assert found.dtype == torch.float64
    assert np.array_equal(found.cpu().numpy(), gumbel(13, 77, tokens))
    ends = torch.tensor([0, 1, 2**32 - 2, 2**32 - 1], device=device)
    assert torch.isfinite(gumbel_of_hash(ends, torch_arrays(ends.device))).all()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("vocab_size", [1, 40, 700, 6000])
def test_the_same_picks(kind: dict[str, Any], vocab_size: int, device: str) -> None:
    rng = np.random.default_rng(vocab_size)
    rows = rng.integers(-40, 20, (40, vocab_size)).astype(np.float32) / 8  # eighths: full of ties
    rows[:, 1:][rng.random((40, vocab_size - 1)) < 0.1] = -np.inf
    samplings = [Sampling(**kind, seed=r) for r in range(40)]
    expected = pick_rows(rows, samplings, range(40))
    found = pick_rows_torch(torch.from_numpy(rows).to(device), samplings, range(40))
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)


def test_the_same_picks_in_a_mixed_batch(device: str) -> None:
    rng = np.random.default_rng(6)
    rows = rng.normal(0, 3, (64, 500)).astype(np.float32)
    samplings = [Sampling(**KINDS[r % len(KINDS)], seed=r) for r in range(64)]
    tensor = torch.from_numpy(rows).to(device)
    expected = pick_rows(rows, samplings, range(64))
    assert np.array_equal(pick_rows_torch(tensor, samplings, range(64)), expected)
    assert np.array_equal(pick_rows(tensor, samplings, range(64)), expected)
    assert pick(tensor[3], samplings[3], 3) == expected[3]


@pytest.mark.parametrize("cuts", [{}, {"top_k": 40}, {"top_p": 0.5}], ids=str)
def test_ties_go_to_the_lowest_id(cuts: dict[str, Any], device: str) -> None:
    undone = -gumbel(21, 9, np.arange(300))  # every score is 0
    sampling = Sampling(temperature=1.0, seed=21, **cuts)
    lowest = scores(undone, sampling, 9)[0][0]
    found = pick_rows_torch(torch.from_numpy(undone).to(device)[None], [sampling], [9])
    assert found.tolist() == [lowest]
    level = torch.zeros((2, 300), device=device)
    level[:, 100:] = 1.0
    assert pick_rows_torch(level, [Sampling()] * 2, [0, 1]).tolist() == [100, 100]


def test_bfloat16_counts_as_float32(device: str) -> None:
    half = torch.randn((8, 100), generator=torch.Generator().manual_seed(1)).bfloat16().to(device)
    samplings = [Sampling(temperature=0.8, top_p=0.9, seed=r) for r in range(8)]
    expected = pick_rows(half.float().cpu().numpy(), samplings, range(8))
    assert np.array_equal(pick_rows(half, samplings, range(8)), expected)
    assert np.array_equal(pick_rows_torch(half, samplings, range(8)), expected)
    assert probabilities(half[0], samplings[0])[expected[0]] > 0


def test_gradients_do_not_disturb(device: str) -> None:
    rows = torch.zeros((1, 4), requires_grad=True, device=device)
    assert pick_rows(rows, [Sampling()], [0]).tolist() == [0]
    assert pick_rows_torch(rows, [Sampling(temperature=1.0, top_k=1)], [0]).tolist() == [0]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_logits_are_refused(kind: dict[str, Any], bad: float, device: str) -> None:
    rows = torch.zeros((2, 8), device=device)
    rows[1, 3] = bad
    for call in (pick_rows, pick_rows_torch):
        with pytest.raises(ModelError, match="NaN"):
            call(rows, [Sampling(**kind)] * 2, [0, 1])
