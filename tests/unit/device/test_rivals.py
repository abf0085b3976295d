"""The likeliest tokens of a row, looked for where they are."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.device.confidence import _likeliest


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 50.0])
def test_they_are_the_largest_logits_however_steep_the_row(spread: float) -> None:
    row = (np.random.default_rng(2).normal(size=3000) * spread).astype(np.float32)
    row[::3] = -np.inf
    assert set(_likeliest(row, 8).tolist()) == set(np.argsort(row)[-8:].tolist())


def test_a_row_of_little_else_than_masks_has_them_too() -> None:
    row = np.full(100, -np.inf, dtype=np.float32)
    row[[3, 7, 9]] = [1.0, 2.0, -40.0]
    assert {3, 7, 9} <= set(_likeliest(row, 8).tolist())
