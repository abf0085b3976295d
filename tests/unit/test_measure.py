"""Estimators: round trip, agreement, running means."""

from __future__ import annotations

import random

import pytest

from cascade.measure import (
    AgreementEstimator,
    BandwidthEstimator,
    LinkEstimator,
    PendingStamps,
    Smoothed,
    stamp_ms,
)


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
        link.add_round_trip(0.1 + dice.choice([-0.02, 0.02]), num_bytes=30)
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


@pytest.mark.parametrize("bytes_per_s", [1_000, 30_000])
@pytest.mark.parametrize("jitter_s", [0.0, 0.005])
def test_the_bandwidth_shows_in_what_long_messages_take_longer(bytes_per_s: float, jitter_s: float) -> None:
    dice = random.Random(3)
    estimator = BandwidthEstimator()
    for number in range(60):
        num_bytes = 3000 if number % 20 == 0 else dice.randrange(10, 40)
        rtt_s = 0.1 + num_bytes / bytes_per_s + dice.uniform(-jitter_s, jitter_s)
        estimator.add(num_bytes, round(rtt_s, 3))
    assert estimator.bytes_per_s == pytest.approx(bytes_per_s, rel=0.15)


def test_a_few_round_trips_show_it_where_sizes_explain_all_there_is() -> None:
    estimator = BandwidthEstimator()
    for num_bytes in (1500, 25, 1500, 25):
        estimator.add(num_bytes, 0.05 + num_bytes / 2000)
    assert estimator.bytes_per_s == pytest.approx(2000)


@pytest.mark.parametrize("sizes", [(30,), (10, 20, 30), (20, 40)])
def test_where_nothing_long_is_sent_the_bandwidth_does_not_show(sizes: tuple[int, ...]) -> None:
    dice = random.Random(4)
    estimator = BandwidthEstimator()
    assert estimator.bytes_per_s is None
    for number in range(200):
        num_bytes = sizes[number % len(sizes)]
        estimator.add(num_bytes, 0.1 + num_bytes / 1e6 + dice.uniform(-0.005, 0.005))
    assert estimator.bytes_per_s is None


def test_a_bandwidth_that_changes_is_followed() -> None:
    estimator = BandwidthEstimator()
    for bytes_per_s in (2_000, 20_000):
        for number in range(300):
            num_bytes = 1500 if number % 10 == 0 else 25
            estimator.add(num_bytes, 0.05 + num_bytes / bytes_per_s)
        assert estimator.bytes_per_s == pytest.approx(bytes_per_s, rel=0.1)


class _Counting(LinkEstimator):
    def __init__(self) -> None:
        super().__init__()
        self.counted: list[bool] = []
        self.sizes: list[int | None] = []

    def count_stamp(self, *, is_lost: bool) -> None:
        self.counted.append(is_lost)

    def add_echo(self, now_s: float, echo_ms: int, held_ms: int, *, num_bytes: int | None = None) -> None:
        self.sizes.append(num_bytes)


def test_stamps_that_never_come_back_are_lost_and_overtaken_ones_are_not() -> None:
    link = _Counting()
    stamps = PendingStamps(link)
    for stamp, sent_s in ((1, 0.0), (2, 4.0), (3, 4.2), (4, 8.0)):
        stamps.note_sent(stamp, sent_s, num_bytes=10 * stamp)
    assert link.counted == []
    stamps.note_echo(5.0, 3, 0, apart_s=0.5)
    assert link.counted == [True, False], "the first is lost; the second came too soon before the third"
    stamps.note_echo(5.0, 2, 0, apart_s=0.5)
    stamps.note_echo(9.0, 4, 0, apart_s=0.5)
    assert link.counted == [True, False, False]
    assert link.sizes == [30, None, 40], "an echo that nobody waits for still tells the round trip"
    for number in range(18):
        stamps.note_sent(5, 9.0 + number, num_bytes=1)
    assert link.counted[3:] == [True, True], "two are given up"
    stamps.clear()
    stamps.note_echo(30.0, 5, 0, apart_s=0.5)
    assert link.sizes[-1] is None


def test_loss_is_of_one_way_and_known_after_some_stamps() -> None:
    dice = random.Random(5)
    link = LinkEstimator()
    for _ in range(7):
        link.count_stamp(is_lost=False)
    assert link.loss is None
    for _ in range(2000):
        link.count_stamp(is_lost=dice.random() < 1 - 0.9**2)
    assert link.loss == pytest.approx(0.1, abs=0.06)
