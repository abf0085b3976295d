"""A text of which the device decides some tokens itself: what is settled, what is seen, what is guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from ..events import Source
from .guesses import Guesses, Judgement

__all__ = ["KeptGuesses", "Settled", "Settlement"]


@dataclass(frozen=True, slots=True)
class Settled:
    """A position about which nobody will say anything more."""

    position: int
    token: int
    source: Source
    is_own: bool
    """The target's own pick."""
    was_booked: bool
    """It had a place in the ledger, for it may be another than the target's pick."""
    was_provisional: bool
    """The app has had it for want of an edge."""
    doubt: float | None
    """The chance of another pick, as the device estimated it; None if it had guessed nothing here."""
    was_behind: bool
    """It was guessed while another guess was open."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a commit came to."""

    places: list[Settled]
    judgement: Judgement
    """`num_agreed` counts what stays in the text; the verdicts are the target's."""
    num_released: int
    """Kept tokens that nobody saw and nobody will: they stood behind a guess that was wrong."""
    is_contradicted: bool
    """The edge went on with another token than the one that was seen: what it said from there on is void."""
    withdrawn_from: int | None
    """What was seen from this position on was provisional, and is the text no more."""
    num_withdrawn: int
    num_unbooked: int
    """Of these, such as were outside of the promise."""


