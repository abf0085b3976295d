"""How much one identity may ask for, and the bucket that counts it."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import check_int, check_number

__all__ = ["Quota", "TokenBucket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What one identity may have and do at an edge, over all its links together."""

    max_links: int = 16
    """Open at the same time; one more is refused."""
    max_sessions: int = 64
    """Sessions that still want tokens. Finished ones do not count, but as many are remembered at most."""
    max_queued_bytes: int = 4 << 20
    """Opened texts that wait for their first pass."""
    tokens_per_s: float = 0.0
    """Tokens of work: prompts, hints and answers alike. Beyond it texts go on at this rate; 0 is no limit."""
    messages_per_s: float = 1000.0
    """Messages beyond it are read later; 0 is no limit."""
    bytes_per_s: float = 2.0**20
    """Bytes beyond it are read later; 0 is no limit."""
    burst_s: float = 4.0
    """Each rate may be saved up for so long."""

    def __post_init__(self) -> None:
        check_int("max_links", self.max_links, low=1)
        check_int("max_sessions", self.max_sessions, low=1)
        check_int("max_queued_bytes", self.max_queued_bytes, low=1)
        check_number("tokens_per_s", self.tokens_per_s, low=0)
        check_number("messages_per_s", self.messages_per_s, low=0)
        check_number("bytes_per_s", self.bytes_per_s, low=0)
        check_number("burst_s", self.burst_s, low=0.001)


class TokenBucket:
    """Fills at a rate up to a burst. Taking never fails: it may leave a debt, and says how long that lasts.

    So one large message passes when the bucket is not in debt, and what comes after it waits.
    """

    __slots__ = ("_at_s", "_burst", "_level", "_rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._at_s = now_s

    def take(self, amount: float, now_s: float) -> float:
        """Take it; how long until the debt is paid (0: there is none)."""
        if not self._rate_per_s:
            return 0.0
        self._fill(now_s)
        self._level -= amount
        return self._debt_s

    def wait_s(self, now_s: float) -> float:
        """How long until the debt is paid."""
        if not self._rate_per_s:
            return 0.0
        self._fill(now_s)
        return self._debt_s

    def is_full(self, now_s: float) -> bool:
        """Nothing is remembered that a new bucket would not say as well."""
        if not self._rate_per_s:
            return True
        self._fill(now_s)
        return self._level >= self._burst

    @property
    def _debt_s(self) -> float:
        return max(0.0, -self._level / self._rate_per_s)

    def _fill(self, now_s: float) -> None:
        self._level = min(self._burst, self._level + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
