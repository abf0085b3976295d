"""Calibration, the time of passes, and means that notice a jump."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.decoding import Sampling, pick
from cascade.device.confidence import confidence_in
from cascade.lab.learning import DRAFTS, calibration_errors
from cascade.measure import Calibration, Confidence, PassEstimator, Smoothed
from cascade.models.base import TokenSequence
from cascade.models.suffix import SuffixDraft
from cascade.models.synthetic import SyntheticTarget

SILENT = Confidence()


@pytest.mark.parametrize("kind", DRAFTS)
def test_after_two_thousand_tokens_chances_are_right_on_other_streams(kind: str) -> None:
    found = calibration_errors(kind, num_streams=3)
    assert found["expected_calibration_error"] <= 0.05


def test_what_a_draft_claims_is_believed_at_first_and_seen_through_later() -> None:
    dice = random.Random(3)
    known = Calibration()
    claim = Confidence(promise=0.95)
    assert known.chance(claim, 0) == pytest.approx(0.95)
    for _ in range(500):
        known.learn(claim, 0, is_agreed=dice.random() < 0.6)
        known.learn(Confidence(promise=0.3), 0, is_agreed=dice.random() < 0.5)
    assert known.chance(claim, 0) == pytest.approx(0.6, abs=0.06)
    assert known.chance(Confidence(promise=0.3), 0) == pytest.approx(0.5, abs=0.06)
    assert known.chance(SILENT, 0) == pytest.approx(0.8)  # of silent drafts nothing was learnt


def test_what_the_softmax_says_counts_as_far_as_it_tells() -> None:
    """Here the margin decides, the probability is noise."""
    dice = random.Random(4)
    known = Calibration()

    def draw() -> tuple[Confidence, bool]:
        is_agreed = dice.random() < 0.5
        margin = 4.0 if is_agreed else 0.5
        return Confidence(probability=dice.uniform(0.1, 0.9), margin=margin, entropy=1.0), is_agreed

    for _ in range(1000):
        confidence, is_agreed = draw()
        known.learn(confidence, 0, is_agreed=is_agreed)
    for _ in range(50):
        confidence, is_agreed = draw()
        assert (known.chance(confidence, 0) > 0.8) is is_agreed


def test_a_new_text_is_learnt_within_a_hundred_tokens_and_the_old_is_not_forgotten() -> None:
    dice = random.Random(5)
    device = Calibration()
    for _ in range(1000):
        device.learn(SILENT, 0, is_agreed=dice.random() < 0.9)
    stream = device.fork()
    for _ in range(100):
        stream.learn(SILENT, 0, is_agreed=dice.random() < 0.5)
    assert stream.chance(SILENT, 0) == pytest.approx(0.55, abs=0.12)
    assert device.chance(SILENT, 0) == pytest.approx(0.9, abs=0.05)
    device.adopt(stream)
    assert device.chance(SILENT, 0) == stream.chance(SILENT, 0)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.floats(0, 1),
            st.floats(-5, 200),
            st.floats(0, 12),
            st.integers(0, 300),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_whatever_is_learnt_chances_are_chances(
    lessons: list[tuple[float, float, float, float, int, bool]],
) -> None:
    known = Calibration()
    for promise, probability, margin, entropy, place, is_agreed in lessons:
        told = Confidence(promise=promise)
        shown = Confidence(probability=probability, margin=margin, entropy=entropy)
        for confidence in (told, shown, SILENT):
            known.learn(confidence, place, is_agreed=is_agreed)
            assert 0 <= known.chance(confidence, place) <= 1


def test_passes_are_measured_by_their_hints() -> None:
    dice = random.Random(6)
    passes = PassEstimator()
    assert passes.mean_s is None
    passes.add_said(0.05, 0)
    for _ in range(200):
        num_hints = dice.randrange(12)
        assert passes.add_gap(0.05 + 0.001 * num_hints + dice.gauss(0, 0.002), num_hints)
    assert passes.base_s == pytest.approx(0.05, rel=0.03)
    assert passes.hint_s == pytest.approx(0.001, rel=0.3)


def test_a_gap_that_the_link_made_is_not_a_pass_unless_it_stays() -> None:
    passes = PassEstimator()
    passes.add_said(0.05, 0)
    assert not passes.add_gap(0.28, 0)
    assert not passes.add_gap(0.0, 0)
    assert passes.expect_s(0) == pytest.approx(0.05)
    found = [passes.add_gap(0.1, 0) for _ in range(10)]
    assert not any(found[:3])
    assert all(found[-4:])
    assert passes.expect_s(0) == pytest.approx(0.1, rel=0.01)
    passes.add_said(0.02, 0)
    assert passes.expect_s(0) == pytest.approx(0.02)


def test_a_mean_passes_over_one_outlier_and_follows_two() -> None:
    mean = Smoothed(1 / 8)
    for sample in (0.1, 0.11, 0.1, 0.09):
        mean.add(sample)
    mean.add(0.4)
    assert mean.is_in_doubt
    assert mean.value == pytest.approx(0.1, abs=0.01)
    mean.add(0.1)
    assert not mean.is_in_doubt
    mean.add(0.4)
    mean.add(0.41)
    assert mean.value == 0.41


class _Plain:
    """A sequence without a word of its own."""

    length = 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_softmax_is_read(temperature: float) -> None:
    logits = np.full(1000, -30.0, np.float32)
    logits[[5, 9]] = [2.0, 0.0]
    sampling = Sampling(temperature=temperature, seed=1)
    sequence: TokenSequence = _Plain()  # type: ignore[assignment]
    token = pick(logits, sampling, 3)
    found = confidence_in(sequence, logits, token, sampling, 3)
    share = 1 / (1 + np.exp(-2.0))
    assert found.promise is None
    assert found.probability == pytest.approx(share if token == 5 else 1 - share, rel=1e-5)
    assert found.entropy == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share), rel=1e-4)
    assert found.margin >= 0
    if temperature == 0:
        assert found.margin == pytest.approx(2.0)


def test_masked_tokens_do_not_spoil_it() -> None:
    logits = np.full(40, -np.inf, np.float32)
    logits[7] = 1.0
    found = confidence_in(_Plain(), logits, 7, Sampling(), 3)  # type: ignore[arg-type]
    assert (found.probability, found.entropy) == (1.0, 0.0)
    assert 0 <= found.margin <= 100


def test_who_has_a_word_of_its_own_is_taken_at_it() -> None:
    draft = SuffixDraft(vocab_size=64, vocab_fingerprint="x")
    from cascade.models.base import Feed

    sequence = draft.new_sequence()
    row = draft.forward([Feed(sequence, [1, 2, 3, 1, 2], 1)])[0]
    found = confidence_in(sequence, row, 3, Sampling(), 5)
    assert found.promise == pytest.approx(sequence.promise)
    assert found.probability is None
    target = SyntheticTarget()
    silent = target.new_sequence()
    assert confidence_in(silent, row, 3, Sampling(), 5) == SILENT
