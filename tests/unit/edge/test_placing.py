"""Where texts go: to their beginnings, else to where least is to do."""

from __future__ import annotations

import random

from cascade.edge.replicas.placing import MAX_NOTED_PER_OWNER, Beginnings, choose, moves, slack
from cascade.wire.text import HashedText


def test_the_least_loaded_unless_the_beginning_is_elsewhere() -> None:
    assert choose({"a": 3, "b": 2, "c": 2}, None) == "b"
    assert choose({"a": 3, "b": 2, "c": 2}, "a") == "a"
    assert choose({"a": 3, "b": 2}, "gone") == "b"
    assert choose({"a": 4, "b": 2}, "a") == "b", "overloaded: it would be three ahead"
    assert choose({"a": 40, "b": 33}, "a") == "a", "of many texts a quarter more is nothing"


def test_uneven_loads_are_made_even_and_then_left_alone() -> None:
    dice = random.Random(1)
    for _ in range(500):
        loads = {name: dice.randrange(40) for name in range(dice.randint(1, 6))}
        found = moves(loads)
        is_uneven = max(loads.values()) - min(loads.values()) > slack(list(loads.values()))
        assert bool(found) == is_uneven
        for source, goal in found:
            loads[source] -= 1
            loads[goal] += 1
        if found:
            assert max(loads.values()) - min(loads.values()) <= 1
        assert not moves(loads)


def test_a_text_is_never_moved_for_the_one_that_was_just_placed() -> None:
    """What `choose` does, `moves` does not undo."""
    dice = random.Random(2)
    loads = dict.fromkeys(range(4), 0)
    for _ in range(500):
        loads[choose(loads, dice.choice([0, 0, 1, None]))] += 1
        assert not moves(loads)


def test_the_longest_beginning_is_found_and_only_the_owners() -> None:
    beginnings: Beginnings[str] = Beginnings()
    first, second = list(range(100)), [*range(50), *range(200, 300)]
    beginnings.note("me", HashedText(first), "a")
    beginnings.note("me", HashedText(second), "b")
    assert beginnings.find("me", HashedText([*first, 7, 8])) == "a", "the next turn of the first"
    assert beginnings.find("me", HashedText([*second, 7, 8])) == "b"
    assert beginnings.find("me", HashedText([*range(50), 7])) == "b", "what they share: the later one"
    assert beginnings.find("me", HashedText(range(10))) is None, "too short to be worth a way"
    assert beginnings.find("me", HashedText([9] * 100)) is None
    assert beginnings.find("you", HashedText([*first, 7, 8])) is None
    beginnings.forget("a")
    assert beginnings.find("me", HashedText([*first, 7, 8])) == "b"


def test_what_is_noted_is_bounded() -> None:
    beginnings: Beginnings[str] = Beginnings()
    for number in range(MAX_NOTED_PER_OWNER + 10):
        beginnings.note("me", HashedText([number] * 16), "a")
    assert beginnings.find("me", HashedText([0] * 16)) is None
    assert beginnings.find("me", HashedText([20] * 16)) == "a"
