"""An answer in cascade mode: the device keeps what it may decide, and asks about the rest.

The device drafts on behind what it asks about. Kept tokens reach the app at once where nothing before them is
open, else with the commit that settles it. See `docs/cascade.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..events import Source, Summary, Verified
from ..prices import Prices
from ..wire import Commit, Feature
from .drafter import Guess
from .escalation import Escalation, corrected
from .keep_outbox import KeepOutbox
from .kept_guesses import KeptGuesses, Settled, Settlement
from .ledger import Book
from .stream import Stream

__all__ = ["CascadeStream"]

LENIENT_ROOM = 6.0
"""In the ledger, below which the edge may not be lenient."""


class CascadeStream(Stream):
    """Decodes within a promise, of which `book` keeps account."""

    def __init__(
        self,
        *args: Any,
        book: Book,
        escalation: Escalation,
        audit: Callable[[CascadeStream], bool],
        alpha: float = 0.0,
        **options: Any,
    ) -> None:
        """`audit`: have the edge look at what it has not seen when the stream ends; False: it will not.
        `alpha`: how lenient the edge may be with guesses, as far as the ledger has room for it.
        """
        self._book = book
        self._escalation = escalation
        self._audit = audit
        self._alpha = alpha
        self._is_link_failing = False
        self.num_overruled = 0
        """Commits that were void, for the app had seen another token than the edge went on from."""
        super().__init__(*args, **options)
        self._prices = self.request.policy.prices or Prices()

    def _make_guesses(self) -> KeptGuesses:
        return KeptGuesses(self.request.prompt, can_revise=self.can_revise)

    def _make_outbox(self, session_id: bytes) -> KeepOutbox:
        return KeepOutbox(
            self.request,
            self.text_so_far,
            session_id=session_id,
            alias=self.alias,
            is_lossless=self._book.quality == 1,
            alpha=self._alpha,
        )

    @property
    def text_so_far(self) -> KeptGuesses:
        assert isinstance(self._guesses, KeptGuesses)
        return self._guesses

    @property
    def threshold(self) -> float:
        """The doubt up to which tokens are kept, at this moment."""
        return self._escalation.threshold

    @property
    def demands(self) -> Feature:
        return super().demands | Feature.KEEP

    @property
    def book(self) -> Book:
        return self._book

    @property
    def _num_decided(self) -> int:
        return self.text_so_far.num_seen

    # The device decides

    def _take_guess(self, guess: Guess, now_s: float) -> None:
        doubt = 1 - self._scheduler.chance_of(guess.confidence)
        is_kept = self._may_keep(guess.token, doubt)
        is_booked = is_kept or self._may_be_lenient(guess.token)
        if is_booked:
            self._book.keep()
        self.text_so_far.add_guess(guess.token, doubt, is_kept=is_kept, is_booked=is_booked)
        self._scheduler.note_guess(guess.confidence, is_kept=is_kept)
        self._hand_over_kept(now_s, is_at_once=True)
        if self._is_link_failing:
            self._keep_open_guesses(now_s)

    def _may_keep(self, token: int, doubt: float) -> bool:
        """An answer's last token is asked about: then everything has its verdict when the answer ends."""
        link, passes = self._known.link, self._known.passes
        correction = corrected(link.rtt_s or 0.0, passes.mean_s or 0.0)
        self._escalation.steer(stall_s=self._prices.in_waiting_s(correction), balance=self._book.balance)
        if token in self.request.stop_ids or not self._book.may_keep:
            return False
        text = self.text_so_far
        return self._escalation.wants_to_keep(doubt, is_behind=text.is_open, num_unaudited=text.num_unaudited)

    def _wants_one_more(self) -> bool:
        """Behind a question that has gone out it waits, if most of what it drafts is shown at once."""
        is_waiting = self.text_so_far.is_asked and self._escalation.is_waiting_worth and self._book.may_keep
        if is_waiting and not self._is_link_failing:
            return False
        return super()._wants_one_more()

    def _may_be_lenient(self, token: int) -> bool:
        """A guess that the edge lets stay, and would not have picked, is a disagreement and needs room."""
        if not self._alpha or token in self.request.stop_ids:
            return False
        return self._book.may_keep and self._book.balance >= LENIENT_ROOM

    def _hand_over_kept(self, now_s: float, *, is_at_once: bool) -> None:
        """What is decided, with nothing open before it."""
        while not self.is_ended and (seen := self.text_so_far.see_next()) is not None:
            position, token, doubt = seen
            self._tally.num_at_once += is_at_once
            self._book.note_delivered()
            self._deliver(token, position, Source.KEPT, now_s, 1 - doubt)

    def _on_silence(self) -> None:
        """A failing link: what the ledger has room for is spent on what the reader waits for."""
        self._is_link_failing = True
        self._keep_open_guesses(self._loop.time())
        super()._on_silence()
        self._decide_drafting()

    def _keep_open_guesses(self, now_s: float) -> None:
        text = self.text_so_far
        while not self.is_ended and text.num_seen < text.end and not text.is_revisable_open:
            token = text.tokens[text.num_seen]
            if token in self.request.stop_ids or not self._book.may_keep:
                return
            if not self._escalation.wants_to_keep_open_guess(num_unaudited=text.num_unaudited):
                return
            self._scheduler.note_kept(text.num_seen - text.head)
            if text.keep_next():
                self._book.keep()
            self._hand_over_kept(now_s, is_at_once=False)

    # The edge decides, and audits

    def on_commit(self, commit: Commit, num_bytes: int) -> None:
        if commit.generation == self._outbox.generation:
            self._is_link_failing = False
        super().on_commit(commit, num_bytes)

    def _settle(self, commit: Commit, num_known: int, now_s: float) -> None:
        text = self.text_so_far
        tokens = commit.tokens[num_known:]
        is_own = (True,) * len(tokens) if commit.verdict is None else commit.verdict[num_known:]
        num_seen = text.num_seen
        settlement = text.settle(tokens, is_own)
        self._book.release(settlement.num_released)
        for place in settlement.places:
            self._account(place)
        self._note_judgement(settlement.judgement, len(settlement.places))
        self._repeat_lost_hints(commit, now_s)
        self._tell_of_provisional(settlement, now_s)
        num_told = num_seen if settlement.withdrawn_from is None else settlement.withdrawn_from
        for place in settlement.places:
            if place.position >= num_told and not self.is_ended:
                self._book.note_delivered()
                agreement = None if place.doubt is None else 1 - place.doubt
                self._deliver(place.token, place.position, place.source, now_s, agreement)
        self._hand_over_kept(now_s, is_at_once=False)
        if settlement.is_contradicted and not self.is_ended:
            self.num_overruled += 1
            self._outbox_of_keeps.overrule(self._next_generation())
            self._notify(self)

    def _account(self, place: Settled) -> None:
        if place.was_booked:
            if place.was_provisional:
                self._book.note_delivered()
            self._book.audit(is_own=place.is_own)
            self._tally.num_disputed += not place.is_own
        elif place.was_provisional:
            self._book.audit_provisional(is_own=place.is_own)
        elif not place.is_own:
            self._book.dispute()  # nobody asked for that, and it counts all the same
        doubt = 1.0 if place.doubt is None else place.doubt
        was_kept = place.was_booked and place.source is Source.KEPT
        self._escalation.note_verdict(
            doubt, was_behind=place.was_behind, was_kept=was_kept, is_own=place.is_own
        )

    def _tell_of_provisional(self, settlement: Settlement, now_s: float) -> None:
        """What became of tokens that were seen for want of an edge."""
        self._book.withdraw(settlement.num_unbooked)
        if not self.can_revise:
            return
        verified = [place.position for place in settlement.places if place.was_provisional]
        if verified:
            self._tell(Verified(verified[-1] + 1, now_s))
        if settlement.withdrawn_from is not None:
            self._withdraw(settlement.withdrawn_from, settlement.num_withdrawn, now_s)

    @property
    def _outbox_of_keeps(self) -> KeepOutbox:
        assert isinstance(self._outbox, KeepOutbox)
        return self._outbox

    def _end(self) -> None:
        text = self.text_so_far
        self._book.release(text.num_booked_unseen)
        if text.num_unaudited and not self._audit(self):
            self._give_up()
        super()._end()

    def _give_up(self) -> None:
        """Nobody will say anything of what is seen and not audited."""
        text = self.text_so_far
        self._book.give_up(text.num_booked - text.num_booked_unseen)

    def _summarise(self) -> Summary:
        return self._tally.summary(self._link, account=self._book.account)
