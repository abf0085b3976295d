"""The edge's books: who runs, who waits for a first token, and what was done for whom.

Sessions are in them, and verifications of single drafts, each under a key of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from .accounts import Account
from .admission import AccountLoad, EdgeLoad, Refusal, admit
from .counters import Counters
from .interface import Committed, Engine
from .settings import EdgeSettings

__all__ = ["BYTES_PER_TOKEN", "Books"]

BYTES_PER_TOKEN = 4
"""Of a text that waits, as the quota counts it."""


class Books:
    """Running is whoever wants tokens; waiting, whoever of these has had none yet."""

    def __init__(self, engine: Engine, settings: EdgeSettings, counters: Counters) -> None:
        self.is_draining = False
        self.nothing_runs = asyncio.Event()
        self.nothing_runs.set()
        self._engine = engine
        self._settings = settings
        self._counters = counters
        self._running: dict[object, Account] = {}
        self._waiting: dict[object, float] = {}
        """Since when; the oldest is the first."""

    @property
    def running(self) -> Mapping[object, Account]:
        return self._running

    def load(self) -> EdgeLoad:
        oldest_s = self._waiting_since_s()
        return EdgeLoad(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            oldest_wait_s=0.0 if oldest_s is None else _now_s() - oldest_s,
            is_draining=self.is_draining,
            is_engine_dead=not self._engine.is_alive,
        )

    def _waiting_since_s(self) -> float | None:
        """The first of all. An identity that is served meanwhile does not count: it waits for itself."""
        served = {id(account) for key, account in self._running.items() if key not in self._waiting}
        ours = (since_s for key, since_s in self._waiting.items() if id(self._running[key]) not in served)
        return next(ours, None)

    def admit(self, account: Account, num_bytes: int) -> Refusal | None:
        """May this identity have one more?"""
        mine = AccountLoad(
            num_running=account.num_running,
            queued_bytes=account.queued_bytes,
            work_wait_s=account.work_wait_s(_now_s()),
        )
        refusal = admit(self.load(), mine, self._settings, account.quota, num_bytes=num_bytes)
        if refusal is not None:
            self.count_refusal(account, refusal)
        return refusal

    def count_refusal(self, account: Account, refusal: Refusal) -> None:
        self._counters.refused[refusal.code.name.lower()] += 1
        account.usage.num_refused += 1

    def run(self, key: object, account: Account) -> None:
        """It wants tokens from now on."""
        if key not in self._running:
            self._running[key] = account
            account.num_running += 1
            self.nothing_runs.clear()

    def stop(self, key: object) -> None:
        """It wants no more."""
        account = self._running.pop(key, None)
        if account is not None:
            account.num_running -= 1
            if not self._running:
                self.nothing_runs.set()
        self._waiting.pop(key, None)

    def begin_wait(self, key: object, account: Account, num_tokens: int) -> None:
        """It waits for its first token, behind so many of its text."""
        now_s = _now_s()
        self._waiting[key] = now_s
        account.work(num_tokens, now_s)
        account.usage.num_prompt_tokens += num_tokens
        self._counters.num_prompt += num_tokens

    def end_wait(self, key: object) -> None:
        self._waiting.pop(key, None)

    def count_offered(self, tokens: tuple[int, ...]) -> None:
        self._counters.num_offered += len(tokens)

    def count(self, account: Account, committed: Committed) -> None:
        """These tokens became text."""
        num_driven = len(committed.tokens) - committed.num_hinted
        self._counters.num_accepted += committed.num_hinted
        self._counters.num_driven += num_driven
        account.usage.num_tokens += len(committed.tokens)
        account.usage.num_hinted += committed.num_hinted
        now_s = _now_s()
        account.work(num_driven, now_s)  # the hinted ones were charged when they came
        if wait_s := account.work_wait_s(now_s):
            account.held_until_s = now_s + wait_s
            self._engine.hold(account.identity, account.held_until_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
