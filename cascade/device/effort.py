"""What a draft step cost the device, and how long it waited for the processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import Generic, TypeVar

__all__ = ["Effort", "with_effort"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort(Generic[T]):
    """A piece of work that is done."""

    result: T
    seconds: float
    """From its begin to its end, in the thread that did it."""
    waited_s: float
    """Of these, those in which the processor worked for somebody else."""


def with_effort(work: Callable[[], T], now_s: Callable[[], float]) -> Callable[[], Effort[T]]:
    """The same work, and what it cost. In virtual time computing takes none, so there nothing waits."""

    def measured() -> Effort[T]:
        began_s, computed_s = now_s(), thread_time()
        result = work()
        computed_s, seconds = thread_time() - computed_s, now_s() - began_s
        return Effort(result, seconds, max(0.0, seconds - computed_s))

    return measured
