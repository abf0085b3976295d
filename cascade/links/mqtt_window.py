"""How much of a link may be under way: what was sent and not yet read at the other end.

Brokers buffer without end or drop in silence when a reader is slow; neither is of use to a sender that would
rather send something fresher later. So each side says how far it has read, and the other one waits.
"""

from __future__ import annotations

from collections import deque

from .mqtt_frames import NUMBERS

__all__ = ["WINDOW_BYTES", "WINDOW_MESSAGES", "SendWindow"]

WINDOW_MESSAGES = NUMBERS // 2
"""So an old answer is never taken for a new one."""
WINDOW_BYTES = 512 * 1024
"""One message may always go, whatever its size."""


class SendWindow:
    """The sender's account. Numbers are absolute, so a lost message or a lost answer leaks no room."""

    def __init__(self) -> None:
        self._sizes: deque[int] = deque()
        self._num_bytes = 0
        self._next = 0

    @property
    def newest(self) -> int:
        """The number of the message sent last."""
        return (self._next - 1) % NUMBERS

    def has_room(self) -> bool:
        return len(self._sizes) < WINDOW_MESSAGES and self._num_bytes < WINDOW_BYTES

    def take(self, num_bytes: int) -> int:
        """Account for one more message; its number."""
        number = self._next
        self._next = (self._next + 1) % NUMBERS
        self._sizes.append(num_bytes)
        self._num_bytes += num_bytes
        return number

    def free(self, number: int) -> None:
        """All messages up to this one were read. Numbers that are not under way are old news."""
        oldest = (self._next - len(self._sizes)) % NUMBERS
        num_read = (number - oldest) % NUMBERS + 1
        if num_read <= len(self._sizes):
            for _ in range(num_read):
                self._num_bytes -= self._sizes.popleft()
