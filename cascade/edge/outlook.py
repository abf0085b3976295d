"""What is expected of one device's hints: how often they are right, and when the next ones come."""

from __future__ import annotations

from ..measure import AgreementEstimator, Smoothed

__all__ = ["Outlook"]

UNKNOWN_S = float("inf")


class Outlook:
    """Learnt from every step of a text and every hint for it."""

    def __init__(self) -> None:
        self._agreement = AgreementEstimator()
        self._delay_s = Smoothed(1 / 8)
        """From a step that left no hints to the next usable one."""
        self._bare_since_s: float | None = None

    @property
    def agreement(self) -> float:
        """The chance that the next hint is confirmed."""
        return self._agreement.chance

    @property
    def hints_at_s(self) -> float:
        """When a text without hints should have some again; infinity where nothing says so."""
        if self._bare_since_s is None or self._delay_s.value is None:
            return UNKNOWN_S
        return self._bare_since_s + self._delay_s.value + self._delay_s.deviation

    def note_step(self, *, num_agreed: int, num_disagreed: int, num_usable: int, now_s: float) -> None:
        """A step compared hints with the text, fed or not, and left `num_usable`."""
        self._agreement.add(num_agreed=num_agreed, num_disagreed=num_disagreed)
        if num_usable:
            self._bare_since_s = None
        elif num_agreed or num_disagreed or self._bare_since_s is None:
            self._bare_since_s = now_s

    def note_hints(self, num_usable: int, now_s: float) -> None:
        """Hints came."""
        if num_usable and self._bare_since_s is not None:
            self._delay_s.add(now_s - self._bare_since_s)
            self._bare_since_s = None
