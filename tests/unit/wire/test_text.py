"""Tokens and the hashes of their prefixes never get out of step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cascade.wire.hashing import HASH_START, extend, fold
from cascade.wire.text import HashedText

from .wire_samples import examples

TOKENS = st.lists(st.integers(0, 5), max_size=12)


def hash_of(tokens: list[int]) -> int:
    state = HASH_START
    for token in tokens:
        state = extend(state, token)
    return fold(state)


@examples(150)
@given(TOKENS, st.integers(0, 12), TOKENS)
def test_hashes_follow_the_tokens(first: list[int], length: int, then: list[int]) -> None:
    text = HashedText(first)
    text.truncate(length)
    text.extend(then)
    expected = first[:length] + then
    assert text.tokens == expected
    assert len(text) == len(expected)
    for position in range(len(expected) + 1):
        assert text.hash_before(position) == hash_of(expected[:position])
