"""Stamps of one stream that have not come back yet: how large their messages were, and which were lost."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .link import LinkEstimator

__all__ = ["PendingStamps"]

MAX_PENDING = 16
"""More than a link can have under way; older ones are given up as lost."""


class _Stamp(NamedTuple):
    stamp_ms: int
    sent_s: float
    num_bytes: int | None


class PendingStamps:
    """In the order in which they were sent. What they tell goes to the link's estimates."""

    def __init__(self, link: LinkEstimator) -> None:
        self._link = link
        self._pending: deque[_Stamp] = deque()

    def clear(self) -> None:
        """Another edge, or another life of the session: nobody echoes these."""
        self._pending.clear()

    def note_sent(self, stamp_ms: int, sent_s: float, num_bytes: int | None) -> None:
        """`num_bytes`: None where its size says nothing."""
        self._pending.append(_Stamp(stamp_ms, sent_s, num_bytes))
        if len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            self._link.count_stamp(is_lost=True)

    def note_echo(self, now_s: float, echo_ms: int, held_ms: int, *, apart_s: float) -> None:
        """A stamp came back, which the edge had held for `held_ms`.

        Edges echo the newest stamp only, with their next commit. One that was sent `apart_s` before this one
        would have had an echo of its own: it, or its echo, was lost.
        """
        echoed = next((stamp for stamp in self._pending if stamp.stamp_ms == echo_ms), None)
        if echoed is None:
            self._link.add_echo(now_s, echo_ms, held_ms)
            return
        while (stamp := self._pending.popleft()) is not echoed:
            if echoed.sent_s - stamp.sent_s >= apart_s:
                self._link.count_stamp(is_lost=True)
        self._link.count_stamp(is_lost=False)
        self._link.add_echo(now_s, echo_ms, held_ms, num_bytes=echoed.num_bytes)
