"""The identities that are here: what each holds, and how fast it may go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .counters import Counters
from .quota import Quota, TokenBucket
from .session import Session

__all__ = ["Account", "Accounts", "QuotaOf"]

QuotaOf = Callable[[str], Quota | None]
"""identity -> its quota; None: the one of everybody."""


class Account:
    """One identity: all its links and sessions together."""

    def __init__(self, identity: str, quota: Quota, counters: Counters, now_s: float) -> None:
        self.identity = identity
        self.quota = quota
        self.usage = counters.usage_of(identity)
        self.num_links = 0
        self.num_running = 0
        """Sessions that want tokens."""
        self.finished: dict[Session, None] = {}
        """They still answer, until their device closes them; the oldest go first."""
        self.queued_bytes = 0
        self.held_until_s = float("-inf")
        """Its texts are not decoded before: it had all that its rate allows."""
        self._work = TokenBucket(quota.tokens_per_s, quota.tokens_per_s * quota.burst_s, now_s)
        self._messages = TokenBucket(quota.messages_per_s, quota.messages_per_s * quota.burst_s, now_s)
        self._bytes = TokenBucket(quota.bytes_per_s, quota.bytes_per_s * quota.burst_s, now_s)

    def work(self, num_tokens: int, now_s: float) -> None:
        """So many tokens were, or will be, run through the model for it."""
        self._work.take(num_tokens, now_s)

    def work_wait_s(self, now_s: float) -> float:
        """How long until it may ask for more work."""
        return self._work.wait_s(now_s)

    def hear(self, num_bytes: int, now_s: float) -> float:
        """A message came; how long until the next should be read."""
        self.usage.bytes_in += num_bytes
        return max(self._messages.take(1, now_s), self._bytes.take(num_bytes, now_s))

    def is_idle(self, now_s: float) -> bool:
        """Nothing would be forgotten with it."""
        is_empty = not (self.num_links or self.num_running or self.finished)
        return is_empty and all(bucket.is_full(now_s) for bucket in (self._work, self._messages, self._bytes))


class Accounts:
    """By identity; those that hold nothing and owe nothing are forgotten."""

    def __init__(self, quota: Quota, quota_of: QuotaOf | None, counters: Counters) -> None:
        self._quota = quota
        self._quota_of = quota_of
        self._counters = counters
        self._accounts: dict[str, Account] = {}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def __len__(self) -> int:
        return len(self._accounts)

    def of(self, identity: str, now_s: float) -> Account:
        account = self._accounts.get(identity)
        if account is None:
            quota = (self._quota_of(identity) if self._quota_of is not None else None) or self._quota
            account = self._accounts[identity] = Account(identity, quota, self._counters, now_s)
        return account

    def forget_idle(self, now_s: float) -> None:
        for account in [account for account in self if account.is_idle(now_s)]:
            del self._accounts[account.identity]
