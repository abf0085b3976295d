"""An answer in cascade mode: the device keeps what it may decide, and asks about the rest.

The device drafts on behind what it asks about. Kept tokens reach the app at once where nothing before them is
open, else with the commit that settles it. See `docs/cascade.md`.
"""

from __future__ import annotations

from typing import Any

from ..events import Source, Summary
from ..wire import Commit, Keep, Message, Pen
from .drafter import Guess
from .escalation import Escalation
from .kept_guesses import KeptGuesses, Settled
from .ledger import Book
from .outbox import Outbox
from .stream import Stream

__all__ = ["CascadeStream"]


class CascadeStream(Stream):
    """Decodes within a promise, of which `book` keeps account."""

    def __init__(self, *args: Any, book: Book, escalation: Escalation, **options: Any) -> None:
        super().__init__(*args, **options)
        self._book = book
        self._escalation = escalation
        self._num_disputed = 0

    def _make_guesses(self) -> KeptGuesses:
        return KeptGuesses(self.request.prompt)

    def _make_outbox(self, session_id: bytes) -> KeepOutbox:
        return KeepOutbox(self.request, self._text_so_far, session_id=session_id, alias=self.alias)

    @property
    def _text_so_far(self) -> KeptGuesses:
        assert isinstance(self._guesses, KeptGuesses)
        return self._guesses

    @property
    def _num_decided(self) -> int:
        return self._text_so_far.num_seen

    # The device decides

    def _take_guess(self, guess: Guess, now_s: float) -> None:
        doubt = 1 - self._scheduler.chance_of(guess.confidence)
        is_kept = self._may_keep(guess.token, doubt)
        if is_kept:
            self._book.keep()
        self._text_so_far.add_guess(guess.token, doubt, is_kept=is_kept)
        self._scheduler.note_guess(guess.confidence, is_kept=is_kept)
        self._hand_over_kept(now_s, is_at_once=True)

    def _may_keep(self, token: int, doubt: float) -> bool:
        """An answer's last token is asked about: then everything has its verdict when the answer ends."""
        link, passes = self._known.link, self._known.passes
        stall_s = (link.rtt_s or 0.0) + (passes.mean_s or 0.0)
        self._escalation.steer(stall_s=stall_s, balance=self._book.balance)
        if token in self.request.stop_ids or not self._book.may_keep:
            return False
        return self._escalation.wants_to_keep(
            doubt, survival=self._scheduler.survival, num_unaudited=self._text_so_far.num_unaudited
        )

    def _hand_over_kept(self, now_s: float, *, is_at_once: bool) -> None:
        """What is decided, with nothing open before it."""
        while not self.is_ended and (seen := self._text_so_far.see_next()) is not None:
            position, token, doubt = seen
            self._tally.num_at_once += is_at_once
            self._book.note_delivered()
            self._deliver(token, position, Source.KEPT, now_s, 1 - doubt)

    # The edge decides, and audits

    def _settle(self, commit: Commit, num_known: int, now_s: float) -> None:
        text = self._text_so_far
        tokens = commit.tokens[num_known:]
        is_own = (True,) * len(tokens) if commit.verdict is None else commit.verdict[num_known:]
        num_seen = text.num_seen
        settlement = text.settle(tokens, is_own)
        self._book.release(settlement.num_released)
        for place in settlement.places:
            self._account(place)
        self._note_judgement(settlement.judgement, len(settlement.places))
        self._repeat_lost_hints(commit, now_s)
        for place in settlement.places:
            if place.position >= num_seen and not self.is_ended:
                self._book.note_delivered()
                agreement = None if place.doubt is None else 1 - place.doubt
                self._deliver(place.token, place.position, place.source, now_s, agreement)
        self._hand_over_kept(now_s, is_at_once=False)
        if settlement.is_contradicted and not self.is_ended:
            self._outbox_of_keeps.overrule(self._next_generation())
            self._notify(self)

    def _account(self, place: Settled) -> None:
        was_kept = place.source is Source.KEPT
        if was_kept:
            self._book.audit(is_own=place.is_own)
        doubt = 1.0 if place.doubt is None else place.doubt
        self._escalation.note_verdict(doubt, was_kept=was_kept, is_own=place.is_own)

    @property
    def _outbox_of_keeps(self) -> KeepOutbox:
        assert isinstance(self._outbox, KeepOutbox)
        return self._outbox

    def _end(self) -> None:
        text = self._text_so_far
        num_unaudited = sum(text.is_kept(text.head, text.num_seen))
        self._book.give_up(num_unaudited)
        self._book.release(text.num_kept - num_unaudited)
        super()._end()

    def _summarise(self) -> Summary:
        return self._tally.summary(self._link, account=self._book.account)


class KeepOutbox(Outbox):
    """Guesses travel together with what is kept."""

    raised = 0
    """Generations since the last OPEN."""

    def open(self, generation: int) -> None:
        self.raised = 0
        super().open(generation)

    def overrule(self, generation: int) -> None:
        """The edge is on another text than the app: it hears before anything else what the app has seen."""
        self.generation = generation
        self.raised += 1
        self._missing_before = None
        self._owes_acknowledgement = False
        self.repeat_guesses()

    def _guess(self, position: int, prefix_hash: int, tokens: tuple[int, ...], now_s: float) -> Message:
        hint = self._hint(position, prefix_hash, tokens, now_s)
        text = self._guesses
        assert isinstance(text, KeptGuesses)
        return Keep(
            alias=hint.alias,
            generation=hint.generation,
            position=position,
            prefix_hash=text.state_before(position),
            tokens=tokens,
            kept=text.is_kept(position, position + len(tokens)),
            known=hint.known,
            pen=Pen.EDGE,
            raised=self.raised,
            stamp_ms=hint.stamp_ms,
            patience_ms=hint.patience_ms,
        )
