"""The sampler follows the softmax after the cuts, position by position, whatever stands beside it."""

from __future__ import annotations

from typing import Any

import decoding_vectors as reference
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from cascade.decoding import (
    Sampling,
    gumbel,
    log_probability,
    pick,
    pick_rows,
    probabilities,
    score_of,
    scores,
)
from cascade.decoding import sampler as sampler_module
from cascade.errors import ModelError, SettingsError

LEAST_P = 1e-4
NUM_DRAWS = 100_000

KINDS: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"temperature": 1.0},
    {"temperature": 2.0},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 1.2, "top_k": 10, "top_p": 0.95, "min_p": 0.02},
]
LOGITS = np.random.default_rng(3).normal(0, 1.5, 16).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_picks_follow_the_softmax_over_positions(kind: dict[str, Any]) -> None:
    sampling = Sampling(**kind, seed=99)
    assert_follows(draws(LOGITS, [sampling] * NUM_DRAWS, range(NUM_DRAWS)), probabilities(LOGITS, sampling))


@pytest.mark.parametrize("kind", KINDS[1:5:3], ids=str)
def test_picks_follow_the_softmax_over_seeds(kind: dict[str, Any]) -> None:
    samplings = [Sampling(**kind, seed=seed) for seed in range(NUM_DRAWS)]
    found = draws(LOGITS, samplings, [7] * NUM_DRAWS)
    assert_follows(found, probabilities(LOGITS, samplings[0]))