class KeptGuesses(Guesses):
    """Positions before `head` are settled, those before `num_seen` are with the app: kept tokens go there at
    once if nothing before them is open, and provisional ones, for want of an edge, in any case.

    What was seen stands. If the text `can_revise`, provisional tokens do not: they are guesses, told early.
    """

    def __init__(self, prompt: Iterable[int], *, can_revise: bool = False) -> None:
        super().__init__(prompt)
        self._can_revise = can_revise
        self.num_seen = self.head
        self._doubts: dict[int, float] = {}
        """Of the chain."""
        self._behind: set[int] = set()
        """Positions of the chain that were guessed while another was open."""
        self._kept: set[int] = set()
        """Positions of the chain that the device has decided."""
        self._booked: set[int] = set()
        """Those, and guesses with which the edge may be lenient: they have a place in the ledger."""
        self._provisional: set[int] = set()
        """Positions of the chain that were seen for want of an edge."""

    @property
    def num_kept(self) -> int:
        """Kept and not audited, seen or not; provisional ones are not."""
        return len(self._kept)

    @property
    def num_booked(self) -> int:
        return len(self._booked)

    @property
    def num_booked_unseen(self) -> int:
        return sum(position >= self.num_seen for position in self._booked)

    @property
    def num_provisional_unsent(self) -> int:
        return sum(position >= self.sent for position in self._provisional)

    @property
    def num_unaudited(self) -> int:
        """Seen, and not audited."""
        return max(0, self.num_seen - self.head)

    @property
    def is_open(self) -> bool:
        """Something is guessed that the app may not see yet, or that may be withdrawn."""
        return self.num_seen < self.end or self.is_revisable_open

    @property
    def is_asked(self) -> bool:
        """The edge was told of the first guess that is open."""
        return self.num_seen < self.sent

    def is_kept(self, start: int, stop: int) -> tuple[bool, ...]:
        """Which tokens of the chain stand whatever the edge says."""
        return tuple(self._stands(position) for position in range(start, stop))

    def are_booked(self, start: int, stop: int) -> bool:
        return all(position in self._booked for position in range(start, stop))

    def _stands(self, position: int) -> bool:
        return position in self._kept or (not self._can_revise and position in self._provisional)

    def is_provisional(self, position: int) -> bool:
        return position in self._provisional

    def state_before(self, position: int) -> int:
        """The hash of all tokens before `position`, all 32 bits of it."""
        return self._text.state_before(position)

    def add_guess(self, token: int, doubt: float, *, is_kept: bool, is_booked: bool = False) -> None:
        self._doubts[self.end] = doubt
        if self.is_open:
            self._behind.add(self.end)
        if is_kept:
            self._kept.add(self.end)
        if is_kept or is_booked:
            self._booked.add(self.end)
        self.add(token)

    @property
    def is_revisable_open(self) -> bool:
        """Provisional tokens that may be withdrawn are open, as guesses are."""
        return self._can_revise and bool(self._provisional)

    def see_next(self) -> tuple[int, int, float] | None:
        """The next kept token that may be seen now: position, token and doubt."""
        position = self.num_seen
        if position not in self._kept or position < self.head:
            return None
        if self.is_revisable_open:
            return None
        self.num_seen += 1
        return position, self.tokens[position], self._doubts[position]

    def keep_next(self) -> bool:
        """The next guess that was not seen is one no more; False if it had its place in the ledger before."""
        is_new = self.num_seen not in self._booked
        self._kept.add(self.num_seen)
        self._booked.add(self.num_seen)
        return is_new

    def see_provisionally(self) -> tuple[int, int, float, bool] | None:
        """The next token of the chain, whatever it is: position, token, doubt, and is it outside of the
        promise? What is kept behind provisional tokens that do not stand is as provisional as they."""
        position = self.num_seen
        if position >= self.end:
            return None
        self._provisional.add(position)
        self.num_seen += 1
        return position, self.tokens[position], self._doubts[position], position not in self._booked

    def drop_chain(self) -> tuple[int, int]:
        """Take back what is provisional; nothing else may be seen. How many tokens were seen, and how many
        of these were outside of the promise."""
        num_seen, num_unbooked = self.num_seen - self.head, len(self._provisional - self._booked)
        self._text.truncate(self.head)
        self.num_seen = self.sent = self.head
        self._behind.clear()
        self._provisional.clear()
        return num_seen, num_unbooked

    def seen(self) -> KeptGuesses:
        """A text of its own, as far as it was seen. All of it stands."""
        text = KeptGuesses(self.tokens[: self.head])
        text._doubts = dict(self._doubts)
        for token in self.tokens[self.head : self.num_seen]:
            text.add(token)
        text._booked = {position for position in self._booked if position < self.num_seen}
        text._kept = set(text._booked)
        text._provisional = set(self._provisional)
        text.num_seen = self.num_seen
        return text

    def settle(self, tokens: tuple[int, ...], is_own: tuple[bool, ...]) -> Settlement:
        """The edge said these, some of which are its own picks."""
        head, chain = self.head, self.tokens[self.head : self.head + len(tokens)]
        places: list[Settled] = []
        verdicts: list[bool] = []
        is_alive, is_contradicted = True, False
        withdrawn_from: int | None = None
        for index, (token, owned) in enumerate(zip(tokens, is_own, strict=True)):
            position = head + index
            is_guessed = is_alive and index < len(chain)
            is_same = is_guessed and chain[index] == token
            if is_guessed and not is_same and position < self.num_seen:
                if not (self._can_revise and position in self._provisional):
                    is_contradicted = True
                    break
                withdrawn_from = position
            stands = is_same and self._stands(position)
            source = Source.KEPT if stands else Source.HINTED if is_same else Source.DRIVEN
            doubt = self._doubts.get(position) if is_guessed else None
            was_booked = is_same and position in self._booked
            was_provisional = is_same and position in self._provisional
            was_behind = is_guessed and position in self._behind
            places.append(
                Settled(position, token, source, owned, was_booked, was_provisional, doubt, was_behind)
            )
            if is_guessed:
                verdicts.append(is_same and owned)
                is_alive = is_same
        judgement = self.commit(tokens[: len(places)])
        changed_from = self.end if judgement.changed_from is None else judgement.changed_from
        num_dead = sum(position >= changed_from for position in self._booked)
        num_unbooked = sum(position >= changed_from for position in self._provisional - self._booked)
        self._booked = {position for position in self._booked if self.head <= position < changed_from}
        self._kept = {position for position in self._kept if self.head <= position < changed_from}
        self._behind = {position for position in self._behind if self.head <= position < changed_from}
        self._provisional = {
            position for position in self._provisional if self.head <= position < changed_from
        }
        num_withdrawn = 0 if withdrawn_from is None else self.num_seen - withdrawn_from
        self.num_seen -= num_withdrawn
        self._doubts = {
            position: doubt for position, doubt in self._doubts.items() if self.head <= position < self.end
        }
        self.num_seen = max(self.num_seen, self.head)
        return Settlement(
            places,
            dataclasses.replace(judgement, verdicts=tuple(verdicts)),
            num_dead,
            is_contradicted,
            withdrawn_from,
            num_withdrawn,
            num_unbooked,
        )
