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
from collections.abc import Callable, Iterable, Sequence

from ..errors import MemoryExceeded
from ..models.base import TokenSequence
from ..wire.text import common_prefix
from .interface import EngineStats

__all__ = ["KVMemory", "TextCache"]

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
        self.num_shared = 0
        """So many were taken over from another text, and not counted as hits yet."""
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
        self._new_sequence = new_sequence
        self._stats = stats
        self._keep_s = keep_s
        self._public = sorted((list(prefix) for prefix in public_prefixes), key=len, reverse=True)
        self._held: defaultdict[str, dict[TextCache, None]] = defaultdict(dict)
        """Every cache that holds something, by owner."""
        self._expiry_s = float("inf")
        """No kept cache expires before this."""

    @property
    def num_bytes(self) -> int:
        return sum(cache.sequence.memory_bytes for cache in self._caches() if cache.sequence is not None)

    @property
    def num_kept(self) -> int:
        return sum(cache.is_kept for cache in self._caches())

    def fill(self, cache: TextCache, length: int) -> None:
        """Begin a text of `length` tokens with what others have in common with it.

        Its last token is always fed, for what comes after it is to be decided.
        """
        source, num_shared = self._longest_shared(cache, length - 1)
        if source is None or source.sequence is None:
            cache.sequence = self._new_sequence()
        else:
            source.truncate()
            cache.sequence = source.sequence.fork()
            cache.sequence.truncate(num_shared)
        cache.num_valid = cache.num_shared = num_shared
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
            kept = [cache for cache in self._caches() if cache.is_kept]
            self._expiry_s = float("inf")
            for cache in kept:
                if now_s >= cache.used_s + self._keep_s:
                    self.drop(cache)
                else:
                    self._expiry_s = min(self._expiry_s, cache.used_s + self._keep_s)
        return self._expiry_s

    def admit(self, wanted: Sequence[tuple[TextCache, int]], now_s: float) -> set[TextCache]:
        """Make room for a pass that feeds so many tokens to each of these; those for which there is room.

        Who stands first gets room first. Room is made by evicting first what is not in the pass, the least
        recently used before others; then what stands behind in the pass, from the end. Who gets none waits
        for another pass. The first one is left out only if it does not fit alone.
        """
        growths = [_growth_bytes(cache, num_tokens) for cache, num_tokens in wanted]
        if self.num_bytes + sum(growths) <= self.budget_bytes:
            admitted = {cache for cache, _ in wanted}
        else:
            admitted = self._admit_some([cache for cache, _ in wanted], growths)
        for cache in admitted:
            cache.used_s = now_s
            self._stats.num_hit += cache.num_shared
            cache.num_shared = 0
        return admitted

    def can_ever_hold(self, cache: TextCache, num_tokens: int) -> bool:
        """Is there room for so many more tokens of this text, with all others evicted?"""
        return _bytes_with(cache, num_tokens) <= self.budget_bytes

    def exceeded(self, cache: TextCache, num_tokens: int) -> MemoryExceeded:
        return MemoryExceeded(_bytes_with(cache, num_tokens), self.budget_bytes)

    def _admit_some(self, wanted: list[TextCache], growths: list[int]) -> set[TextCache]:
        due = set(wanted)
        idle = sorted((cache for cache in self._caches() if cache not in due), key=lambda cache: cache.used_s)
        victims = itertools.chain(idle, reversed(wanted))
        free_bytes = self.budget_bytes - self.num_bytes
        admitted: dict[TextCache, int] = {}
        for cache, growth_bytes in zip(wanted, growths, strict=True):
            if cache.sequence is None:
                continue  # it made room for those before it
            while growth_bytes > free_bytes:
                victim = next(victims, cache)
                if victim is cache:
                    return set(admitted)  # nothing stands behind it that could make room
                self._evict(victim)
                # What it shared is charged to another one now, so it may have freed less than it held.
                free_bytes = self.budget_bytes - self.num_bytes - sum(admitted.values())
            admitted[cache] = growth_bytes
            free_bytes -= growth_bytes
        return set(admitted)

    def _evict(self, cache: TextCache) -> None:
        if cache.sequence is not None:
            self._stats.num_evictions += 1
            self.drop(cache)

    def _longest_shared(self, cache: TextCache, limit: int) -> tuple[TextCache | None, int]:
        """Which cache has most in common with this text, and how much of it both may share."""
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
                for other in self._caches():
                    if other.num_valid >= len(prefix) and other.tokens[: len(prefix)] == prefix:
                        return other, len(prefix)
        return best, 0 if best is None else num_best

    def _caches(self) -> Iterable[TextCache]:
        return itertools.chain.from_iterable(self._held.values())


def _growth_bytes(cache: TextCache, num_tokens: int) -> int:
    return 0 if cache.sequence is None else cache.sequence.growth_bytes(num_tokens)


def _bytes_with(cache: TextCache, num_tokens: int) -> int:
    held_bytes = 0 if cache.sequence is None else cache.sequence.memory_bytes
    return held_bytes + _growth_bytes(cache, num_tokens)