def test_the_short_way_follows_the_softmax_too(one_row_at_a_time: None) -> None:
    rows = np.tile(np.linspace(3, -6, 600, dtype=np.float32), (3_000, 1))
    found = pick_rows(rows, [Sampling(temperature=1.0, seed=4)] * len(rows), range(len(rows)))
    expected = probabilities(rows[0], Sampling(temperature=1.0)).reshape(30, 20).sum(axis=1) * len(rows)
    counts = np.bincount(found // 20, minlength=30)
    assert (
        stats.chisquare(counts[:20], expected[:20] * counts[:20].sum() / expected[:20].sum()).pvalue > LEAST_P
    )


@pytest.mark.parametrize("lag", [1, 2, 64, 1 << 12])
def test_positions_are_independent(lag: int) -> None:
    sampling = Sampling(temperature=1.0, seed=5)
    found = draws(LOGITS[:6], [sampling] * 40_000, range(40_000))
    table = np.zeros((6, 6))
    np.add.at(table, (found[:-lag], found[lag:]), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P


def test_seeds_are_independent() -> None:
    one, other = (
        draws(LOGITS[:6], [Sampling(temperature=1.0, seed=s)] * 40_000, range(40_000)) for s in (8, 9)
    )
    table = np.zeros((6, 6))
    np.add.at(table, (one, other), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P


@pytest.mark.parametrize("distance", [0.05, 0.3, 1.0, 3.0])
def test_two_models_agree_as_often_as_promised(distance: float) -> None:
    """At least (1 - TV) / (1 + TV), arXiv 2408.07978; never more than 1 - TV."""
    rng = np.random.default_rng(int(100 * distance))
    draft = (LOGITS + rng.normal(0, distance, len(LOGITS))).astype(np.float32)
    sampling = Sampling(temperature=1.0, seed=12)
    samplings, positions = [sampling] * 40_000, range(40_000)
    agreement = float(np.mean(draws(LOGITS, samplings, positions) == draws(draft, samplings, positions)))
    tv = 0.5 * float(np.abs(probabilities(LOGITS, sampling) - probabilities(draft, sampling)).sum())
    sigma = (agreement * (1 - agreement) / 40_000) ** 0.5
    assert (1 - tv) / (1 + tv) - 4 * sigma <= agreement <= 1 - tv + 4 * sigma


def draws(
    logits: npt.NDArray[np.float32], samplings: list[Sampling], positions: Any
) -> npt.NDArray[np.int64]:
    rows = np.broadcast_to(logits, (len(samplings), len(logits)))
    return pick_rows(rows, samplings, positions)


def assert_follows(found: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> None:
    counts = np.bincount(found, minlength=len(expected))
    assert np.all(counts[expected == 0] == 0)
    likely = expected > 0
    if likely.sum() > 1:
        assert stats.chisquare(counts[likely], expected[likely] * counts.sum()).pvalue > LEAST_P


# What a pick is, against the plain-Python reference and between its own implementations.

row_logits = st.lists(
    st.one_of(st.integers(-24, 24).map(lambda eighths: eighths / 8), st.just(-np.inf)),
    min_size=1,
    max_size=40,
).filter(lambda logits: max(logits) > -np.inf)
sampling_settings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0, 3.0, 100.0]),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 1000]),
    top_p=st.sampled_from([1.0, 1.0, 0.0, 0.1, 0.5, 0.75, 0.9, 0.999]),
    min_p=st.sampled_from([0.0, 0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)
positions = st.integers(0, 2**32 - 1)


@given(row_logits, sampling_settings, positions)
def test_a_pick_is_the_references_pick(logits: list[float], sampling: Sampling, position: int) -> None:
    row = np.array(logits, dtype=np.float32)
    expected = reference.scores(logits, settings_of(sampling), position)
    ids, found = scores(row, sampling, position)
    assert ids.tolist() == sorted(expected)
    assert found.tolist() == [expected[token] for token in ids]
    own = pick(row, sampling, position)
    assert own == reference.pick(logits, settings_of(sampling), position)
    assert own in ids
    assert score_of(row, sampling, position, [own])[0] == found.max()
    everything = score_of(row, sampling, position, [*range(-1, len(row) + 1)])
    assert np.flatnonzero(everything > -np.inf).tolist() == [token + 1 for token in ids]
    chances = probabilities(row, sampling)
    assert chances.sum() == pytest.approx(1)
    assert chances[own] > 0 or sampling.temperature < 0.1


@settings(max_examples=40)
@given(st.lists(st.tuples(row_logits, sampling_settings, positions), min_size=1, max_size=8), st.data())
def test_a_row_does_not_depend_on_its_batch(rows: list[Any], data: st.DataObject) -> None:
    width = max(len(row) for row, _, _ in rows)
    logits = np.full((len(rows), width), -np.inf, dtype=np.float32)
    for r, (row, _, _) in enumerate(rows):
        logits[r, : len(row)] = row
    together = pick_rows(logits, [row[1] for row in rows], [row[2] for row in rows])
    order = data.draw(st.permutations(range(len(rows))))
    shuffled = pick_rows(logits[order], [rows[r][1] for r in order], [rows[r][2] for r in order])
    assert shuffled.tolist() == together[order].tolist()
    assert [pick(logits[r], row[1], row[2]) for r, row in enumerate(rows)] == together.tolist()


@settings(max_examples=50)
@given(row_logits, st.integers(0, 2**64 - 1), positions)
def test_top_k_1_is_greedy(logits: list[float], seed: int, position: int) -> None:
    row = np.array(logits, dtype=np.float32)
    drawn = pick(row, Sampling(temperature=1.0, top_k=1, seed=seed), position)
    assert drawn == pick(row, Sampling(), position) == logits.index(max(logits))


@pytest.fixture
def one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small vocabularies go the way of large ones."""
    monkeypatch.setattr(sampler_module, "_DENSE_PLAIN", 0)
    monkeypatch.setattr(sampler_module, "_DENSE_CUT", 0)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0, 5.0, 20.0])
@pytest.mark.parametrize(
    "kind", [*KINDS, {"temperature": 1e-6}, {"temperature": 100.0, "top_p": 0.99}], ids=str
)
def test_both_ways_pick_the_same(
    kind: dict[str, Any], spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tokens of all rows at once, or row by row with noise for contenders only."""
    rng = np.random.default_rng(int(10 * spread) + len(str(kind)))
    rows = np.round(rng.normal(0, spread, (12, 5000)) * 8).astype(np.float32) / 8  # eighths: full of ties
    rows[::3, rng.integers(5000, size=2500)] = np.finfo(np.float32).min
    rows[1::3, rng.integers(5000, size=2500)] = -np.inf
    samplings = [Sampling(**kind, seed=r) for r in range(12)]
    short = pick_rows(rows, samplings, range(12))
    monkeypatch.setattr(sampler_module, "_DENSE_PLAIN", 10**6)
    monkeypatch.setattr(sampler_module, "_DENSE_CUT", 10**6)
    assert pick_rows(rows, samplings, range(12)).tolist() == short.tolist()


@pytest.mark.usefixtures("one_row_at_a_time")
@settings(max_examples=50)
@given(row_logits, sampling_settings, positions)
def test_the_short_way_is_the_references_pick(logits: list[float], sampling: Sampling, position: int) -> None:
    row = np.array(logits, dtype=np.float32)
    assert pick(row, sampling, position) == reference.pick(logits, settings_of(sampling), position)


def settings_of(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p", "min_p", "seed")}


# Ties, edges, errors.


@pytest.mark.parametrize("vocab_size", [50, 700, 6000])
@pytest.mark.parametrize("cuts", [{}, {"top_p": 0.5}, {"top_k": 40}, {"min_p": 0.3}], ids=str)
def test_ties_go_to_the_lowest_id(vocab_size: int, cuts: dict[str, Any]) -> None:
    """Logits that undo the noise, to the last bit: every score is 0."""
    undone = -gumbel(21, 9, np.arange(vocab_size))  # float64, in multiples of 2^-24
    sampling = Sampling(temperature=1.0, seed=21, **cuts)
    ids, found = scores(undone, sampling, 9)
    assert np.all(found == 0)
    assert pick(undone, sampling, 9) == ids[0]
    assert pick_rows(np.stack([undone] * 3), [sampling] * 3, [9] * 3).tolist() == [ids[0]] * 3


@pytest.mark.parametrize("vocab_size", [8, 6000])
@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=1.0), Sampling(temperature=1e-6, top_p=0.9)], ids=str
)
def test_logits_beyond_the_noises_resolution_tie(vocab_size: int, sampling: Sampling) -> None:
    row = np.full(vocab_size, 1e30, dtype=np.float32)
    assert [pick(row, sampling, position) for position in range(20)] == [0] * 20


