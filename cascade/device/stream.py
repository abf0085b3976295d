"""One answer at the device: what came is delivered, what may come is guessed, what is due is said.

Like the edge's peer, a stream keeps no queue of messages: it says what is due when the link takes it, so
guesses that a correction made worthless are never sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import RefusedError, SettingsError
from ..events import Source, Summary
from ..measure import Knowledge
from ..models.runner import Runner
from ..wire import Commit, Error, ErrorCode, Feature, Hint, Keep, Limits, Message
from .answer_text import AnswerText
from .answering import AnswerStream
from .drafter import Drafter, Guess
from .drafting import Drafting
from .expectations import answer_s, commits_apart_s, hint_s, silence_s
from .guesses import Guesses, Judgement
from .outbox import STAMP_EVERY_S, Outbox, StreamRequest
from .policy import Policy
from .refusals import Refusals
from .scheduler import Scheduler
from .silence import SilenceWatch
from .soundings import Soundings
from .timer import Timer

__all__ = ["Stream"]

log = logging.getLogger(__name__)

LINGER_S = 0.25
"""Between two goodbyes, and a round trip on top."""


class Stream(AnswerStream):
    """An answer that the edge decides, with hints from the device's draft."""

    def __init__(
        self,
        request: StreamRequest,
        *,
        session_id: bytes,
        alias: int,
        knowledge: Knowledge,
        drafter: Drafter | None,
        runner: Runner | None,
        text: AnswerText,
        next_generation: Callable[[], int],
        notify: Callable[[Stream], None],
        credit: Callable[[int], None] | None = None,
    ) -> None:
        """`credit`: is told how many tokens were delivered, all of them the target's own."""
        super().__init__(request, text, is_plain=drafter is None)
        self._credit = credit
        self.alias = alias
        self.limits: Limits | None = None
        """The edge's, known from WELCOME on."""
        self.is_served = False
        """The edge at the other end of the link has answered our OPEN."""
        self._guesses = self._make_guesses()
        self._next_generation = next_generation
        self._notify = notify
        # Measured:
        self._known = knowledge
        self._link = knowledge.link
        self._scheduler = Scheduler(request.policy, knowledge)
        self._soundings = Soundings(knowledge.link)
        # Drafting; None where the edge decides alone:
        self._drafting = self._make_drafting(drafter, runner)
        self._num_rollbacks = 0
        # For the edge:
        self._outbox = self._make_outbox(session_id)
        self._send_timer = Timer(self._send_hint)
        # Against silence:
        self._silence = SilenceWatch(self._on_silence)
        self._refusals = Refusals()
        self._retry_timer = Timer(self.open)
        self._goodbye_timer = Timer(self._say_goodbye_again)

    def _make_guesses(self) -> Guesses:
        return Guesses(self.request.prompt)

    def _make_outbox(self, session_id: bytes) -> Outbox:
        return Outbox(self.request, self._guesses, session_id=session_id, alias=self.alias)

    def _make_drafting(self, drafter: Drafter | None, runner: Runner | None) -> Drafting | None:
        if drafter is None:
            return None
        assert runner is not None
        return Drafting(
            drafter,
            runner,
            self._guesses,
            knowledge=self._known,
            tally=self._tally,
            on_guess=self._on_guess,
            on_failure=self._go_on_undrafted,
        )

    # What the connection does with it

    def open(self) -> None:
        """Open at the edge, or open again, with all tokens there are."""
        self._retry_timer.stop()
        self.is_served = False
        self._outbox.open(self._next_generation())
        self._soundings.begin_anew()
        self._tally.num_opens += 1
        self._start_drafting()
        self._silence.start()
        self._decide_drafting()
        self._notify(self)

    def repeat_open(self) -> None:
        """Our OPEN may be lost."""
        self._outbox.repeat_open()
        self._notify(self)

    def note_limits(self, limits: Limits) -> None:
        """The edge's WELCOME: the text may have reached the context's end before we knew where that is."""
        self.limits = limits
        if not self.is_ended and self.has_answer and self._num_standing >= self._length_limit():
            self._tally.finish_reason = "length"
            self._end()

    @property
    def demands(self) -> Feature:
        """What an edge must not lack."""
        request = self.request
        demands = Feature.LOGPROBS if request.wants_logprobs else Feature.NONE
        if request.sampling.temperature > 0 and not request.takes_any_noise:
            demands |= Feature.SHARED_NOISE
        return demands

    @property
    def num_ahead(self) -> int:
        return self._guesses.num_chained

    @property
    def policy(self) -> Policy:
        return self._scheduler.policy

    @property
    def num_rollbacks(self) -> int:
        return self._num_rollbacks

    @property
    def agreement(self) -> float | None:
        """How often the edge agreed with the draft on this text, lately; None without a draft."""
        return None if self._drafting is None else self._scheduler.chance_of_next

    @property
    def has_answer(self) -> bool:
        """Some of it has come."""
        return self._num_decided > len(self.request.prompt)

    @property
    def _num_decided(self) -> int:
        """Tokens of the text that the app may have."""
        return self._guesses.head

    @property
    def _num_standing(self) -> int:
        """Of these, such as the edge knows of, or never will."""
        return self._num_decided

    @property
    def is_over(self) -> bool:
        """Ended, and the edge was told often enough."""
        return self.is_ended and self._outbox.num_goodbyes_left == 0

    def forget(self) -> None:
        """The link to the edge that knew us is gone, or is not ours any more: no more goodbyes."""
        if self.is_ended:
            self._goodbye_timer.stop()

    def next_message(self, now_s: float) -> Message | None:
        """What the edge should hear next; None when there is nothing to say."""
        if self._retry_timer.is_set:
            return None  # the edge has no session to which it could belong
        message = self._outbox.next_message(now_s, self._num_worth_sending)
        self._scheduler.note_sent(now_s, num_sent=self._guesses.num_sent)
        return message

    @property
    def num_open_bytes(self) -> int:
        """Size of the last OPEN."""
        return self._soundings.num_open_bytes

    def count_sent(self, message: Message, num_bytes: int) -> None:
        self._soundings.note_sent(message, num_bytes, self._loop.time())
        if isinstance(message, Hint | Keep):
            self._tally.bytes_up += num_bytes

    def on_commit(self, commit: Commit, num_bytes: int) -> None:
        """The edge decided: go on from there."""
        if commit.generation != self._outbox.generation or self.is_ended:
            return
        now_s = self._loop.time()
        self.is_served = True
        self._silence.note_heard(now_s, normal_s=silence_s(self._known, self.policy))
        self._tally.bytes_down += num_bytes
        self._measure(commit, now_s)
        num_known = self._guesses.head - commit.position
        if num_known < 0:
            self._decide_asking(commit.position, now_s)
            return
        tokens = commit.tokens[num_known:]
        if not tokens:
            return
        self._refusals.forget()
        self._tally.num_passes += 1
        self._settle(commit, num_known, now_s)
        if self.is_ended:
            return
        try:
            self._scheduler.note_commit(now_s)
        except SettingsError as error:
            self.fail(error)
        else:
            self._wish_patience()
            if self._scheduler.wants_stamp:
                self._outbox.stamp_soon()
            self._decide_sending(now_s)
            self._decide_drafting()
            self._decide_acknowledging(now_s, is_repeated=num_known > 0)

    def on_error(self, error: Error, *, num_other_edges: int = 0) -> None:
        """The edge refused something of this stream."""
        if self.is_ended or (error.generation is not None and error.generation != self._outbox.generation):
            return
        if error.code is ErrorCode.UNKNOWN_SESSION:
            if not self._retry_timer.is_set:
                self.open()
            return
        self.is_served = False
        try:
            wait_s = self._refusals.retry_after_s(
                error, has_answer=self.has_answer, num_other_edges=num_other_edges
            )
        except RefusedError as refusal:
            self.fail(refusal)
        else:
            log.info("a session was refused, and will be asked for again: %s", error.code.name)
            self._open_later(wait_s)

    # What a commit tells

    def _settle(self, commit: Commit, num_known: int, now_s: float) -> None:
        """Take the tokens of a commit behind those that we know."""
        tokens = commit.tokens[num_known:]
        chances = self._scheduler.chances
        self._note_judgement(self._guesses.commit(tokens), len(tokens))
        self._repeat_lost_hints(commit, now_s)
        num_hinted = commit.num_hinted - num_known
        logprobs: Sequence[float | None] = [None] * len(tokens)
        if commit.logprobs is not None:
            logprobs = commit.logprobs[num_known:]
        for index, token in enumerate(tokens):
            source = Source.HINTED if index < num_hinted else Source.DRIVEN
            position = self._guesses.head - len(tokens) + index
            agreement = chances[index] if index < len(chances) else None
            self._deliver(token, position, source, now_s, agreement, logprobs[index])

    def _measure(self, commit: Commit, now_s: float) -> None:
        self._soundings.note_heard(commit, now_s, apart_s=commits_apart_s(self._known, self.policy))
        if commit.queue_ms is not None:
            self._tally.queue_s.add(commit.queue_ms / 1000)
        if commit.step_ms is not None:
            self._scheduler.note_pass(commit.step_ms / 1000)
            self._tally.pass_s.add(commit.step_ms / 1000)
            self._outbox.stamp_every_s = STAMP_EVERY_S

    def _note_judgement(self, judgement: Judgement, num_tokens: int) -> None:
        """What a commit of so many tokens said about our guesses."""
        self._scheduler.note_verdict(judgement, num_tokens)
        if judgement.changed_from is not None:
            self._num_rollbacks += 1
            if self._drafting is not None:
                self._drafting.roll_back(judgement.changed_from)
        if judgement.num_disagreed:
            self._outbox.forget_in_flight()

    def _repeat_lost_hints(self, commit: Commit, now_s: float) -> None:
        """A hint that had time to arrive, and yet the edge decided alone: it was lost, so say it again."""
        was_lost = self._outbox.has_lost_hint(sent_before_s=now_s - hint_s(self._known))
        if was_lost and commit.num_hinted == 0:
            self._outbox.repeat_guesses()
            self._notify(self)

    def _answer_tokens(self) -> list[int]:
        return self._guesses.tokens[len(self.request.prompt) : self._num_decided]

    def _summarise(self) -> Summary:
        return self._tally.summary(self._link)

    def _length_limit(self) -> int:
        limit = super()._length_limit()
        return limit if self.limits is None else min(limit, self.limits.context_length)

    def _end(self) -> None:
        super()._end()
        if self._credit is not None:
            self._credit(self._tally.num_tokens)
        self._outbox.close()
        self._send_timer.stop()
        self._retry_timer.stop()
        self._silence.stop()
        if self._drafting is not None:
            self._drafting.end()
        self._say_goodbye_again_later()
        self._notify(self)

    def _say_goodbye_again_later(self) -> None:
        if self._outbox.num_goodbyes_left > 1:
            self._goodbye_timer.set(self._loop.time() + LINGER_S + (self._link.rtt_s or 0.0))

    def _say_goodbye_again(self) -> None:
        self._outbox.repeat_close()
        self._notify(self)
        self._say_goodbye_again_later()

    def _open_later(self, wait_s: float) -> None:
        self._retry_timer.set(self._loop.time() + wait_s)
        self._silence.stop()  # nothing is to be heard meanwhile

    # When to speak

    def _wish_patience(self) -> None:
        patience_s = self._scheduler.policy.patience_s
        if self._drafting is not None and patience_s != self._outbox.patience_s:
            self._outbox.wish_patience(patience_s)
            self._notify(self)

    def _decide_sending(self, now_s: float) -> None:
        """Send the guesses now, as late as still serves the next pass, or not yet."""
        if self.is_ended:
            return
        guesses = self._guesses
        when_s = None
        if guesses.num_unsent:
            when_s = self._scheduler.send_at_s(
                now_s, num_sent=guesses.num_sent, can_draft=self._wants_one_more
            )
        if when_s is None:
            self._send_timer.stop()
        elif when_s <= now_s:
            self._send_hint()
        else:
            self._send_timer.set_by(when_s)  # a commit does not postpone what was planned

    def _num_worth_sending(self) -> int:
        return self._scheduler.num_worth_sending(num_sent=self._guesses.num_sent)

    def _send_hint(self) -> None:
        self._send_timer.stop()
        if not self.is_ended:
            self._outbox.send_guesses()
            self._notify(self)

    def _decide_asking(self, position: int, now_s: float) -> None:
        """Commits before this position were lost or overtaken."""
        if self._outbox.ask_for_gap(position, now_s, again_after_s=answer_s(self._known)):
            self._notify(self)

    def _decide_acknowledging(self, now_s: float, *, is_repeated: bool) -> None:
        run_ahead = None if self.limits is None else self.limits.run_ahead
        if self._outbox.acknowledge_in_time(now_s, run_ahead=run_ahead, is_repeated=is_repeated):
            self._notify(self)

    # Against silence

    def _on_silence(self) -> None:
        """Nothing heard for long: have it repeated, and say our guesses again."""
        self._outbox.ask_for_commits_before(self._guesses.head + 1)
        self._outbox.repeat_guesses()
        self._notify(self)

    # Drafting

    def _start_drafting(self) -> None:
        if self._task is None and self._drafting is not None:
            self._task = self._loop.create_task(self._drafting.run(), name="drafter")

    def _on_guess(self, guess: Guess, now_s: float) -> None:
        self._take_guess(guess, now_s)
        if not self._send_timer.is_set:  # else it goes with the message that is planned
            self._decide_sending(now_s)
        self._decide_drafting()

    def _take_guess(self, guess: Guess, now_s: float) -> None:
        """The draft says how the text may go on."""
        self._guesses.add(guess.token)
        self._scheduler.note_guess(guess.confidence)

    def _go_on_undrafted(self) -> None:
        """Drafting is for speed only: from here on the edge decides alone, and waits for no hints."""
        self._drafting = None
        self._outbox.patience_s = 0.0
        if not self.is_ended:
            self.open()

    def _decide_drafting(self) -> None:
        if self._drafting is not None and not self.is_ended:
            self._drafting.wish(self._draft_at_s(self._loop.time()) if self._wants_one_more() else None)

    def _draft_at_s(self, now_s: float) -> float:
        return self._scheduler.draft_at_s(now_s)

    def _wants_one_more(self) -> bool:
        guesses = self._guesses
        if guesses.num_chained and guesses.tokens[-1] in self.request.stop_ids:
            return False
        if guesses.end >= self._length_limit() - 1:
            return False  # the last token is the edge's own anyway
        return self._scheduler.wants_one_more(num_sent=guesses.num_sent)
