"""When a text takes part in a pass: pure decisions over plain numbers."""

from __future__ import annotations

from .decode import Decode

__all__ = ["due_at_s"]

NEVER_S = float("inf")


def due_at_s(decode: Decode, *, run_ahead: int) -> float:
    """The loop time from which this text may be stepped; -inf is now.

    A text with usable hints is due at once. One without is driven by the edge alone when its patience
    since the last step has passed, and not at all while too much of it is unacknowledged: the device may
    be gone, and what it cannot have seen costs passes.
    """
    if decode.is_finished or decode.is_running or decode.head - decode.known >= run_ahead:
        return NEVER_S
    if decode.hints.num_usable or not decode.gains_by_waiting:
        return -NEVER_S
    return decode.last_step_s + decode.patience_s