@pytest.mark.parametrize("vocab_size", [8, 6000])
def test_greedy_ties_go_to_the_lowest_id(vocab_size: int) -> None:
    row = np.zeros(vocab_size, dtype=np.float32)
    row[[3, 5]] = 1
    assert pick(row, Sampling(), 0) == 3
    assert pick_rows(np.stack([row, -row]), [Sampling(), Sampling()], [0, 0]).tolist() == [3, 0]


@pytest.mark.parametrize("kind", [{}, *KINDS], ids=str)
@pytest.mark.parametrize("vocab_size", [8, 6000])
@pytest.mark.parametrize("masked", [-np.inf, np.finfo(np.float32).min])
def test_one_token_left_is_picked(kind: dict[str, Any], vocab_size: int, masked: float) -> None:
    row = np.full(vocab_size, masked, dtype=np.float32)
    row[4] = -3.0
    assert pick(row, Sampling(**kind), 0) == 4


@pytest.mark.parametrize("kind", [{}, *KINDS], ids=str)
@pytest.mark.parametrize("vocab_size", [8, 6000])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_are_refused(kind: dict[str, Any], vocab_size: int, bad: float) -> None:
    rows = np.zeros((2, vocab_size), dtype=np.float32)
    rows[1, 5] = bad
    sampling = Sampling(**kind)
    with pytest.raises(ModelError, match="NaN"):
        pick_rows(rows, [sampling, sampling], [0, 1])
    with pytest.raises(ModelError, match="NaN"):
        pick(rows[1], sampling, 0)
    with pytest.raises(ModelError, match="NaN"):
        scores(rows[1], sampling, 0)
    with pytest.raises(ModelError, match="masked everything"):
        pick(np.full(vocab_size, -np.inf), sampling, 0)


def test_wrong_shapes_are_refused() -> None:
    sampling, row = Sampling(), np.zeros(4, dtype=np.float32)
    for refused in (
        lambda: pick(row[None], sampling, 0),
        lambda: pick(row[:0], sampling, 0),
        lambda: pick_rows(row, [sampling], [0]),
        lambda: pick_rows(row[None], [sampling, sampling], [0]),
        lambda: pick_rows(row[None], [sampling], []),
        lambda: scores(row[None], sampling, 0),
        lambda: pick(np.array(["a", "b"]), sampling, 0),
    ):
        with pytest.raises(ModelError):
            refused()


def test_no_rows_give_no_picks() -> None:
    assert pick_rows(np.zeros((0, 8), dtype=np.float32), [], []).tolist() == []


def test_float_types_agree_where_values_do() -> None:
    row = np.round(LOGITS * 4) / 4
    sampling = Sampling(temperature=0.9, top_p=0.9, seed=6)
    picks = {
        dtype: [pick(row.astype(dtype), sampling, position) for position in range(50)]
        for dtype in ("float16", "float32", "float64")
    }
    assert picks["float16"] == picks["float32"] == picks["float64"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", 1e-9),
        ("temperature", 1e9),
        ("temperature", "1"),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 1.01),
        ("top_p", -0.5),
        ("min_p", 2),
        ("min_p", True),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_impossible_settings_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{field}: ") as caught:
        Sampling(**{field: value})
    assert caught.value.field == field


def test_log_probabilities_are_those_of_the_softmax() -> None:
    rng = np.random.default_rng(5)
    for scale in (0.1, 3.0, 500.0):
        row = (rng.normal(size=200) * scale).astype(np.float32)
        row[7] = -np.inf
        expected = special.log_softmax(row.astype(np.float64))
        for token in (0, 50, 199, int(row.argmax())):
            assert log_probability(row, token) == pytest.approx(expected[token], abs=1e-9)
        assert log_probability(row, 7) == -np.inf
    assert log_probability(np.array([1000.0, -1000.0], np.float32), 0) == 0
    with pytest.raises(ModelError):
        log_probability(np.array([np.nan, 0.0], np.float32), 1)
