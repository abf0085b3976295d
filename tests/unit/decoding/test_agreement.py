"""How many hints are kept, losslessly and leniently."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.decoding import Sampling, common_prefix, lenient_prefix, pick_rows, probabilities, scores
from cascade.errors import SettingsError

tokens = st.lists(st.integers(0, 2), max_size=8)


@given(tokens, tokens)
def test_the_common_prefix_is_the_longest(hints: list[int], picks: list[int]) -> None:
    count = common_prefix(hints, picks)
    assert hints[:count] == picks[:count]
    assert count == min(len(hints), len(picks)) or hints[count] != picks[count]


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.0])
def test_alpha_0_is_lossless_even_for_ties(temperature: float) -> None:
    rng = np.random.default_rng(1)
    sampling = Sampling(temperature=temperature, seed=3)
    for _ in range(50):
        rows = rng.integers(0, 3, (6, 5)).astype(np.float32)  # ties everywhere
        picks = pick_rows(rows, [sampling] * 6, range(6)).tolist()
        hints = [own if rng.random() < 0.7 else int(rng.integers(5)) for own in picks]
        assert lenient_prefix(hints, picks, rows, sampling, 0, alpha=0.0) == common_prefix(hints, picks)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_at_temperature_0_the_rule_is_token_v3(alpha: float) -> None:
    """p(v) >= (1 - alpha) max p, under the softmax at temperature 1."""
    rng = np.random.default_rng(2)
    for _ in range(50):
        row = rng.normal(0, 1, (1, 12)).astype(np.float32)
        chances = probabilities(row[0], Sampling(temperature=1.0))
        own = int(chances.argmax())
        for hint in range(12):
            kept = lenient_prefix([hint], [own], row, Sampling(), 0, alpha=alpha)
            assert kept == (chances[hint] >= (1 - alpha) * chances[own])


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_above_temperature_0_the_rule_compares_scores(alpha: float) -> None:
    rng = np.random.default_rng(3)
    sampling = Sampling(temperature=0.9, top_k=6, seed=8)
    for position in range(50):
        row = rng.normal(0, 1, (1, 12)).astype(np.float32)
        ids, found = scores(row[0], sampling, position)
        score = dict(zip(ids.tolist(), found.tolist(), strict=True))
        own = max(score, key=lambda token: score[token])
        for hint in range(12):
            kept = lenient_prefix([hint], [own], row, sampling, position, alpha=alpha)
            assert kept == (score.get(hint, -math.inf) >= score[own] + math.log(1 - alpha))


@given(st.integers(0, 2**32), st.floats(0, 0.99), st.floats(0, 0.99), st.sampled_from([0.0, 0.5, 1.0]))
def test_more_alpha_keeps_no_fewer(seed: int, one: float, other: float, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (4, 6)).astype(np.float32)
    hints = rng.integers(0, 6, 4).tolist()
    sampling = Sampling(temperature=temperature, seed=seed)
    picks = pick_rows(rows, [sampling] * 4, range(4)).tolist()
    less, more = (
        lenient_prefix(hints, picks, rows, sampling, 0, alpha=alpha) for alpha in sorted((one, other))
    )
    assert common_prefix(hints, picks) <= less <= more


@pytest.mark.parametrize("alpha", [-0.1, 1.0, math.nan])
def test_alpha_is_at_least_0_and_below_1(alpha: float) -> None:
    with pytest.raises(SettingsError, match=r"^alpha: "):
        lenient_prefix([1], [2], np.zeros((1, 4), dtype=np.float32), Sampling(), 0, alpha=alpha)
