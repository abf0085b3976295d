"""Estimators: round trip, agreement, running means."""

from __future__ import annotations

import random

import pytest

from cascade.measure import AgreementEstimator, LinkEstimator, Smoothed, stamp_ms


def test_a_running_mean_counts_the_first_in_full_then_forgets() -> None:
    mean = Smoothed(0.25)
    seen = [(mean.value, mean.deviation)]
    for sample in (8.0, 12.0):
        mean.add(sample)
        seen.append((mean.value, mean.deviation))
    assert seen == [(None, 0.0), (8.0, 0.0), (9.0, 1.0)]
    for _ in range(100):
        mean.add(2.0)
    assert mean.value == pytest.approx(2.0)
    assert mean.deviation == pytest.approx(0.0, abs=1e-3)


def test_the_round_trip_is_without_the_time_the_edge_held_the_stamp() -> None:
    link = LinkEstimator()
    assert link.rtt_s is None
    link.add_echo(10.5, stamp_ms(10.3), 50)
    assert link.rtt_s == pytest.approx(0.15)
    assert link.jitter_s == 0


@pytest.mark.parametrize("sent_s", [65.5, 65.6, 131.0, 1e6])
def test_stamps_wrap_around(sent_s: float) -> None:
    link = LinkEstimator()
    assert 0 <= stamp_ms(sent_s) < 1 << 16
    link.add_echo(sent_s + 0.25, stamp_ms(sent_s), 100)
    assert link.rtt_s == pytest.approx(0.15, abs=0.002)


def test_impossible_echoes_are_ignored() -> None:
    link = LinkEstimator()
    link.add_echo(10.0, stamp_ms(9.9), 500)  # held longer than it was away
    link.add_echo(10.0, stamp_ms(11.0), 0)  # from the future
    assert link.rtt_s is None


def test_jitter_is_the_mean_deviation() -> None:
    dice = random.Random(1)
    link = LinkEstimator()
    for _ in range(500):
        link.add_round_trip(0.1 + dice.choice([-0.02, 0.02]))
    assert link.rtt_s == pytest.approx(0.1, abs=0.02)
    assert link.jitter_s == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.8, 1.0])
def test_agreement_is_learnt_and_learnt_anew(chance: float) -> None:
    dice = random.Random(2)
    estimator = AgreementEstimator(prior=0.7)
    assert estimator.chance == pytest.approx(0.7)
    for truth in (1 - chance, chance):
        for _ in range(2000):
            agrees = dice.random() < truth
            estimator.add(num_agreed=int(agrees), num_disagreed=int(not agrees))
        assert estimator.chance == pytest.approx(truth, abs=0.1)
    assert 0 <= estimator.chance <= 1


def test_no_verdict_changes_nothing() -> None:
    estimator = AgreementEstimator()
    before = estimator.chance
    estimator.add(num_agreed=0, num_disagreed=0)
    assert estimator.chance == before
