"""How a terminal shows tokens: a colour for each source, and one line about how it goes."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MEANINGS", "STYLES", "live_line"]

STYLES = {"hinted": "green", "driven": "yellow underline", "kept": "magenta italic"}
MEANINGS = {
    "hinted": "the device guessed it, the edge agreed",
    "driven": "the edge alone",
    "kept": "the device alone",
}
RECENT = 16
"""Tokens that the line's speed is about."""


def live_line(
    *, rtt_s: float | None, window: int, num_tokens: int, num_driven: int, times_s: Sequence[float]
) -> str:
    """`times_s`: when the newest tokens came."""
    times_s = times_s[-RECENT:]
    facts = {
        "round trip": "unknown" if rtt_s is None else f"{1000 * rtt_s:.0f} ms",
        "window": str(window),
        "tokens a pass": f"{num_tokens / max(1, num_driven):.1f}",
    }
    if len(times_s) > 1 and times_s[-1] > times_s[0]:
        facts["tokens a second"] = f"{(len(times_s) - 1) / (times_s[-1] - times_s[0]):.0f}"
    return "   ".join(f"{name} {value}" for name, value in facts.items())
