"""t(rows) from passes: exact where they are exact, robust where they are not."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from cascade.measure import CostCurve

WIDTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)


def linear(rows: float) -> float:
    return 0.05 + 0.0005 * rows


def stepped(rows: float) -> float:
    """As kernels with tiles of 32 rows do."""
    return 0.03 + 0.02 * ((rows - 1) // 32)


def learnt(
    cost_s: Callable[[float], float], *, repeats: int = 15, noise: float = 0.0, seed: int = 0
) -> CostCurve:
    dice = random.Random(seed)
    curve = CostCurve()
    for _ in range(repeats):
        for rows in WIDTHS:
            curve.add(rows, cost_s(rows) * (1 + noise * dice.random()))
    return curve


def test_before_the_first_pass_every_width_costs_the_same() -> None:
    curve = CostCurve(start_s=0.08)
    assert not curve.is_measured
    assert curve.seconds(1) == curve.seconds(4000) == 0.08


def test_one_pass_says_what_all_cost() -> None:
    curve = CostCurve()
    curve.add(10, 0.03)
    assert curve.is_measured
    assert curve.seconds(1) == curve.seconds(10) == curve.seconds(1000) == pytest.approx(0.03)


def test_two_widths_make_a_line() -> None:
    curve = CostCurve()
    curve.add(10, linear(10))
    curve.add(100, linear(100))
    for rows in (1, 10, 50, 100, 5000):
        assert curve.seconds(rows) == pytest.approx(linear(rows))


def test_a_line_is_found_exactly() -> None:
    curve = learnt(linear)
    for rows in (1, 4, 60, 233, 1000):
        assert curve.seconds(rows) == pytest.approx(linear(rows), rel=1e-6)


def test_any_shape_is_followed_where_many_passes_ran() -> None:
    curve = learnt(stepped)
    for rows in WIDTHS:
        assert curve.seconds(rows) == pytest.approx(stepped(rows), rel=0.08)
    assert curve.seconds(21) - curve.seconds(8) < 0.1 * (curve.seconds(34) - curve.seconds(21))


@pytest.mark.parametrize("seed", range(5))
def test_it_never_falls_whatever_the_noise(seed: int) -> None:
    seconds = learnt(linear, noise=1.0, seed=seed).seconds_of(np.arange(1, 500))
    assert (np.diff(seconds) >= -1e-12).all()
    assert (seconds > 0).all()


def test_a_few_disturbed_passes_change_nothing() -> None:
    curve = learnt(linear)
    for rows in WIDTHS[::2]:
        for _ in range(5):
            curve.add(rows, 3.0)
    for rows in WIDTHS:
        assert curve.seconds(rows) == pytest.approx(linear(rows), rel=0.02)


def test_a_machine_that_got_slower_is_believed() -> None:
    curve = learnt(linear)
    for _ in range(15):
        for rows in WIDTHS:
            curve.add(rows, 2 * linear(rows))
    assert curve.seconds(34) == pytest.approx(2 * linear(34), rel=1e-6)


def test_memory_is_bounded() -> None:
    curve = CostCurve()
    for rows in range(1, 5000):
        curve.add(rows, linear(rows))
    assert len(curve._buckets) < 60
