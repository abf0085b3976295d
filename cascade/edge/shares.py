"""What each owner was given of late: the memory that fairness needs.

An owner is whoever has texts at the engine, usually one identity. An account counts tokens' worth of service
and forgets over a horizon, so it is a rate. Accounts begin at the mean of those present, and count as no less
than half of it: a newcomer is neither favoured nor starved, and nobody saves up while it is away.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["HORIZON_S", "Shares", "Standing"]

HORIZON_S = 10.0
SETTLING_S = 1.0
"""Service at the mean rate for so long is added to every account: a young one says little by itself."""
LEAST_OF_MEAN = 0.5
CREDIT = 1.5
"""Nobody is in debt who was given no more than this times what the mean rate brings over the horizon."""
MAX_ACCOUNTS = 4096
"""More are purged of those that hold next to nothing."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One owner among those present."""

    tokens_per_s: float
    is_in_debt: bool
    """It was given so much more than the others that what is not a token's own row has to wait."""


class Shares:
    """Tokens a second of every owner, over the last seconds."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def charge(self, owner: str, tokens_worth: float, now_s: float) -> None:
        """The owner was given so much. What was prefilled for it counts at what it cost the others."""
        account = self._accounts.get(owner)
        if account is None:
            self._purge(now_s)
            account = self._accounts[owner] = _Account(now_s)
        account.upto(now_s).given += tokens_worth

    def standing(self, owners: Collection[str], now_s: float) -> dict[str, Standing]:
        """How each of these owners stands, who are present now; equal before anything was given."""
        accounts = {owner: self._accounts.get(owner, _Account(now_s)).upto(now_s) for owner in owners}
        memory_s = sum(account.memory_s for account in accounts.values())
        given = sum(account.given for account in accounts.values())
        if memory_s <= 0 or given <= 0:
            return dict.fromkeys(accounts, Standing(1.0, False))
        mean = given / memory_s
        standing = {}
        for owner, account in accounts.items():
            rate = (account.given + SETTLING_S * mean) / (account.memory_s + SETTLING_S)
            is_in_debt = account.given > CREDIT * mean * HORIZON_S
            standing[owner] = Standing(max(rate, LEAST_OF_MEAN * mean), is_in_debt)
        return standing

    def _purge(self, now_s: float) -> None:
        if len(self._accounts) >= MAX_ACCOUNTS:
            by_gift = sorted(self._accounts, key=lambda owner: self._accounts[owner].upto(now_s).given)
            for owner in by_gift[: MAX_ACCOUNTS // 2]:
                del self._accounts[owner]


class _Account:
    """Exponentially forgotten service, and over how many seconds of memory it is spread."""

    __slots__ = ("_at_s", "given", "memory_s")

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self.given = 0.0
        self.memory_s = 0.0

    def upto(self, now_s: float) -> _Account:
        """This account, with what is forgotten by now."""
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0:
            kept = math.exp(-elapsed_s / HORIZON_S)
            self.given *= kept
            self.memory_s = HORIZON_S - (HORIZON_S - self.memory_s) * kept
            self._at_s = now_s
        return self
