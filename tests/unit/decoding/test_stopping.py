"""Where an agreed run is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cascade.decoding import cut


@given(
    st.lists(st.integers(0, 9), max_size=12),
    st.integers(0, 20),
    st.frozensets(st.integers(0, 9), max_size=3),
    st.integers(0, 30),
)
def test_cut(tokens: list[int], position: int, stop_ids: frozenset[int], limit: int) -> None:
    kept, finish = cut(tokens, position=position, stop_ids=stop_ids, limit=limit)
    assert kept == tokens[: len(kept)]
    assert position + len(kept) <= max(limit, position)
    assert stop_ids.isdisjoint(kept[:-1])
    ends_in_stop = len(kept) > 0 and kept[-1] in stop_ids
    if finish == "stop":
        assert ends_in_stop
    elif finish == "length":
        assert position + len(kept) == max(limit, position)
        assert not ends_in_stop
    else:
        assert kept == tokens
        assert not ends_in_stop
        assert position + len(kept) < limit


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 12), st.integers(1, 20))
def test_a_run_cut_in_two_ends_where_it_would_whole(tokens: list[int], first: int, limit: int) -> None:
    whole = cut(tokens, position=0, stop_ids={7}, limit=limit)
    kept, finish = cut(tokens[:first], position=0, stop_ids={7}, limit=limit)
    if finish is None:
        rest, finish = cut(tokens[len(kept) :], position=len(kept), stop_ids={7}, limit=limit)
        kept = [*kept, *rest]
    assert (kept, finish) == whole


def test_a_stop_token_behind_the_limit_is_not_reached() -> None:
    assert cut([1, 2, 0], position=5, stop_ids={0}, limit=7) == ([1, 2], "length")
    assert cut([1, 0, 3], position=5, stop_ids={0}, limit=7) == ([1, 0], "stop")
