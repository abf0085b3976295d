"""The rolling prefix hash tells texts apart."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cascade.wire.hashing import HASH_START, extend, fold

from .wire_samples import examples

U32 = st.integers(0, (1 << 32) - 1)
TOKENS = st.lists(st.integers(0, 49_151), max_size=30)


def states(tokens: list[int]) -> list[int]:
    """The state after every prefix, as both sides keep it."""
    result = [HASH_START]
    for token in tokens:
        result.append(extend(result[-1], token))
    return result


@examples(150)
@given(U32, U32)
def test_in_range(state: int, token: int) -> None:
    after = extend(state, token)
    assert 0 <= after < 1 << 32
    assert 0 <= fold(after) < 1 << 16


@examples(150)
@given(U32, U32, U32)
def test_no_two_tokens_and_no_two_states_meet(state: int, left: int, right: int) -> None:
    assert (extend(state, left) == extend(state, right)) == (left == right)
    assert (extend(left, state) == extend(right, state)) == (left == right)


@examples(150)
@given(TOKENS, TOKENS)
def test_different_texts_differ(left: list[int], right: list[int]) -> None:
    assert (states(left)[-1] == states(right)[-1]) == (left == right)


def test_chance_collisions_are_as_rare_as_16_bits_allow() -> None:
    """Texts that differ in one token, at the end or earlier, where tokens are close together or not."""
    rng = random.Random(7)
    trials, met = 0, 0
    for _ in range(60):
        text = [rng.randrange(2000) for _ in range(rng.randrange(1, 6))]
        at = rng.randrange(len(text))
        before = states(text[:at])[-1]
        folds = []
        for token in range(500):
            state = extend(before, token)
            for later in text[at + 1 :]:
                state = extend(state, later)
            folds.append(fold(state))
        trials += 500 * 499 // 2
        met += sum(count * (count - 1) // 2 for count in map(folds.count, set(folds)))
    expected = trials / (1 << 16)  # 114
    assert 0.6 * expected < met < 1.4 * expected


def test_swapped_and_repeated_tokens_show() -> None:
    rng = random.Random(8)
    met = 0
    for _ in range(4000):
        a, b = rng.sample(range(49_152), 2)
        met += fold(states([a, b])[-1]) == fold(states([b, a])[-1])
        met += fold(states([a])[-1]) == fold(states([a, a])[-1])
        met += fold(states([a])[-1]) == fold(states([a, 0])[-1])
    assert met <= 3


def test_one_token_over_and_over_is_never_at_rest() -> None:
    for token in (0, 1, 2, 49_151, HASH_START):
        chain = states([token] * 5000)
        assert len(set(chain)) == len(chain)
    assert extend(0, 0) != 0


def test_every_bit_of_a_token_reaches_every_bit_of_the_wire() -> None:
    rng = random.Random(9)
    starts = [rng.randrange(1 << 32) for _ in range(200)]
    for bit in range(17):
        changes = [0] * 16
        for start in starts:
            # One token further on, as hints carry the hash of what lies well before them.
            token = rng.randrange(49_152)
            left = extend(extend(start, token), 11)
            right = extend(extend(start, token ^ 1 << bit), 11)
            for place in range(16):
                changes[place] += (fold(left) ^ fold(right)) >> place & 1
        assert all(60 < count < 140 for count in changes), (bit, changes)
