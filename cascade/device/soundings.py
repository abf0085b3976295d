"""What a stream's messages tell of link and edge: those that are sent anyway, and no others."""

from __future__ import annotations

from ..measure import LinkEstimator, PendingStamps
from ..wire import Commit, Hint, Keep, Message, Open

__all__ = ["Soundings"]


class Soundings:
    """Of one stream; what they tell goes to the link's estimates."""

    def __init__(self, link: LinkEstimator) -> None:
        self.num_open_bytes = 0
        """Size of the last OPEN."""
        self._link = link
        self._stamps = PendingStamps(link)
        self._opened_s: float | None = None
        """When the last OPEN went out; None once its answer was heard."""

    def begin_anew(self) -> None:
        """Another edge, or another life of the session."""
        self._stamps.clear()

    def note_sent(self, message: Message, num_bytes: int, now_s: float) -> None:
        if isinstance(message, Open):
            self._opened_s, self.num_open_bytes = now_s, num_bytes
        elif isinstance(message, Hint | Keep) and message.stamp_ms is not None:
            # Behind an OPEN it takes as long as that, whatever its size.
            size = num_bytes if self._opened_s is None else None
            self._stamps.note_sent(message.stamp_ms, now_s, size)

    def note_heard(self, commit: Commit, now_s: float, *, apart_s: float) -> None:
        """`apart_s`: commits come at least that often."""
        if self._opened_s is not None and not commit.tokens:
            # The answer to OPEN comes at once: the first round trip for free.
            self._link.add_round_trip(now_s - self._opened_s, num_bytes=self.num_open_bytes)
            self._opened_s = None
        if commit.echo_ms is not None:
            self._stamps.note_echo(now_s, commit.echo_ms, commit.held_ms or 0, apart_s=apart_s)
