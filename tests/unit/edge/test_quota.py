"""The bucket: as much as the rate allows, never a token more, and debts that are paid in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.edge.quota import Quota, TokenBucket
from cascade.errors import SettingsError


def test_a_burst_passes_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 20, now_s=100.0)
    assert bucket.take(20, 100.0) == 0
    assert bucket.take(1, 100.0) == pytest.approx(0.1)
    assert bucket.wait_s(100.05) == pytest.approx(0.05)
    assert bucket.wait_s(100.1) == pytest.approx(0.0)
    assert bucket.take(5, 100.6) == pytest.approx(0.0)


def test_it_fills_no_higher_than_the_burst() -> None:
    bucket = TokenBucket(10, 20, now_s=0.0)
    assert not bucket.take(20, 1000.0)
    assert bucket.take(10, 1000.0) == pytest.approx(1.0)
    assert not bucket.is_full(1002.9)
    assert bucket.is_full(1003.1)


def test_a_rate_of_zero_is_no_limit() -> None:
    bucket = TokenBucket(0, 0, now_s=0.0)
    assert bucket.take(1e9, 0.0) == 0
    assert bucket.wait_s(0.0) == 0
    assert bucket.is_full(0.0)


@given(
    rate=st.floats(0.5, 1000),
    burst_s=st.floats(0.01, 10),
    asks=st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 100)), min_size=1, max_size=60),
)
def test_whoever_waits_as_told_gets_the_rate_and_the_burst_and_no_more(
    rate: float, burst_s: float, asks: list[tuple[float, float]]
) -> None:
    now_s = 0.0
    taken = last = 0.0
    bucket = TokenBucket(rate, rate * burst_s, now_s)
    for pause_s, amount in asks:
        now_s += pause_s
        now_s += bucket.wait_s(now_s)
        bucket.take(amount, now_s)
        taken += amount
        last = amount
        # What was taken before the last one was there to take.
        assert taken - last <= rate * (now_s + burst_s) * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_links", 0),
        ("max_sessions", 0),
        ("max_queued_bytes", 0),
        ("tokens_per_s", -1),
        ("messages_per_s", -1),
        ("bytes_per_s", float("nan")),
        ("burst_s", 0),
    ],
)
def test_impossible_quotas(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=field):
        Quota(**{field: value})  # type: ignore[arg-type]
