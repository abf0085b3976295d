"""What an operator may set about an edge."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import SettingsError
from ..settings import MAX_MESSAGE_BYTES, check_int, check_number
from .quota import Quota

__all__ = ["EdgeSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """Limits and habits of one edge."""

    max_fed_hints: int = 16
    """Hint tokens of one session that one pass takes."""
    prefill_chunk_rows: int = 256
    """Tokens of prompts, of all sessions together, that one pass takes."""
    max_buffered_hints: int = 256
    """Hint tokens of one session that wait for a pass."""
    kv_bytes: int = 2 << 30
    """Memory for the caches of all sessions. Idle ones lose theirs first, and are rebuilt later."""
    keep_kv_s: float = 300.0
    """So long the cache of a session that is over waits for the next turn of the chat, if there is room."""
    public_prefixes: tuple[tuple[int, ...], ...] = ()
    """Beginnings that texts of different identities may share, as token ids: system prompts, no secrets.
    Whoever begins with one may learn that somebody did so lately."""
    max_patience_s: float = 3600.0
    """A wish for more patience than this is cut."""
    goal_s_per_token: float | None = None
    """The time per token that every device should have; who is behind it comes first. None: all the same."""
    fairness: float = 8.0
    """How little an identity gains by many sessions. With 8 next to nothing, whatever they would cost the
    others; with 1 in proportion to what they cost, which is for identities that are trusted, as gateways."""
    max_links: int = 4096
    """Links of all devices; beyond it one that says HELLO is refused."""
    max_sessions: int = 1024
    """Sessions of all devices that still want tokens; beyond it an OPEN is refused."""
    max_waiting: int = 256
    """Sessions that wait for their first token; beyond it an OPEN is refused."""
    max_wait_s: float = 10.0
    """An edge whose sessions wait longer than this is drowning: it refuses and says so."""
    run_ahead: int = 256
    """Tokens the edge commits beyond what the device is known to have."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Larger messages are refused unread; at least what the edge's own longest commit takes."""
    lease_s: float = 60.0
    """A session whose device is silent for this long is closed; its tombstone stays as long again."""
    hello_timeout_s: float = 10.0
    """A link that has not said a valid HELLO by then is closed."""
    send_timeout_s: float = 20.0
    """A link that takes nothing for this long is closed; its sessions may come back on another."""
    quota: Quota = field(default_factory=Quota)
    """Of every identity that has none of its own."""

    def __post_init__(self) -> None:
        check_int("max_fed_hints", self.max_fed_hints, low=0)
        check_int("prefill_chunk_rows", self.prefill_chunk_rows, low=1)
        check_int("max_buffered_hints", self.max_buffered_hints, low=1)
        check_int("kv_bytes", self.kv_bytes, low=1)
        check_number("keep_kv_s", self.keep_kv_s, low=0)
        if not all(self.public_prefixes):
            raise SettingsError("public_prefixes", "one of them is empty, which would make everything public")
        check_number("max_patience_s", self.max_patience_s, low=0)
        if self.goal_s_per_token is not None:
            check_number("goal_s_per_token", self.goal_s_per_token, low=1e-4)
        check_number("fairness", self.fairness, low=1, high=16)
        check_int("max_links", self.max_links, low=1)
        check_int("max_sessions", self.max_sessions, low=1)
        check_int("max_waiting", self.max_waiting, low=1)
        check_number("max_wait_s", self.max_wait_s, low=0.001)
        check_int("run_ahead", self.run_ahead, low=1)
        check_int("max_message_bytes", self.max_message_bytes, low=8192)
        check_number("lease_s", self.lease_s, low=0.001)
        check_number("hello_timeout_s", self.hello_timeout_s, low=0.001)
        check_number("send_timeout_s", self.send_timeout_s, low=0.001)
