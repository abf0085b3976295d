"""What the model remembers of all texts, in a budget of bytes: shared, and evicted when others need room.

A text that is over leaves its cache behind for a while: the next turn of the chat begins with all of it.
A text that is idle may lose its cache to one that is not; when it speaks again its tokens are fed again.

**Who shares.** A cache makes the first token come sooner, so whoever may share it learns that it is there.
Texts of one owner share whatever they begin with in common. Across owners only prefixes that the operator
declared public are shared, and those as a whole: a part of one would tell what another's text begins with.

Called between passes only: while one runs, no cache may change.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from ..decoding import common_prefix
from ..errors import MemoryExceeded
from ..models.base import TokenSequence
from .interface import EngineStats

__all__ = ["KVMemory", "Room", "TextCache"]

MAX_KEPT_PER_OWNER = 64
"""Caches of texts that are over, of one owner. A text that opens is compared with all of them."""
MIN_SHARED = 16
"""A shorter common beginning is not worth its piece: attention pays for every piece in every later pass."""


class TextCache:
    """What the model holds of one text; nothing, after an eviction."""

    def __init__(self, owner: str, tokens: list[int]) -> None:
        self.owner = owner
        self.tokens = tokens
        """The text as it grows. Not ours: the first `num_valid` of it are what the model holds."""
        self.sequence: TokenSequence | None = None
        self.num_valid = 0
        self.num_lost = 0
        """So many tokens were held before an eviction; feeding them again is work done twice."""
        self.used_s = 0.0
        self.is_kept = False
        """Its text is over."""

    def truncate(self) -> None:
        """Forget what is not the text's, as hints that were wrong."""
        if self.sequence is not None and self.sequence.length > self.num_valid:
            self.sequence.truncate(self.num_valid)

    def release(self) -> None:
        if self.sequence is not None:
            self.sequence.release()
            self.sequence = None
            self.num_lost = max(self.num_lost, self.num_valid)
            self.num_valid = 0


class KVMemory:
    """All caches of one engine."""

    def __init__(
        self,
        new_sequence: Callable[[], TokenSequence],
        stats: EngineStats,
        *,
        budget_bytes: int,
        keep_s: float,
        public_prefixes: Iterable[tuple[int, ...]] = (),
    ) -> None:
        self.budget_bytes = budget_bytes
        self.new_sequence = new_sequence
        self.stats = stats
        self._keep_s = keep_s
        self._public = sorted((list(prefix) for prefix in public_prefixes), key=len, reverse=True)
        self._held: defaultdict[str, dict[TextCache, None]] = defaultdict(dict)
        """Every cache that holds something, by owner."""
        self._expiry_s = float("inf")
        """No kept cache expires before this."""

    @property
    def num_bytes(self) -> int:
        return sum(cache.sequence.memory_bytes for cache in self.caches() if cache.sequence is not None)

    @property
    def num_kept(self) -> int:
        return sum(cache.is_kept for cache in self.caches())

    def room_for(self, due: Sequence[TextCache], now_s: float) -> Room:
        """Begin to give out room for a pass; who stands first in `due` has the first claim."""
        return Room(self, due, now_s)

    def fill(self, cache: TextCache, source: TextCache | None, num_shared: int) -> None:
        """Let the model begin this text, with what the source has in common with it."""
        if source is None or source.sequence is None:
            cache.sequence = self.new_sequence()
        else:
            source.truncate()
            cache.sequence = source.sequence.fork()
            cache.sequence.truncate(num_shared)
        cache.num_valid = num_shared
        self._held[cache.owner][cache] = None

    def keep(self, cache: TextCache, now_s: float) -> None:
        """Its text is over; the chat may go on."""
        cache.truncate()
        cache.tokens = cache.tokens[: cache.num_valid]  # the text may yet be rewritten, or grow
        cache.is_kept = True
        cache.used_s = now_s
        self._expiry_s = min(self._expiry_s, now_s + self._keep_s)
        if not cache.num_valid:
            self.drop(cache)
            return
        kept = [other for other in self._held[cache.owner] if other.is_kept and other is not cache]
        for other in kept:
            num_common = common_prefix(other.tokens, cache.tokens)
            if num_common == other.num_valid:
                self.drop(other)  # the newer one says all that it says
            elif num_common == cache.num_valid:
                other.used_s = now_s
                self.drop(cache)
                return
        if len(kept) >= MAX_KEPT_PER_OWNER:
            self.drop(min(kept, key=lambda other: other.used_s))

    def drop(self, cache: TextCache) -> None:
        """Give back what it holds."""
        cache.release()
        held = self._held.get(cache.owner, {})
        held.pop(cache, None)
        if not held:
            self._held.pop(cache.owner, None)

    def expire(self, now_s: float) -> float:
        """Forget texts that were over for too long; says when to ask again."""
        if now_s >= self._expiry_s:
            kept = [cache for cache in self.caches() if cache.is_kept]
            self._expiry_s = float("inf")
            for cache in kept:
                if now_s >= cache.used_s + self._keep_s:
                    self.drop(cache)
                else:
                    self._expiry_s = min(self._expiry_s, cache.used_s + self._keep_s)
        return self._expiry_s

    def idle(self, due: Collection[TextCache]) -> list[TextCache]:
        """What is not due, the least recently used first."""
        return sorted((cache for cache in self.caches() if cache not in due), key=lambda cache: cache.used_s)

    def growth_bytes(self, cache: TextCache, num_tokens: int) -> int:
        """What so many more tokens of a text take; its share in another's cache costs nothing."""
        sequence = self.new_sequence() if cache.sequence is None else cache.sequence
        return sequence.growth_bytes(num_tokens)

    def longest_shared(self, cache: TextCache, limit: int) -> tuple[TextCache | None, int]:
        """Which cache has most in common with a text's first `limit` tokens, and how much they may share."""
        tokens = cache.tokens[:limit]
        best, num_best = None, MIN_SHARED - 1
        for other in self._held.get(cache.owner, ()):
            num_shared = common_prefix(other.tokens[: other.num_valid], tokens)
            if num_shared > num_best:
                best, num_best = other, num_shared
        for prefix in self._public:
            if len(prefix) <= num_best:
                break
            if tokens[: len(prefix)] == prefix:
                for other in self.caches():
                    if other.num_valid >= len(prefix) and other.tokens[: len(prefix)] == prefix:
                        return other, len(prefix)
        return best, 0 if best is None else num_best

    def caches(self) -> Iterable[TextCache]:
        return itertools.chain.from_iterable(self._held.values())


