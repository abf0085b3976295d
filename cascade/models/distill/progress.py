"""How far a distillation is, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Pace", "Progress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a distillation is."""

    stage: str
    """texts, exam, teacher, training, grades or done."""
    done: float
    total: float
    left_s: float | None
    """Until the stage ends, judged by this session's pace; None while that is unknown."""
    note: str = ""


class Pace:
    """Says how far it is, with the time left."""

    def __init__(self, clock: Callable[[], float], report: Callable[[Progress], None] | None) -> None:
        self.clock = clock
        self._report = report
        self._stage = ""
        self._began_s = 0.0
        self._first = 0.0

    def say(self, stage: str, done: float, total: float, note: str = "") -> None:
        now_s = self.clock()
        if stage != self._stage:
            self._stage, self._began_s, self._first = stage, now_s, done
        left_s = None
        if done > self._first:
            left_s = (now_s - self._began_s) / (done - self._first) * max(0.0, total - done)
        if self._report is not None:
            self._report(Progress(stage=stage, done=done, total=total, left_s=left_s, note=note))
