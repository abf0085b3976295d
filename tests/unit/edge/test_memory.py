"""The memory of an engine: who shares, who is evicted, what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cascade.edge.interface import EngineStats
from cascade.edge.memory import MAX_KEPT_PER_OWNER, MIN_SHARED, KVMemory, TextCache
from cascade.errors import MemoryExceeded
from cascade.models.base import Feed
from cascade.testing import SyntheticTarget

TARGET = SyntheticTarget(vocab_size=64)
PER_TOKEN = TARGET.new_sequence().growth_bytes(1)
SYSTEM = tuple(range(40))
CHAT = [*SYSTEM, *range(20, 60)]


def memory_of(budget_tokens: int = 10_000, **options: object) -> KVMemory:
    plain = {"keep_s": 100.0, "public_prefixes": ()}
    return KVMemory(
        TARGET.new_sequence,
        EngineStats(),
        budget_bytes=budget_tokens * PER_TOKEN,
        **(plain | options),  # type: ignore[arg-type]
    )


def take(memory: KVMemory, *wanted: tuple[TextCache, int], now_s: float = 0.0) -> list[TextCache]:
    """Those of these texts that get room to grow to such a length."""
    room = memory.room_for([cache for cache, _ in wanted], now_s)
    return [cache for cache, length in wanted if room.take(cache, length, 0)]


def hold(memory: KVMemory, owner: str, tokens: Sequence[int], *, now_s: float = 0.0) -> TextCache:
    """A cache that holds all of a text, as after some passes."""
    cache = TextCache(owner, list(tokens))
    assert take(memory, (cache, len(tokens)), now_s=now_s) == [cache]
    assert cache.sequence is not None
    TARGET.forward([Feed(cache.sequence, cache.tokens[cache.num_valid :], 0)])
    cache.num_valid = len(tokens)
    return cache


def says(cache: TextCache, tokens: Sequence[int]) -> bool:
    """Does the model hold exactly these tokens? Its next row tells."""
    assert cache.sequence is not None
    assert cache.sequence.length == len(tokens)
    twin, alone = cache.sequence.fork(), TARGET.new_sequence()
    row = TARGET.forward([Feed(twin, [1], 1)])[0]
    return bool((row == TARGET.forward([Feed(alone, [*tokens, 1], 1)])[0]).all())


def begin(memory: KVMemory, owner: str, tokens: Sequence[int]) -> TextCache:
    cache = TextCache(owner, list(tokens))
    assert take(memory, (cache, len(tokens))) == [cache]
    assert says(cache, tokens[: cache.num_valid])
    return cache


# Sharing


@pytest.mark.parametrize("is_over", [False, True])
def test_a_text_begins_with_what_its_owners_other_texts_hold(is_over: bool) -> None:
    memory = memory_of()
    first = hold(memory, "ann", CHAT)
    if is_over:
        memory.keep(first, 1.0)
    assert begin(memory, "ann", [*CHAT, 1, 2]).num_valid == len(CHAT)
    assert begin(memory, "ann", CHAT).num_valid == len(CHAT) - 1, "its last token is always fed"
    assert begin(memory, "ann", [*CHAT[:50], 63, 63]).num_valid == 50, "a fork of an earlier turn"
    assert begin(memory, "ann", [*CHAT[: MIN_SHARED - 1], 63, 63]).num_valid == 0
    assert says(first, CHAT), "forks do not disturb it"


def test_the_longest_common_beginning_is_taken() -> None:
    memory = memory_of()
    for length in (30, 70, 50):
        hold(memory, "ann", [*CHAT[:length], 63, 63])
    assert begin(memory, "ann", CHAT).num_valid == 70


def test_what_is_not_held_yet_is_not_shared() -> None:
    memory = memory_of()
    cache = hold(memory, "ann", CHAT[:30])
    cache.tokens += CHAT[30:]  # the rest of its prompt, or hints
    assert begin(memory, "ann", CHAT).num_valid == 30


def test_owners_share_nothing() -> None:
    memory = memory_of()
    memory.keep(hold(memory, "ann", CHAT), 0.0)
    assert begin(memory, "bob", CHAT).num_valid == 0


def test_owners_share_public_prefixes_and_these_as_a_whole() -> None:
    memory = memory_of(public_prefixes=(SYSTEM, SYSTEM[:20]))
    hold(memory, "ann", CHAT)
    assert begin(memory, "bob", CHAT).num_valid == len(SYSTEM), "not one token of what follows"
    assert begin(memory, "cho", [*SYSTEM[:30], 63, 63]).num_valid == 20
    assert begin(memory, "dan", SYSTEM[:19]).num_valid == 0
    memory = memory_of(public_prefixes=(SYSTEM,))
    hold(memory, "ann", SYSTEM[:30])
    assert begin(memory, "bob", CHAT).num_valid == 0, "it would tell what Ann's text begins with"


def test_what_was_rewritten_is_not_shared() -> None:
    memory = memory_of(public_prefixes=(SYSTEM,))
    cache = hold(memory, "ann", CHAT)
    cache.num_valid = 24  # as a resume with another text does
    cache.tokens[24:] = [63] * 40
    assert begin(memory, "ann", CHAT).num_valid == 24
    assert begin(memory, "bob", CHAT).num_valid == 0


def test_a_kept_cache_is_its_own_whatever_becomes_of_the_text() -> None:
    memory = memory_of()
    cache = hold(memory, "ann", CHAT)
    text = cache.tokens
    memory.keep(cache, 0.0)
    text[:] = [63] * 100
    assert begin(memory, "ann", [*CHAT, 1]).num_valid == len(CHAT)


def test_hits_are_counted_once() -> None:
    memory = memory_of()
    hold(memory, "ann", CHAT)
    second = begin(memory, "ann", [*CHAT, 1, 2])
    take(memory, (second, len(CHAT) + 2))
    assert memory.stats.num_hit == len(CHAT)


# Keeping


def test_of_two_kept_texts_the_longer_one_will_do() -> None:
    memory = memory_of()
    memory.keep(hold(memory, "ann", CHAT[:50]), 0.0)
    memory.keep(hold(memory, "ann", CHAT), 1.0)
    assert memory.num_kept == 1
    memory.keep(hold(memory, "ann", CHAT[:60]), 2.0)
    assert memory.num_kept == 1
    assert memory.num_bytes == len(CHAT) * PER_TOKEN
    memory.keep(hold(memory, "bob", CHAT), 3.0)
    memory.keep(hold(memory, "ann", [*CHAT[:60], 63]), 4.0)
    assert memory.num_kept == 3


def test_kept_texts_are_forgotten_after_a_while() -> None:
    memory = memory_of(keep_s=10.0)
    memory.keep(hold(memory, "ann", CHAT), 0.0)
    memory.keep(hold(memory, "bob", CHAT), 4.0)
    live = hold(memory, "cho", CHAT)
    assert memory.expire(9.9) == 10.0
    assert memory.num_kept == 2
    assert memory.expire(10.0) == 14.0
    assert memory.num_kept == 1
    assert memory.expire(14.0) == float("inf")
    assert memory.num_bytes == live.num_valid * PER_TOKEN


def test_one_owner_keeps_only_so_many() -> None:
    memory = memory_of()
    for number in range(MAX_KEPT_PER_OWNER + 9):
        memory.keep(hold(memory, "ann", [number // 64, number % 64, *range(20)]), float(number))
    assert memory.num_kept == MAX_KEPT_PER_OWNER
    assert begin(memory, "ann", [0, 8, *range(20)]).num_valid == 0, "the oldest are gone"
    assert begin(memory, "ann", [0, 9, *range(20)]).num_valid == 21


def test_an_empty_cache_is_not_kept() -> None:
    memory = memory_of()
    memory.keep(TextCache("ann", list(CHAT)), 0.0)
    assert (memory.num_kept, memory.num_bytes) == (0, 0)
    assert not memory._held


# Evicting


def test_the_least_recently_used_makes_room() -> None:
    memory = memory_of(budget_tokens=100)
    old, new = hold(memory, "a", CHAT[:40], now_s=1.0), hold(memory, "b", CHAT[:40], now_s=2.0)
    third = TextCache("c", CHAT)
    assert take(memory, (third, 20), now_s=3.0) == [third]
    assert old.sequence is not None, "there was room"
    assert take(memory, (third, 21), now_s=3.0) == [third]
    assert (old.num_valid, old.num_lost) == (0, 40)
    assert old.sequence is None
    assert new.sequence is not None
    assert memory.stats.num_evictions == 1


def test_what_is_due_is_evicted_for_those_before_it_and_from_the_end() -> None:
    memory = memory_of(budget_tokens=100)
    caches = [hold(memory, owner, CHAT[:25], now_s=float(9 - index)) for index, owner in enumerate("abcd")]
    assert take(memory, *((cache, 30) for cache in caches)) == caches[:3], "the last one makes room"
    assert caches[3].sequence is None
    assert all(says(cache, CHAT[:25]) for cache in caches[:3])


def test_one_for_which_there_is_no_room_waits_and_nobody_is_evicted_in_vain() -> None:
    memory = memory_of(budget_tokens=100)
    first, second, third = (hold(memory, owner, CHAT[:30]) for owner in "abc")
    assert take(memory, (first, 40), (second, 65), (third, 20)) == [first, third]
    assert second.sequence is not None
    assert memory.stats.num_evictions == 0
    assert take(memory, (second, 65), (first, 40), (third, 20)) == [second]
    assert third.sequence is None


def test_one_that_does_not_fit_alone_is_refused() -> None:
    memory = memory_of(budget_tokens=100)
    other, large = hold(memory, "a", CHAT[:40]), TextCache("b", [1] * 200)
    with pytest.raises(MemoryExceeded) as refused:
        take(memory, (other, 41), (large, 101))
    assert refused.value.needed_bytes == 101 * PER_TOKEN
    assert other.sequence is not None
    assert take(memory, (other, 41), (large, 100)) == [other]
    assert take(memory, (large, 100), (other, 41)) == [large]
    assert other.sequence is None


def test_room_is_promised_and_the_pass_takes_it() -> None:
    memory = memory_of(budget_tokens=100)
    one, two = TextCache("a", [1] * 200), TextCache("b", [1] * 200)
    room = memory.room_for([one, two], 0.0)
    assert room.take(one, 50, 10)
    assert memory.num_bytes == 0
    assert not room.take(two, 41, 0)
    assert room.take(two, 40, 0)


def test_an_admitted_text_is_never_evicted_for_one_behind_it() -> None:
    memory = memory_of(budget_tokens=100)
    caches = [hold(memory, owner, CHAT[:20]) for owner in "abcde"]
    admitted = take(
        memory, *((cache, length) for cache, length in zip(caches, [60, 21, 21, 21, 21], strict=True))
    )
    assert admitted == [caches[0], caches[1]]
    assert says(caches[0], CHAT[:20])
    assert says(caches[1], CHAT[:20])


def test_nobody_is_evicted_while_there_is_room() -> None:
    memory = memory_of(budget_tokens=100)
    caches = [hold(memory, owner, CHAT[:20]) for owner in "abcde"]
    take(memory, (caches[0], 20), now_s=1.0)
    assert all(cache.sequence is not None for cache in caches)
    assert memory.num_bytes == memory.budget_bytes
