"""When one more draft token pays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.decoding import chance_of_all, one_more

chances = st.lists(st.floats(0, 1), max_size=10)


def test_a_draft_token_pays_while_its_chance_covers_its_price() -> None:
    # 20 tokens/s come without it; a step of 5 ms must have a chance of a tenth or more.
    assert one_more(0.11, rate_tokens_per_s=20, cost_s=0.005)
    assert one_more(0.1, rate_tokens_per_s=20, cost_s=0.005)
    assert not one_more(0.09, rate_tokens_per_s=20, cost_s=0.005)


def test_nothing_to_gain_means_stop_at_an_empty_window() -> None:
    assert not one_more(chance_of_all([]), rate_tokens_per_s=20, cost_s=0.06)
    assert one_more(chance_of_all([]), rate_tokens_per_s=20, cost_s=0.04)


@given(chances, st.floats(0, 1))
def test_a_longer_window_never_pays_where_a_shorter_does_not(window: list[float], chance: float) -> None:
    longer, shorter = chance_of_all([*window, chance]), chance_of_all(window)
    assert 0 <= longer <= shorter <= 1
    if one_more(longer, rate_tokens_per_s=10, cost_s=0.01):
        assert one_more(shorter, rate_tokens_per_s=10, cost_s=0.01)


@pytest.mark.parametrize("chance", [0.6, 0.8, 0.95])
def test_the_window_grows_with_agreement(chance: float) -> None:
    def length(agreement: float) -> int:
        drafted = 0
        while one_more(agreement**drafted, rate_tokens_per_s=20, cost_s=0.005):
            drafted += 1
        return drafted

    assert length(chance - 0.1) < length(chance)
