"""What the edge knows of a session beyond its text: its generation, and how far the device was told."""

from __future__ import annotations

from dataclasses import dataclass

from ..wire import Commit
from .interface import Committed, DecodeRequest, Text

__all__ = ["Session", "SessionKey", "SessionRecord"]

SessionKey = tuple[str, bytes]
"""(identity, session id chosen by the device). Nobody reaches a session by its id alone."""

MAX_COMMIT_TOKENS = 1024
"""Tokens in one COMMIT; what is left follows in the next."""
MAX_REPEATED_TAIL = 64
"""Unacknowledged tokens that a COMMIT repeats on a link that was seen to lose messages."""
REPEATS_AFTER_LOSS = 32
"""Commits that repeat their tail after a loss was seen."""


@dataclass(slots=True)
class SessionRecord:
    """What a log may say of a session afterwards: figures, and nothing of its text."""

    opened_s: float
    num_prompt: int
    first_token_s: float | None = None
    """Since it was opened."""
    num_tokens: int = 0
    num_hinted: int = 0
    num_opens: int = 0
    queued_bytes: int = 0
    """While it waits for its first pass."""
    is_logged: bool = False


class Session:
    """One session of one device. One that is over stays as a tombstone until its lease ends."""

    def __init__(
        self, key: SessionKey, *, alias: int, generation: int, request: DecodeRequest, now_s: float
    ) -> None:
        self.key = key
        self.alias = alias
        self.generation = self.opened_generation = generation
        self._request_hash = hash(request)
        """Not the request itself: a tombstone keeps no text."""
        self.text: Text | None = None
        """None: closed by its device, or silent for a lease; what is left wards off late duplicates."""
        self.was_closed = False
        """By its device: it does not come back. After a silence it may, in a newer generation."""
        self.last_heard_s = now_s
        self.last_step_s = now_s
        self.patience_s = 0.0
        self.record = SessionRecord(opened_s=now_s, num_prompt=len(request.prompt))
        self._sent = 0
        self._num_hinted = 0
        self._owes_answer = True
        self._repeats_left = 0
        self._stamp: tuple[int, float] | None = None

    @property
    def identity(self) -> str:
        return self.key[0]

    def is_same_request(self, request: DecodeRequest) -> bool:
        """Would it decide the same text?"""
        return hash(request) == self._request_hash

    def attach(self, text: Text, prefix_length: int, generation: int) -> None:
        """Opened, or opened again: the device has `prefix_length` tokens."""
        self.text = text
        self.opened_generation = generation
        self.overrule(generation, prefix_length)

    def overrule(self, generation: int, position: int) -> None:
        """What was said from `position` on does not count any more."""
        self.generation = generation
        self._sent = position
        self._num_hinted = 0
        self._owes_answer = True

    def note_commit(self, committed: Committed, now_s: float) -> None:
        self._num_hinted += committed.num_hinted
        self.last_step_s = now_s
        record = self.record
        if record.first_token_s is None:
            record.first_token_s = now_s - record.opened_s
        record.num_tokens += len(committed.tokens)
        record.num_hinted += committed.num_hinted

    def note_stamp(self, stamp_ms: int, now_s: float) -> None:
        """The newest stamp is echoed with the next commit, and how long it was held."""
        self._stamp = (stamp_ms, now_s)

    def repeat_answer(self) -> None:
        self._owes_answer = True

    def repeat_from(self, known: int) -> None:
        """The device misses commits from `known` on."""
        self._sent = min(self._sent, known)
        self._owes_answer = True  # a sign of life, if there is nothing to repeat
        self._repeats_left = REPEATS_AFTER_LOSS
        self._num_hinted = 0

    def next_commit(self, now_s: float, pass_s: float) -> Commit | None:
        """What the device was not told yet. Built when it can be sent, so nothing stale ever waits.

        With the echo of a stamp goes how long the session waited for its pass, and how long a pass takes now:
        a device needs neither more often.
        """
        text = self.text
        if text is None:
            return None
        head = text.head
        if self._sent >= head:
            if not self._owes_answer:
                return None
            self._owes_answer = False
            return Commit(alias=self.alias, generation=self.generation, position=self._sent, tokens=())
        start = self._sent
        if self._repeats_left:
            self._repeats_left -= 1
            start = max(min(start, text.known), start - MAX_REPEATED_TAIL)
        tokens = tuple(text.committed(start, MAX_COMMIT_TOKENS))
        echo_ms = held_ms = queue_ms = step_ms = None
        if self._stamp is not None:
            # What the tokens were under way from their step is way, not holding.
            held_s = max(0.0, now_s - self._stamp[1] - text.lag_s)
            echo_ms, held_ms = self._stamp[0], round(held_s * 1000)
            queue_ms = round(text.queue_s * 1000)
            step_ms = round(pass_s * 1000) if pass_s else None
            self._stamp = None
        self._sent = start + len(tokens)
        num_hinted, self._num_hinted = min(self._num_hinted, len(tokens)), 0
        self._owes_answer = False
        return Commit(
            alias=self.alias,
            generation=self.generation,
            position=start,
            tokens=tokens,
            num_hinted=num_hinted,
            verdict=text.verdict(start, self._sent),
            logprobs=text.logprobs(start, self._sent),
            echo_ms=echo_ms,
            held_ms=held_ms,
            queue_ms=queue_ms,
            step_ms=step_ms,
        )
