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
    doubt: float | None
    """The chance of another pick, as the device estimated it; None if it had guessed nothing here."""


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


class KeptGuesses(Guesses):
    """Positions before `head` are settled, those before `num_seen` are with the app: kept tokens go there at
    once if nothing before them is open."""

    def __init__(self, prompt: Iterable[int]) -> None:
        super().__init__(prompt)
        self.num_seen = self.head
        self._doubts: dict[int, float] = {}
        """Of the chain."""
        self._kept: set[int] = set()
        """Positions of the chain that the device has decided."""

    @property
    def num_kept(self) -> int:
        """Kept and not audited, seen or not."""
        return len(self._kept)

    @property
    def num_unaudited(self) -> int:
        """Seen, and not audited."""
        return max(0, self.num_seen - self.head)

    def is_kept(self, start: int, stop: int) -> tuple[bool, ...]:
        return tuple(position in self._kept for position in range(start, stop))

    def state_before(self, position: int) -> int:
        """The hash of all tokens before `position`, all 32 bits of it."""
        return self._text.state_before(position)

    def add_guess(self, token: int, doubt: float, *, is_kept: bool) -> None:
        self._doubts[self.end] = doubt
        if is_kept:
            self._kept.add(self.end)
        self.add(token)

    def see_next(self) -> tuple[int, int, float] | None:
        """The next kept token that may be seen now: position, token and doubt."""
        position = self.num_seen
        if position not in self._kept or position < self.head:
            return None
        self.num_seen += 1
        return position, self.tokens[position], self._doubts[position]

    def settle(self, tokens: tuple[int, ...], is_own: tuple[bool, ...]) -> Settlement:
        """The edge said these, some of which are its own picks."""
        head, chain = self.head, self.tokens[self.head : self.head + len(tokens)]
        places: list[Settled] = []
        verdicts: list[bool] = []
        is_alive, is_contradicted = True, False
        for index, (token, owned) in enumerate(zip(tokens, is_own, strict=True)):
            position = head + index
            is_guessed = is_alive and index < len(chain)
            is_same = is_guessed and chain[index] == token
            if is_guessed and not is_same and position < self.num_seen:
                is_contradicted = True
                break
            is_kept = is_same and position in self._kept
            source = Source.KEPT if is_kept else Source.HINTED if is_same else Source.DRIVEN
            doubt = self._doubts.get(position) if is_guessed else None
            places.append(Settled(position, token, source, owned, doubt))
            if is_guessed:
                verdicts.append(is_same and owned)
                is_alive = is_same
        judgement = self.commit(tokens[: len(places)])
        changed_from = self.end if judgement.changed_from is None else judgement.changed_from
        num_dead = sum(position >= changed_from for position in self._kept)
        self._kept = {position for position in self._kept if self.head <= position < changed_from}
        self._doubts = {
            position: doubt for position, doubt in self._doubts.items() if self.head <= position < self.end
        }
        self.num_seen = max(self.num_seen, self.head)
        return Settlement(
            places,
            dataclasses.replace(judgement, verdicts=tuple(verdicts)),
            num_dead,
            is_contradicted,
        )
