"""Rules for what a device may keep, ours and those of others, as `keep_model.py` asks them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..device.escalation import Escalation
from ..device.ledger import Book, Ledger

__all__ = ["EdgeRule", "FixedRule", "KeepRule", "LedgerRule", "LegalRule", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """What is to be known of the next token."""

    chance: float
    max_prob: float
    margin: float
    entropy: float
    """Turned round: large where the draft is sure."""
    target_max: float
    ratio: float
    """The target's probability of the draft's token by that of its own pick, where they differ."""
    distance: float
    """Total variation."""


class KeepRule(Protocol):
    """Decides which draft tokens need not be the target's own."""

    @property
    def is_waiting(self) -> bool:
        """Nothing is drafted behind a guess that the edge was asked about."""
        ...

    def keeps(self, place: Place, *, is_behind: bool, num_unaudited: int) -> bool:
        """At the device, without asking."""
        ...

    def accepts(self, place: Place) -> bool:
        """At the edge, a guess that is not the target's own pick."""
        ...

    def note_verdict(self, place: Place | None, *, was_behind: bool, was_kept: bool, is_own: bool) -> None:
        """What the edge said of a token; a place is unknown where the edge was first."""
        ...

    def note_dead(self, num_kept: int) -> None:
        """Kept, and never seen."""
        ...

    def note_delivered(self) -> None: ...


@dataclass(slots=True)
class FixedRule:
    """Keeps what is at least so sure, whatever comes of it."""

    signal: Callable[[Place], float]
    threshold: float
    is_waiting: bool = False

    def keeps(self, place: Place, *, is_behind: bool, num_unaudited: int) -> bool:
        return self.signal(place) >= self.threshold

    def accepts(self, place: Place) -> bool:
        return False

    def note_verdict(
        self, place: Place | None, *, was_behind: bool, was_kept: bool, is_own: bool
    ) -> None: ...

    def note_dead(self, num_kept: int) -> None: ...

    def note_delivered(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """Asks about everything; the edge accepts some guesses that it would not have picked."""

    accept: Callable[[Place, float], bool]
    alpha: float
    is_waiting: bool = False

    def keeps(self, place: Place, *, is_behind: bool, num_unaudited: int) -> bool:
        return False

    def accepts(self, place: Place) -> bool:
        return self.accept(place, self.alpha)

    def note_verdict(
        self, place: Place | None, *, was_behind: bool, was_kept: bool, is_own: bool
    ) -> None: ...

    def note_dead(self, num_kept: int) -> None: ...

    def note_delivered(self) -> None: ...


class LegalRule(FixedRule):
    """The same within a ledger: it keeps nothing for which there is no room."""

    def __init__(self, signal: Callable[[Place], float], threshold: float, *, quality: float) -> None:
        super().__init__(signal, threshold)
        self._book = Ledger().book(quality)

    def keeps(self, place: Place, *, is_behind: bool, num_unaudited: int) -> bool:
        is_kept = self._book.may_keep and super().keeps(
            place, is_behind=is_behind, num_unaudited=num_unaudited
        )
        if is_kept:
            self._book.keep()
        return is_kept

    def note_verdict(self, place: Place | None, *, was_behind: bool, was_kept: bool, is_own: bool) -> None:
        if was_kept:
            self._book.audit(is_own=is_own)

    def note_dead(self, num_kept: int) -> None:
        self._book.release(num_kept)

    def note_delivered(self) -> None:
        self._book.note_delivered()


class LedgerRule:
    """The real rule with the real books."""

    def __init__(self, quality: float, *, stall_s: float) -> None:
        self._book: Book = Ledger().book(quality)
        self._escalation = Escalation(quality)
        self._stall_s = stall_s

    @property
    def is_waiting(self) -> bool:
        return self._escalation.is_waiting_worth and self._book.may_keep

    def keeps(self, place: Place, *, is_behind: bool, num_unaudited: int) -> bool:
        self._escalation.steer(stall_s=self._stall_s, balance=self._book.balance)
        if not self._book.may_keep:
            return False
        is_kept = self._escalation.wants_to_keep(
            1 - place.chance, is_behind=is_behind, num_unaudited=num_unaudited
        )
        if is_kept:
            self._book.keep()
        return is_kept

    def accepts(self, place: Place) -> bool:
        return False

    def note_verdict(self, place: Place | None, *, was_behind: bool, was_kept: bool, is_own: bool) -> None:
        if was_kept:
            self._book.audit(is_own=is_own)
        doubt = 1.0 if place is None else 1 - place.chance
        self._escalation.note_verdict(doubt, was_behind=was_behind, was_kept=was_kept, is_own=is_own)

    def note_dead(self, num_kept: int) -> None:
        self._book.release(num_kept)

    def note_delivered(self) -> None:
        self._book.note_delivered()
