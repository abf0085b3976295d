"""The one date in the library: OpenAI's answers say when they were made, and people read that."""

from __future__ import annotations

import time

__all__ = ["now_s"]


def now_s() -> int:
    """Seconds since 1970. Nothing is decided by it."""
    return int(time.time())
