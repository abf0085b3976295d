"""What a stream has to tell the edge: facts that are due, turned into a message when the link takes one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..decoding import Sampling
from ..measure import stamp_ms
from ..wire import Close, Hint, Message, Open
from .guesses import Guesses
from .policy import Policy

__all__ = ["Outbox", "StreamRequest"]

FIRST_STAMPS_EVERY_S = 0.25
"""How often a hint carries a stamp until the edge's pass time is known."""
SOON_S = 0.2
"""And when there is a reason to ask."""
STAMP_EVERY_S = 4.0
"""And afterwards: such estimates age slowly, bytes count."""
ACKNOWLEDGE_AFTER_S = 4.0
"""An edge that hears nothing for long takes the device for gone."""
ACKNOWLEDGE_EVERY = 64
"""Tokens received without having said so, while the edge's run-ahead is not known."""
ACKNOWLEDGE_REPEATED_EVERY = 8
NUM_GOODBYES = 3
"""How often CLOSE is said: nothing answers it, and a session whose CLOSE was lost blocks room for a lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What an app asks for."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    stop_ids: frozenset[int]
    policy: Policy
    wants_logprobs: bool = False
    takes_any_noise: bool = False


class Outbox:
    """Knows what is due, in the order in which the edge needs it: OPEN, asking again, guesses, thanks."""

    def __init__(self, request: StreamRequest, guesses: Guesses, *, session_id: bytes, alias: int) -> None:
        self.alias = alias
        self.generation = 0
        self.patience_s = request.policy.patience_s
        self._acknowledged = guesses.head
        """The edge was told that we have everything before this position."""
        self._request = request
        self._guesses = guesses
        self.session_id = session_id
        self._owes_open = self._owes_guesses = self._owes_acknowledgement = self._owes_close = False
        self._is_closed = False
        self.num_goodbyes_left = 0
        self._owes_wish = False
        """For another patience than the last OPEN said."""
        self._has_wished = False
        self._missing_before: int | None = None
        self._asked = (-1, 0.0)
        """(head, time) of the last request to repeat lost commits."""
        self.stamp_every_s = FIRST_STAMPS_EVERY_S
        self._stamped_s = -STAMP_EVERY_S
        self._is_stamp_due = False
        self._said_s: float | None = None
        self._in_flight: deque[tuple[int, float]] = deque()
        """(first position, time) of hints whose first position is not committed yet."""

    def open(self, generation: int) -> None:
        """Begin anew: whatever was due or under way belongs to an older life."""
        self.generation = generation
        self._owes_open = True
        self._missing_before = None
        self._acknowledged = self._guesses.head
        self.repeat_guesses()

    def repeat_open(self) -> None:
        """In the same generation: if the first one arrived after all, the edge knows this for a duplicate."""
        self._owes_open = self.generation > 0 and not self._is_closed

    def ask_for_commits_before(self, position: int) -> None:
        self._missing_before = position

    def ask_for_gap(self, position: int, now_s: float, *, again_after_s: float) -> bool:
        """Commits were lost or overtaken: ask once, and again when the answer should have come."""
        head, asked_s = self._asked
        if head == self._guesses.head and now_s - asked_s < again_after_s:
            return False
        self._asked = (self._guesses.head, now_s)
        self.ask_for_commits_before(position)
        return True

    def send_guesses(self) -> None:
        self._owes_guesses = True

    def repeat_guesses(self) -> None:
        """Hints that were sent may be lost."""
        self._guesses.send_again()
        self._in_flight.clear()
        self._owes_guesses = self._guesses.num_unsent > 0

    def wish_patience(self, patience_s: float) -> None:
        """The edge should hear at once: it may be waiting in vain, or driving without need."""
        self.patience_s = patience_s
        self._owes_wish = self._owes_acknowledgement = True

    def stamp_soon(self) -> None:
        """The link seems to be another than it was: the next hint asks, unless one did just now."""
        self._is_stamp_due = True

    def acknowledge_in_time(self, now_s: float, *, run_ahead: int | None, is_repeated: bool) -> bool:
        """Without hints that carry it, acknowledge at half the edge's run-ahead, and after a while anyway.

        An edge that repeats what we have, for it saw losses, is told sooner: every repeat costs bytes.
        """
        every = ACKNOWLEDGE_EVERY if run_ahead is None else max(1, run_ahead // 2)
        if is_repeated:
            every = min(every, ACKNOWLEDGE_REPEATED_EVERY)
        is_quiet = self._said_s is None or self._said_s < now_s - ACKNOWLEDGE_AFTER_S
        if not is_quiet and self._guesses.head - self._acknowledged < every:
            return False
        self._owes_acknowledgement = True
        return True

    def close(self) -> None:
        """Say goodbye, if the edge ever heard of us, and nothing else any more."""
        self._owes_close = self.generation > 0
        self.num_goodbyes_left = NUM_GOODBYES if self._owes_close else 0
        self._is_closed = True

    def repeat_close(self) -> None:
        """The edge may not have heard it."""
        self._owes_close = self.num_goodbyes_left > 0

    def forget_in_flight(self) -> None:
        """The guesses under way were contradicted: nobody waits for them."""
        self._in_flight.clear()

    def has_lost_hint(self, *, sent_before_s: float) -> bool:
        """Were positions committed whose hint went out before then? Forgets hints that commits reached."""
        is_lost = False
        while self._in_flight and self._in_flight[0][0] < self._guesses.head:
            is_lost |= self._in_flight.popleft()[1] < sent_before_s
        return is_lost

    def next_message(self, now_s: float, num_worth_sending: Callable[[], int]) -> Message | None:
        """What the edge should hear next; None when there is nothing to say."""
        guesses = self._guesses
        if self._owes_close:
            self._owes_close = False
            self.num_goodbyes_left -= 1
            return Close(alias=self.alias, generation=self.generation, known=guesses.head)
        if self._is_closed:
            return None
        if self._owes_open:
            self._owes_open = self._owes_wish = False
            self._said_s = now_s
            return self._open_message()
        if self._missing_before is not None:
            position, self._missing_before = self._missing_before, None
            if position > guesses.head:  # what was missing may have come meanwhile
                return self._hint(position, 0, (), now_s)
        if self._owes_guesses and guesses.num_unsent:
            self._owes_guesses = False
            self._in_flight.append((guesses.sent, now_s))
            # At least one: an edge that waits for us waits for whatever there is.
            return self._guess(*guesses.take_unsent(max(1, num_worth_sending())), now_s)
        if self._owes_acknowledgement:
            return self._hint(guesses.head, 0, (), now_s)
        return None

    def _open_message(self) -> Open:
        request = self._request
        return Open(
            session=self.session_id,
            alias=self.alias,
            generation=self.generation,
            tokens=tuple(self._guesses.committed()),
            prompt_length=len(request.prompt),
            max_new_tokens=request.max_new_tokens,
            temperature=request.sampling.temperature,
            top_k=request.sampling.top_k,
            top_p=request.sampling.top_p,
            min_p=request.sampling.min_p,
            seed=request.sampling.seed,
            stop_ids=tuple(sorted(request.stop_ids)),
            patience_s=self.patience_s,
            wants_logprobs=request.wants_logprobs,
            takes_any_noise=request.takes_any_noise,
        )

    def _guess(self, position: int, prefix_hash: int, tokens: tuple[int, ...], now_s: float) -> Message:
        return self._hint(position, prefix_hash, tokens, now_s)

    def _hint(self, position: int, prefix_hash: int, tokens: tuple[int, ...], now_s: float) -> Hint:
        self._acknowledged = self._guesses.head
        self._owes_acknowledgement = False
        stamp = patience_ms = None
        self._said_s = now_s
        if now_s - self._stamped_s >= (SOON_S if self._is_stamp_due else self.stamp_every_s):
            self._stamped_s, self._is_stamp_due = now_s, False
            stamp = stamp_ms(now_s)
        if self._owes_wish or (stamp is not None and self._has_wished):
            # Said again with every stamp: the message that said it first may be lost.
            self._has_wished, self._owes_wish = True, False
            patience_ms = math.ceil(self.patience_s * 1000)
        return Hint(
            alias=self.alias,
            generation=self.generation,
            position=position,
            prefix_hash=prefix_hash,
            tokens=tokens,
            known=self._guesses.head,
            stamp_ms=stamp,
            patience_ms=patience_ms,
        )
