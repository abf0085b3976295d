"""An edge says no to a text: ask again after a while, or give it up."""

from __future__ import annotations

from ..errors import RefusedError
from ..wire import Error, ErrorCode

__all__ = ["Refusals"]

MAX_REFUSED = {ErrorCode.OVERLOADED: 8, ErrorCode.DRAINING: 8, ErrorCode.INTERNAL: 3}
"""Refusals in a row after which a text in progress is given up. An edge that is full gets room again; a step
that fails again and again fails for a reason."""
RETRY_S = 0.25
MAX_RETRY_S = 5.0


class Refusals:
    """Those of one text, in a row: a token in between and they are forgotten."""

    def __init__(self) -> None:
        self._num_refused = 0

    def forget(self) -> None:
        self._num_refused = 0

    def retry_after_s(self, error: Error, *, has_answer: bool, num_other_edges: int) -> float:
        """Wait so long before the text is opened again; raises `RefusedError` where that is of no use."""
        self._num_refused += 1
        max_refused = MAX_REFUSED.get(error.code, 0)
        if error.code is not ErrorCode.INTERNAL and not has_answer:
            max_refused = num_other_edges  # the app has nothing yet: let it decide, once nobody has room
        retry_after_s = None if error.retry_after_ms is None else error.retry_after_ms / 1000
        if self._num_refused > max_refused:
            raise RefusedError(error.code.name.lower(), error.text, retry_after_s)
        backoff_s: float = min(RETRY_S * 2**self._num_refused, MAX_RETRY_S)
        return max(backoff_s, retry_after_s or 0.0)
