"""How the rows of a chunk are shared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.edge.prefill import share_rows


@pytest.mark.parametrize(
    ("wanted", "num_rows", "shares"),
    [
        ([], 8, []),
        ([5], 8, [5]),
        ([50], 8, [8]),
        ([50, 50], 8, [4, 4]),
        ([50, 50, 50], 8, [3, 3, 2]),  # the first ones get what cannot be divided
        ([50, 1, 50], 8, [4, 1, 3]),
        ([2, 1, 3], 8, [2, 1, 3]),
        ([9, 9, 9], 2, [1, 1, 0]),
    ],
)
def test_shares(wanted: list[int], num_rows: int, shares: list[int]) -> None:
    assert share_rows(wanted, num_rows) == shares


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 600))
def test_shares_are_fair_and_nothing_is_left_over(wanted: list[int], num_rows: int) -> None:
    shares = share_rows(wanted, num_rows)
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))
    assert sum(shares) == min(num_rows, sum(wanted))
    for share, want in zip(shares, wanted, strict=True):
        if share < want:
            assert share >= max(shares) - 1, "somebody has more than one who still wants some"
