"""Verdicts for answers that are over: what an app has seen, and the edge has not, is shown to it afterwards.

An answer ends with tokens that have no verdict when an app cancels it, or when its end came without an edge.
An audit is a stream that nobody reads: it opens the same text, hands over the rest of it, and ends with the
last verdict. What a device cannot have audited before it ends counts as disputed, if it was within a promise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..errors import CascadeError
from ..measure import Knowledge
from ..wire import Commit, Pen
from .answer_text import AnswerText
from .cascade_stream import CascadeStream
from .connection import Connection
from .escalation import Escalation
from .guesses import Judgement
from .keep_outbox import KeepOutbox
from .kept_guesses import KeptGuesses
from .offline_stream import MAX_SENT

__all__ = ["Auditor"]

MAX_AUDITS = 16
"""More at a time and the oldest is given up: a device without an edge must not gather answers for ever."""


class Auditor:
    """A device's audits."""

    def __init__(
        self,
        connection: Connection,
        *,
        knowledge: Knowledge,
        next_generation: Callable[[], int],
        new_session_id: Callable[[], bytes],
    ) -> None:
        self._connection = connection
        self._knowledge = knowledge
        self._next_generation = next_generation
        self._new_session_id = new_session_id
        self._audits: list[_AuditStream] = []
        self._is_closed = False

    def take(self, stream: CascadeStream) -> bool:
        """Have the edge look at the rest of this answer; False: nobody will."""
        alias = None if self._is_closed else self._connection.free_alias()
        if alias is None:
            return False
        self._audits = [audit for audit in self._audits if not audit.is_ended]
        if len(self._audits) >= MAX_AUDITS:
            self._audits.pop(0).cancel()
        audit = _AuditStream(
            stream.request,
            audited=stream.text_so_far.seen(),
            session_id=self._new_session_id(),
            alias=alias,
            knowledge=self._knowledge,
            drafter=None,
            runner=None,
            text=AnswerText(None),
            next_generation=self._next_generation,
            notify=self._connection.notify,
            book=stream.book,
            escalation=Escalation(stream.book.quality),
            audit=_nobody,
        )
        try:
            self._connection.add(audit)
        except CascadeError:
            return False  # there is no connection any more
        self._audits.append(audit)
        return True

    def close(self) -> None:
        self._is_closed = True
        for audit in self._audits:
            audit.cancel()
        self._audits.clear()


def _nobody(_stream: CascadeStream) -> bool:
    return False


class _AuditStream(CascadeStream):
    """Its text is there from the beginning, and all of it stands."""

    def __init__(self, *args: Any, audited: KeptGuesses, **options: Any) -> None:
        self._audited = audited
        super().__init__(*args, **options)

    def _make_guesses(self) -> KeptGuesses:
        return self._audited

    def _make_outbox(self, session_id: bytes) -> KeepOutbox:
        text = self.text_so_far
        return KeepOutbox(self.request, text, session_id=session_id, alias=self.alias, pen=Pen.DEVICE)

    @property
    def _num_standing(self) -> int:
        return self._guesses.head

    def _settle(self, commit: Commit, num_known: int, now_s: float) -> None:
        """Nothing is taken that the app has not seen."""
        text = self.text_so_far
        num_wanted = num_known + text.num_seen - text.head
        verdict = None if commit.verdict is None else commit.verdict[:num_wanted]
        wanted = dataclasses.replace(commit, tokens=commit.tokens[:num_wanted], verdict=verdict)
        super()._settle(wanted, num_known, now_s)
        if text.head >= min(text.num_seen, self._length_limit()):
            self.cancel()

    def _note_judgement(self, judgement: Judgement, num_tokens: int) -> None:
        """Nobody drafts here, and what the draft thought is forgotten."""
        if judgement.num_disagreed:
            self._outbox.forget_in_flight()

    def _decide_sending(self, now_s: float) -> None:
        guesses = self._guesses
        if not self.is_ended and guesses.num_unsent and guesses.num_sent <= MAX_SENT // 2:
            self._send_hint()

    def _num_worth_sending(self) -> int:
        return MAX_SENT - self._guesses.num_sent
