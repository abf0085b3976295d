"""Recorded rates: the three formats, their faults, and that they are replayed exactly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cascade.errors import SettingsError
from cascade.links.conditions import Conditions
from cascade.links.shaper import Shaper
from cascade.links.traces import CHANCE_BYTES, ChanceTrace, RateTrace, load_trace, read_trace

MAHIMAHI = [0, 1, 1, 1, 4, 9, 9, 20]


def replay(trace: ChanceTrace | RateTrace, sizes: list[int], *, at_s: float = 0.0) -> list[float]:
    """When messages that were all sent at once are through."""
    wire = trace.wire()
    return [wire.finish_s(at_s, size) for size in sizes]


def mahimahi_alone(times_ms: list[int], sizes: list[int]) -> list[float]:
    """The reference: walk the chances one by one, as mahimahi does."""
    finished: list[float] = []
    left = list(sizes)
    number = 0
    while left:
        rounds, place = divmod(number, len(times_ms))
        budget = CHANCE_BYTES
        while left and budget:
            used = min(budget, left[0])
            budget -= used
            left[0] -= used
            if left[0] == 0:
                left.pop(0)
                finished.append((rounds * times_ms[-1] + times_ms[place]) / 1000)
        number += 1
    return finished


def test_a_mahimahi_trace_replays_to_its_byte() -> None:
    """Whatever the sizes: after every chance exactly 1,500 bytes more are through, round after round."""
    dice = random.Random(1)
    for _ in range(20):
        times_ms = [*sorted(dice.randrange(200) for _ in range(50)), 200]
        sizes = [dice.choice([1, 40, 1500, 1501, dice.randrange(1, 9000)]) for _ in range(400)]
        assert replay(ChanceTrace(times_ms), sizes) == mahimahi_alone(times_ms, sizes)


def test_bytes_through_at_any_time_are_the_traces() -> None:
    trace = ChanceTrace(MAHIMAHI)
    arrivals = replay(trace, [1] * (CHANCE_BYTES * 20))
    for now_ms in range(50):
        chances = sum(rounds * 20 + time <= now_ms for rounds in range(4) for time in MAHIMAHI)
        through = sum(round(arrival * 1000) <= now_ms for arrival in arrivals)
        assert through == min(chances * CHANCE_BYTES, len(arrivals))
        assert trace.bytes_by(now_ms / 1000) == chances * CHANCE_BYTES


def test_what_a_chance_is_not_used_for_is_lost() -> None:
    wire = ChanceTrace([10, 20, 30]).wire()
    assert wire.finish_s(0.0, 100) == 0.01
    assert wire.finish_s(0.005, 1400) == 0.01, "the rest of a chance that is still to come is used"
    assert wire.finish_s(0.005, 1) == 0.02
    assert wire.finish_s(0.0201, 1) == 0.03, "and of one that has gone by is not"
    assert wire.finish_s(1.001, 1500) == 1.01  # 33 rounds of 30 ms, and two chances


def test_a_chance_far_away_is_found_at_once() -> None:
    trace = ChanceTrace([7])
    assert trace.wire().finish_s(7e6, 1) == pytest.approx(7e6)
    assert trace.wire().finish_s(7e6 + 1e-4, 1) == pytest.approx(7e6 + 0.007)


def test_through_the_shaper_a_trace_is_a_rate() -> None:
    for seed in range(3):
        trace = ChanceTrace(MAHIMAHI)
        shaper = Shaper(Conditions(trace=trace, delay_s=0.1), seed=seed, is_reliable=True)
        arrivals = [shaper.take(0.0, 1500).arrivals_s[0] for _ in range(16)]
        assert arrivals == pytest.approx([0.1 + t / 1000 for t in MAHIMAHI + [20 + t for t in MAHIMAHI]])
        assert shaper.state(0.0).queue_bytes == 15 * 1500  # the first chance was at once


@pytest.mark.parametrize("size", [1, 700, 1500, 40_000])
def test_rates_hold_for_their_time(size: int) -> None:
    """Constant rates, a hole, and the wrap: what is through by then is the integral."""
    trace = RateTrace([(1.0, 10_000.0), (0.5, 0.0), (2.0, 40_000.0)])
    assert trace.duration_s == 3.5
    assert trace.mean_rate_bytes_per_s == pytest.approx(90_000 / 3.5)
    total = 0
    for finish_s in replay(trace, [size] * max(4, min(2000, 200_000 // size))):
        total += size
        assert trace.bytes_by(finish_s) == pytest.approx(total, abs=1e-3)


def test_a_hole_in_the_rate_is_waited_for() -> None:
    wire = RateTrace([(1.0, 1000.0), (1.0, 0.0)]).wire()
    assert wire.finish_s(0.0, 1000) == pytest.approx(1.0)
    assert wire.finish_s(0.5, 100) == pytest.approx(2.1)
    assert wire.finish_s(3.5, 100) == pytest.approx(4.1)
    assert wire.finish_s(9.0, 0) == 9.0


def test_the_format_is_found_out(tmp_path: Path) -> None:
    cases = {
        "mahimahi": ("0\n10\n\n# a note\n20\n", 3 * 1500 / 0.02),
        "cooked": ("0.5 1.0\n1.5 8.0\n2.5 0.0\n", 500_000),
        "log": (
            "1453121790686 39287 51.03 3.73 2000 1000\n1453121791687 40288 51.03 3.73 4000 0500\n",
            4000,
        ),
    }
    for name, (text, rate) in cases.items():
        path = tmp_path / name
        path.write_text(text)
        assert load_trace(path).mean_rate_bytes_per_s == pytest.approx(rate), name


def test_a_cooked_rate_held_since_the_line_before() -> None:
    trace = read_trace(["10 99", "11 8", "13 16"])
    assert trace.duration_s == 3
    assert trace.bytes_by(1.0) == pytest.approx(1_000_000)
    assert trace.bytes_by(3.0) == pytest.approx(5_000_000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "x.trace is empty"),
        ("# nothing\n\n", "x.trace is empty"),
        ("1\n5\n3\n", "x.trace:3: 3 ms after 5 ms; times must not go back"),
        ("1\n2.5\n", "x.trace:2: '2.5' is no integer"),
        ("1\n\n-2\n", "x.trace:3: -2 is not a time or an amount"),
        ("0\n0\n", "x.trace needs chances, and the last one after 0 ms"),
        ("1 2\n3\n", "x.trace:2: 1 columns, where the first line has 2"),
        ("1 2 3\n", "x.trace:1: 3 columns; one is mahimahi, two are cooked, six are"),
        ("1 2\n", "x.trace:1: one line only"),
        ("1 2\n1 3\n", "x.trace:2: 1 s after 1 s; times must grow"),
        ("1 2\n2 nan\n", "x.trace:2: nan is not a time or an amount"),
        ("1 2\n2 fast\n", "x.trace:2: 'fast' is no number"),
        ("1 0\n2 0\n", "x.trace carries nothing"),
        ("1 2 3 4 5 0\n", "x.trace:1: 0 ms since the line before"),
        ("1 2 3 4 -5 10\n", "x.trace:1: -5 is not a time or an amount"),
    ],
)
def test_faults_are_named_with_their_line(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_trace(text.splitlines(), name="x.trace")
    assert complaint in str(refused.value)


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_trace(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not text"):
        load_trace(tmp_path / "binary")
