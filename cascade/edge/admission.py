"""Whether a session may be opened now: a pure decision, early and with a reason."""

from __future__ import annotations

from dataclasses import dataclass

from ..wire import ErrorCode
from .quota import Quota
from .settings import EdgeSettings

__all__ = ["ENGINE_IS_DEAD", "AccountLoad", "EdgeLoad", "Refusal", "admit"]

ENGINE_IS_DEAD = "the engine is dead; nothing is decoded here until its operator has started it again"
LEAST_RETRY_S = 1.0
MOST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and when it may be worth asking again."""

    code: ErrorCode
    text: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLoad:
    """The edge as a whole."""

    num_running: int
    num_waiting: int
    """Sessions that have not had their first token yet."""
    oldest_wait_s: float
    """How long the first of these waits already."""
    is_draining: bool = False
    is_engine_dead: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLoad:
    """The identity that asks."""

    num_running: int
    queued_bytes: int
    work_wait_s: float
    """Until it has worked off what it asked for beyond its rate."""


def admit(
    edge: EdgeLoad, account: AccountLoad, settings: EdgeSettings, quota: Quota, *, num_bytes: int
) -> Refusal | None:
    """None: come in. `num_bytes` is the size of what is to be opened."""
    if edge.is_engine_dead:
        return Refusal(ErrorCode.INTERNAL, ENGINE_IS_DEAD)
    if edge.is_draining:
        return Refusal(ErrorCode.DRAINING, "this edge is going down; try another edge", LEAST_RETRY_S)
    if account.num_running >= quota.max_sessions:
        text = f"your {account.num_running} open sessions are all that one identity may have"
        return Refusal(ErrorCode.LIMIT, text, LEAST_RETRY_S)
    if account.work_wait_s > 0:
        text = f"you asked for more than {quota.tokens_per_s:g} tokens a second"
        return Refusal(ErrorCode.LIMIT, text, account.work_wait_s)
    if account.queued_bytes and account.queued_bytes + num_bytes > quota.max_queued_bytes:
        text = f"{account.queued_bytes} bytes of yours wait already, of {quota.max_queued_bytes}"
        return Refusal(ErrorCode.LIMIT, text, LEAST_RETRY_S)
    if edge.num_running >= settings.max_sessions:
        return Refusal(ErrorCode.OVERLOADED, "too many open sessions", LEAST_RETRY_S)
    if edge.num_waiting >= settings.max_waiting or edge.oldest_wait_s > settings.max_wait_s:
        text = (
            f"{edge.num_waiting} sessions wait for their first token, for {edge.oldest_wait_s:.1f} s by now"
        )
        return Refusal(ErrorCode.OVERLOADED, text, min(max(edge.oldest_wait_s, LEAST_RETRY_S), MOST_RETRY_S))
    return None