class Room:
    """Memory for one pass, given to texts in their turn.

    Room is made by evicting first what is not due, the least recently used before others; then what is due
    but stands behind, from the end. Who gets none waits for another pass and keeps what it has. So nobody
    waits for ever: who stands first gets room, unless its text does not fit alone.
    """

    def __init__(self, memory: KVMemory, due: Sequence[TextCache], now_s: float) -> None:
        self._memory = memory
        self._due = due
        self._now_s = now_s
        for cache in due:
            cache.truncate()
        self._held_bytes = memory.num_bytes
        self._promised: dict[TextCache, tuple[int, int]] = {}
        """What those admitted will grow by, in tokens and in bytes."""
        self._promised_bytes = 0
        self._claimed_bytes = 0
        """What those admitted hold, and what they were promised."""
        self._place = {cache: place for place, cache in enumerate(due)}
        self._victims: list[TextCache] | None = None
        """The next one at the end."""

    def take(self, cache: TextCache, length: int, num_hints: int) -> bool:
        """Is there room for a text of `length` tokens and hints behind it? Room for a part is of no use."""
        memory = self._memory
        while True:
            source, num_held = self._beginning(cache, length)
            num_tokens = length - num_held + num_hints
            growth_bytes = memory.growth_bytes(cache, num_tokens)
            needed_bytes = _held_bytes(cache) + growth_bytes
            if needed_bytes > memory.budget_bytes:
                raise MemoryExceeded(needed_bytes, memory.budget_bytes)
            if self._claimed_bytes + needed_bytes > memory.budget_bytes:
                return False  # not even with all evicted that may be, so nothing is evicted in vain
            if not self._make_room(cache, growth_bytes + self._fork_bytes(source)):
                if not self._promised:  # all others made room, and it was not enough
                    raise MemoryExceeded(needed_bytes, memory.budget_bytes)
                return False
            if source is None or source.sequence is not None:
                break  # else it had to make room itself, and this text begins without it
        if cache.sequence is None:
            memory.fill(cache, source, num_held)
            memory.stats.num_hit += num_held
            self._held_bytes = memory.num_bytes
            self._promise_again(source)
        self._promised[cache] = num_tokens, growth_bytes
        self._promised_bytes += growth_bytes
        self._claimed_bytes += needed_bytes
        cache.used_s = self._now_s
        return True

    def _beginning(self, cache: TextCache, length: int) -> tuple[TextCache | None, int]:
        """What need not be fed: all that it holds, or what another one holds of it."""
        if cache.sequence is not None:
            return None, cache.num_valid
        return self._memory.longest_shared(cache, length - 1)  # the last one is always fed

    def _fork_bytes(self, source: TextCache | None) -> int:
        """What it takes to fork, the source's own growth included."""
        if source is None or source.sequence is None:
            return 0
        source.truncate()
        if source not in self._promised:
            return source.sequence.fork_bytes
        num_tokens, growth_bytes = self._promised[source]
        anew_bytes = self._memory.new_sequence().growth_bytes(num_tokens)
        return source.sequence.fork_bytes + max(0, anew_bytes - growth_bytes)

    def _promise_again(self, source: TextCache | None) -> None:
        """A cache that was forked is frozen as far as it is filled: it grows by more than was promised."""
        if source in self._promised:
            num_tokens, before_bytes = self._promised[source]
            growth_bytes = self._memory.growth_bytes(source, num_tokens)
            self._promised[source] = num_tokens, growth_bytes
            self._promised_bytes += growth_bytes - before_bytes
            self._claimed_bytes += growth_bytes - before_bytes

    def _make_room(self, cache: TextCache, num_bytes: int) -> bool:
        memory = self._memory
        while self._held_bytes + self._promised_bytes + num_bytes > memory.budget_bytes:
            if self._victims is None:
                self._victims = [*self._due, *reversed(memory.idle(self._place))]
            place = self._place.get(self._victims[-1])
            if place is not None and place <= self._place[cache]:
                return False
            victim = self._victims.pop()
            if victim.sequence is not None:
                memory.stats.num_evictions += 1
                memory.drop(victim)
                # What it shared is charged to another one now: it may have freed less than it held.
                self._held_bytes = memory.num_bytes
        return True


def _held_bytes(cache: TextCache) -> int:
    return 0 if cache.sequence is None else cache.sequence.memory_bytes
