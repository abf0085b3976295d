"""An answer that goes on without an edge: the draft alone decides meanwhile, provisionally.

When an edge is back it gets what is provisional, and says what it would have said. Then provisional tokens
stand and enter the books, or, if the app wants `revisions`, those that are not the target's are withdrawn.
"""

from __future__ import annotations

import logging
from typing import Any

from ..events import Source
from ..wire import Commit
from .cascade_stream import CascadeStream
from .drafter import Guess
from .kept_guesses import Settlement
from .offline import Lifeline, OfflineWatch

__all__ = ["OfflineStream"]

log = logging.getLogger(__name__)

MAX_SENT = 256
"""Provisional tokens at the edge, or under way to it: so many an edge buffers, unless told otherwise."""


class OfflineStream(CascadeStream):
    """Is offline from the moment at which there was no edge for so long, until one answers this stream."""

    def __init__(
        self, *args: Any, lifeline: Lifeline, offline_after_s: float, can_revise: bool, **options: Any
    ) -> None:
        self.can_revise = can_revise
        self.is_offline = False
        self._reached: tuple[int, str] | None = None
        """Where the answer ends and why, if the provisional token there is the target's own."""
        super().__init__(*args, **options)
        self._watch = OfflineWatch(lifeline, after_s=offline_after_s, on_offline=self._go_offline)
        self._watch.start()

    # Away and back

    def _go_offline(self) -> None:
        if self.is_ended or self._drafting is None:
            return
        log.info("no edge: the draft goes on alone")
        self.is_offline = True
        self._start_drafting()
        self._hand_over_provisionally(self._loop.time())
        self._decide_drafting()

    def on_commit(self, commit: Commit, num_bytes: int) -> None:
        is_back = self.is_offline and commit.generation == self._outbox.generation
        if is_back:
            self.is_offline = False
        super().on_commit(commit, num_bytes)
        if is_back and not self.is_ended:
            log.info("an edge is back")
            self._watch.start()
            self._decide_sending(self._loop.time())
            self._decide_drafting()

    def _end(self) -> None:
        self._watch.stop()
        super()._end()

    # The draft goes on

    def _take_guess(self, guess: Guess, now_s: float) -> None:
        if self._reached is not None:
            return  # its step began before
        if not self.is_offline:
            super()._take_guess(guess, now_s)
            return
        doubt = 1 - self._scheduler.chance_of(guess.confidence)
        self.text_so_far.add_guess(guess.token, doubt, is_kept=False)
        self._scheduler.note_guess(guess.confidence)
        self._hand_over_provisionally(now_s)

    def _hand_over_provisionally(self, now_s: float) -> None:
        """Everything that is drafted; but what is kept within the promise, and stands, is no exception."""
        while not self.is_ended and self._reached is None:
            self._hand_over_kept(now_s, is_at_once=False)
            seen = None if self.is_ended else self.text_so_far.see_provisionally()
            if seen is None:
                return
            position, token, doubt, is_unbooked = seen
            if is_unbooked:
                self._book.note_provisional()
            self._deliver(token, position, Source.KEPT, now_s, 1 - doubt, is_provisional=True)

    def _wants_one_more(self) -> bool:
        if self._reached is not None:
            return False
        if self.is_offline:
            return self._guesses.end < self._length_limit()
        return super()._wants_one_more()

    def _draft_at_s(self, now_s: float) -> float:
        return now_s if self.is_offline else super()._draft_at_s(now_s)

    # What becomes of it

    def _decide_sending(self, now_s: float) -> None:
        if self.is_offline or self.is_ended:
            return
        if not self.text_so_far.num_provisional_unsent:
            super()._decide_sending(now_s)
        elif self._guesses.num_sent <= MAX_SENT // 2:
            self._send_hint()

    def _num_worth_sending(self) -> int:
        num_provisional = self.text_so_far.num_provisional_unsent
        if not num_provisional:
            return super()._num_worth_sending()
        return min(num_provisional, MAX_SENT - self._guesses.num_sent)

    def _deliver(self, token: int, position: int, *facts: Any, **options: Any) -> None:
        if self._reached is not None and position > self._reached[0]:
            self._finish_reached()  # a commit goes on behind a stop string
        super()._deliver(token, position, *facts, **options)

    def _finish(self, position: int, reason: str) -> None:
        if self.can_revise and self.text_so_far.is_provisional(position):
            self._reached = position, reason
        else:
            super()._finish(position, reason)

    @property
    def _num_standing(self) -> int:
        return self._guesses.head if self.can_revise else super()._num_standing

    def _settle(self, commit: Commit, num_known: int, now_s: float) -> None:
        super()._settle(commit, num_known, now_s)
        if self.is_ended or self._guesses.head < self._length_limit():
            return
        # The draft has gone on beyond the end of the edge's context, and the edge says nothing about that.
        num_withdrawn, num_unbooked = self.text_so_far.drop_chain()
        self._book.withdraw(num_unbooked)
        self._reached = None
        self._withdraw(self._guesses.head, num_withdrawn, now_s)
        super()._finish(self._guesses.head - 1, "length")

    def _finish_reached(self) -> None:
        if self._reached is not None and not self.is_ended:
            super()._finish(*self._reached)

    def _tell_of_provisional(self, settlement: Settlement, now_s: float) -> None:
        super()._tell_of_provisional(settlement, now_s)
        if self._reached is None:
            return
        if settlement.withdrawn_from is not None and settlement.withdrawn_from <= self._reached[0]:
            self._reached = None
        elif self._guesses.head > self._reached[0]:
            self._finish_reached()
