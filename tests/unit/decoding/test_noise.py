"""Shared noise: even, independent along every axis, and standard Gumbel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cascade.decoding import gumbel, hash_u32
from cascade.decoding.arrays import NUMPY
from cascade.decoding.noise import gumbel_of_hash, hash_of_lanes, key_of, keys_of, token_lanes

LEAST_P = 1e-4
"""A seeded test that fails at this level has found something."""


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 5])
def test_hashes_are_even(seed: int) -> None:
    h = hash_u32(seed, np.arange(400)[:, None], np.arange(250))
    for shift in (0, 12, 24):
        counts = np.bincount((h.ravel() >> shift) & 0xFF, minlength=256)
        assert stats.chisquare(counts).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((7, 1000, 5), (7, 1001, 5)),
        ((7, 1000, 5), (7, 1000, 6)),
        ((7, 1000, 5), (7, 1000 ^ 2**31, 5)),
        ((7, 1000, 5), (7, 1000, 5 ^ 2**15)),
        ((7, 1000, 5), (8, 1000, 5)),
        ((7, 1000, 5), (7 + 2**32, 1000, 5)),
        ((7, 1000, 5), (7, 1005, 1000)),
    ],
    ids=["position", "token", "far position", "far token", "seed", "high half of the seed", "swapped"],
)
def test_neighbours_are_independent(first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
    """16 x 16 contingency of the top bits, each pair shifted along positions (by 1) and tokens (by 7)."""
    grid = np.arange(400)[:, None], 7 * np.arange(250)
    one, other = (
        hash_u32(seed, grid[0] ^ position, grid[1] ^ token) >> 28 for seed, position, token in (first, second)
    )
    counts = np.bincount((one * 16 + other).ravel().astype(np.int64), minlength=256)
    assert stats.chisquare(counts).pvalue > LEAST_P


def test_one_bit_of_input_flips_half_the_output() -> None:
    rng = np.random.default_rng(1)
    seed, positions, tokens = int(rng.integers(2**63)), *rng.integers(2**32, size=(2, 1000))
    before = hash_u32(seed, positions, tokens)
    flipped = [hash_u32(seed ^ 1 << bit, positions, tokens) for bit in range(64)]
    flipped += [hash_u32(seed, positions ^ 1 << bit, tokens) for bit in range(32)]
    flipped += [hash_u32(seed, positions, tokens ^ 1 << bit) for bit in range(32)]
    changes = np.bitwise_count(np.stack(flipped) ^ before)
    assert np.all(np.abs(changes.mean(axis=1) - 16) < 1)
    assert np.all(changes > 0)


def test_no_two_tokens_of_a_position_share_a_hash() -> None:
    assert len(np.unique(hash_u32(3, 4, np.arange(200_000)))) == 200_000


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(11, np.arange(500)[:, None], np.arange(400)).ravel()
    assert stats.kstest(noise, "gumbel_r").pvalue > LEAST_P


def test_noise_is_rounded_and_finite_at_the_ends() -> None:
    noise = gumbel_of_hash(np.array([0, 1, 2**31, 2**32 - 2, 2**32 - 1], dtype=np.uint32), NUMPY)
    assert np.all(np.isfinite(noise))
    assert np.all(np.diff(noise) > 0)
    units = gumbel(5, 6, np.arange(10_000)) * 2**24
    assert np.array_equal(units, np.rint(units))


def test_shapes_broadcast() -> None:
    table = hash_u32(9, np.arange(3)[:, None], np.arange(4))
    assert table.shape == (3, 4)
    assert table.dtype == np.uint32
    assert hash_u32(9, 2, 3) == table[2, 3]
    assert hash_u32(9, 2, 3).shape == ()
    assert gumbel(9, [0, 1, 2], 3).shape == (3,)


def test_numbers_wrap_and_arguments_are_left_alone() -> None:
    positions, tokens = np.array([5], dtype=np.uint32), np.array([6], dtype=np.uint32)
    assert hash_u32(2**64 + 9, 2**32 + 5, 2**32 + 6) == hash_u32(9, positions, tokens)[0]
    assert (positions[0], tokens[0]) == (5, 6)


def test_keys_and_tables_are_the_same_hash() -> None:
    """The sampler's short cut: keys per position in Python integers, mix(token) from a table."""
    k0, k1 = key_of(77, 123)
    short = hash_of_lanes(token_lanes(1000), np.uint32(k0), np.uint32(k1), NUMPY)
    assert np.array_equal(short, hash_u32(77, 123, np.arange(1000)))


def test_keys_of_many_rows_are_the_keys_of_each() -> None:
    seeds, positions = [2**64 - 1 - r for r in range(60)], [2**32 - 30 + r for r in range(60)]
    one_by_one = [key_of(seed, position) for seed, position in zip(seeds, positions, strict=True)]
    assert list(zip(*keys_of(seeds, positions), strict=True)) == one_by_one
