"""What an app gets to see of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Source", "Summary", "Token"]


class Source(Enum):
    """Who was first with a token. The text is the target's either way."""

    HINTED = "hinted"
    """The device guessed it and the edge agreed."""
    DRIVEN = "driven"
    """The edge decided it without a usable hint."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer; every position comes exactly once, in order."""

    id: int
    position: int
    """In the whole text, prompt included."""
    source: Source
    time_s: float
    """Loop time at which it reached the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished stream was like."""

    num_tokens: int
    num_hinted: int
    time_to_first_token_s: float
    time_per_token_s: float
    """Mean gap between tokens after the first; 0 for a single token."""
    num_drafted: int
    bytes_up: int
    bytes_down: int
    """Payload of hints and commits, wasted ones included; what opened the stream is not counted."""
    num_opens: int
    """1, and one more for every time the session was opened again."""
    finish_reason: str
    """`stop` or `length`; `cancelled` by the app, or `error`; empty while it runs."""
