"""One answer at the device: what came is delivered, what may come is guessed, what is due is said.

Like the edge's peer, a stream keeps no queue of messages: it says what is due when the link takes it, so
guesses that a correction made worthless are never sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ..errors import ContextExceeded, RefusedError, SettingsError
from ..events import Source, Summary
from ..measure import Knowledge, PendingStamps
from ..models.runner import Runner
from ..wire import Commit, Error, ErrorCode, Feature, Hint, Keep, Limits, Message, Open
from .answer_text import AnswerText
from .answering import AnswerStream
from .drafter import Drafter, Guess
from .effort import with_effort
from .guesses import Guesses, Judgement
from .outbox import STAMP_EVERY_S, Outbox, StreamRequest
from .policy import FOREVER_S, Policy
from .refusals import Refusals
from .scheduler import Scheduler
from .silence import FIRST_REPEAT_S, SilenceWatch

__all__ = ["Stream"]

log = logging.getLogger(__name__)

ACKNOWLEDGE_AFTER_S = 4.0
"""An edge that hears nothing for long takes the device for gone."""
ACKNOWLEDGE_REPEATED_EVERY = 8
ACKNOWLEDGE_EVERY = 64
"""Tokens received without having said so, while the edge's run-ahead is not known."""
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
        self.num_open_bytes = 0
        """Size of the last OPEN."""
        self._guesses = self._make_guesses()
        self._drafter = drafter
        self._runner = runner
        self._next_generation = next_generation
        self._notify = notify
        # Measured:
        self._known = knowledge
        self._link = knowledge.link
        self._scheduler = Scheduler(request.policy, knowledge)
        self._stamps = PendingStamps(knowledge.link)
        # Drafting:
        self._may_draft = asyncio.Event()
        self._draft_timer: asyncio.TimerHandle | None = None
        self._num_rollbacks = 0
        # For the edge:
        self._outbox = self._make_outbox(session_id)
        self._send_timer: asyncio.TimerHandle | None = None
        self._asked = (-1, 0.0)
        """(head, time) of the last request to repeat lost commits."""
        # Against silence:
        self._silence = SilenceWatch(self._on_silence)
        self._refusals = Refusals()
        self._retry_timer: asyncio.TimerHandle | None = None
        self._goodbye_timer: asyncio.TimerHandle | None = None

    def _make_guesses(self) -> Guesses:
        return Guesses(self.request.prompt)

    def _make_outbox(self, session_id: bytes) -> Outbox:
        return Outbox(self.request, self._guesses, session_id=session_id, alias=self.alias)

    # What the connection does with it

    def open(self) -> None:
        """Open at the edge, or open again, with all tokens there are."""
        self._cancel_retry()
        self.is_served = False
        self._outbox.open(self._next_generation())
        self._stamps.clear()
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
        return None if self._drafter is None else self._scheduler.chance_of_next

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
        if self.is_ended and self._goodbye_timer is not None:
            self._goodbye_timer.cancel()

    def next_message(self, now_s: float) -> Message | None:
        """What the edge should hear next; None when there is nothing to say."""
        if self._retry_timer is not None:
            return None  # the edge has no session to which it could belong
        message = self._outbox.next_message(now_s, self._num_worth_sending)
        self._scheduler.note_sent(now_s, num_sent=self._guesses.num_sent)
        return message

    def count_sent(self, message: Message, num_bytes: int) -> None:
        if isinstance(message, Hint | Keep):
            self._tally.bytes_up += num_bytes
            if message.stamp_ms is not None:
                # Behind an OPEN it takes as long as that, whatever its size.
                size = num_bytes if self._outbox.opened_s is None else None
                self._stamps.note_sent(message.stamp_ms, self._loop.time(), size)
        elif isinstance(message, Open):
            self.num_open_bytes = num_bytes

    def on_commit(self, commit: Commit, num_bytes: int) -> None:
        """The edge decided: go on from there."""
        if commit.generation != self._outbox.generation or self.is_ended:
            return
        now_s = self._loop.time()
        self.is_served = True
        self._silence.note_heard(now_s, normal_s=self._normal_silence_s())
        self._tally.bytes_down += num_bytes
        self._measure(commit, now_s)
        num_known = self._guesses.head - commit.position
        if num_known < 0:
            self._ask_for_gap(commit.position, now_s)
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
            self._decide_acknowledging(is_repeated=num_known > 0)

    def on_error(self, error: Error, *, num_other_edges: int = 0) -> None:
        """The edge refused something of this stream."""
        if self.is_ended or (error.generation is not None and error.generation != self._outbox.generation):
            return
        if error.code is ErrorCode.UNKNOWN_SESSION:
            if self._retry_timer is None:
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
        self._judge(tokens)
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
        if self._outbox.opened_s is not None and not commit.tokens:
            # The answer to OPEN comes at once: the first round trip for free.
            self._link.add_round_trip(now_s - self._outbox.opened_s, num_bytes=self.num_open_bytes)
            self._outbox.opened_s = None
        if commit.echo_ms is not None:
            commits_every_s = self._waits_s() + 2 * (self._known.passes.mean_s or 0.05)
            self._stamps.note_echo(now_s, commit.echo_ms, commit.held_ms or 0, apart_s=commits_every_s)
        if commit.queue_ms is not None:
            self._tally.queue_s.add(commit.queue_ms / 1000)
        if commit.step_ms is not None:
            self._scheduler.note_pass(commit.step_ms / 1000)
            self._tally.pass_s.add(commit.step_ms / 1000)
            self._outbox.stamp_every_s = STAMP_EVERY_S

    def _judge(self, tokens: tuple[int, ...]) -> None:
        self._note_judgement(self._guesses.commit(tokens), len(tokens))

    def _note_judgement(self, judgement: Judgement, num_tokens: int) -> None:
        """What a commit of so many tokens said about our guesses."""
        self._scheduler.note_verdict(judgement, num_tokens)
        if judgement.changed_from is not None:
            self._num_rollbacks += 1
            if self._drafter is not None:
                self._drafter.roll_back(judgement.changed_from)
        if judgement.num_disagreed:
            self._outbox.forget_in_flight()

    def _repeat_lost_hints(self, commit: Commit, now_s: float) -> None:
        """A hint that had time to arrive, and yet the edge decided alone: it was lost, so say it again."""
        rtt_s = FIRST_REPEAT_S if self._link.rtt_s is None else self._link.rtt_s
        late_s = rtt_s + 2 * (self._known.passes.mean_s or 0.05) + 0.01
        was_lost = self._outbox.has_lost_hint(sent_before_s=now_s - late_s)
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
        self._cancel_sending()
        self._cancel_retry()
        if self._draft_timer is not None:
            self._draft_timer.cancel()
        self._silence.stop()
        self._may_draft.set()
        self._say_goodbye_again_later()
        self._notify(self)

    def _say_goodbye_again_later(self) -> None:
        if self._outbox.num_goodbyes_left > 1:
            self._goodbye_timer = self._loop.call_later(
                LINGER_S + (self._link.rtt_s or 0.0), self._say_goodbye_again
            )

    def _say_goodbye_again(self) -> None:
        self._outbox.repeat_close()
        self._notify(self)
        self._say_goodbye_again_later()

    def _open_later(self, wait_s: float) -> None:
        self._cancel_retry()
        self._retry_timer = self._loop.call_later(wait_s, self.open)
        self._silence.stop()  # nothing is to be heard meanwhile

    def _cancel_retry(self) -> None:
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None

    # When to speak

    def _wish_patience(self) -> None:
        patience_s = self._scheduler.policy.patience_s
        if self._drafter is not None and patience_s != self._outbox.patience_s:
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
            self._cancel_sending()
        elif when_s <= now_s:
            self._send_hint()
        else:
            self._send_hint_at(when_s)

    def _num_worth_sending(self) -> int:
        return self._scheduler.num_worth_sending(num_sent=self._guesses.num_sent)

    def _send_hint_at(self, when_s: float) -> None:
        if self._send_timer is not None and self._send_timer.when() <= when_s:
            return  # a commit does not postpone what was planned
        self._cancel_sending()
        self._send_timer = self._loop.call_at(when_s, self._send_hint)

    def _cancel_sending(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _send_hint(self) -> None:
        self._cancel_sending()
        if not self.is_ended:
            self._outbox.send_guesses()
            self._notify(self)

    def _ask_for_gap(self, position: int, now_s: float) -> None:
        """Commits were lost or overtaken: ask once, and again when the answer should have come."""
        head, asked_s = self._asked
        rtt_s = self._link.rtt_s
        if head == self._guesses.head and now_s - asked_s < (
            FIRST_REPEAT_S if rtt_s is None else 1.5 * rtt_s
        ):
            return
        self._asked = (self._guesses.head, now_s)
        self._outbox.ask_for_commits_before(position)
        self._notify(self)

    def _decide_acknowledging(self, *, is_repeated: bool) -> None:
        """Without hints that carry it, acknowledge at half the edge's run-ahead, and after a while anyway.

        An edge that repeats what we have, for it saw losses, is told sooner: every repeat costs bytes.
        """
        every = ACKNOWLEDGE_EVERY if self.limits is None else max(1, self.limits.run_ahead // 2)
        if is_repeated:
            every = min(every, ACKNOWLEDGE_REPEATED_EVERY)
        is_quiet = self._outbox.was_quiet_since(self._loop.time() - ACKNOWLEDGE_AFTER_S)
        if is_quiet or self._guesses.head - self._outbox.acknowledged >= every:
            self._outbox.acknowledge()
            self._notify(self)

    # Against silence

    def _on_silence(self) -> None:
        """Nothing heard for long: ask for a repeat, and say our guesses again."""
        self._outbox.ask_for_commits_before(self._guesses.head + 1)
        self._outbox.repeat_guesses()
        self._notify(self)

    def _normal_silence_s(self) -> float:
        """How long nothing may come on this link before something is wrong."""
        rtt_s = self._link.rtt_s
        if rtt_s is None:
            return FIRST_REPEAT_S
        drafts_s = (self._known.draft_step_s.value or 0.0) * min(self._scheduler.policy.window, 16)
        passes_s = 4 * (self._known.passes.mean_s or 0.05)
        return 0.25 + 2 * rtt_s + self._waits_s() + drafts_s + passes_s

    def _waits_s(self) -> float:
        """How long the edge may wait for our hints before a pass."""
        patience_s = self._scheduler.policy.patience_s
        return patience_s if patience_s < FOREVER_S else 0.0

    # Drafting

    def _start_drafting(self) -> None:
        if self._task is None and self._drafter is not None:
            self._task = asyncio.create_task(self._draft(), name="drafter")

    async def _draft(self) -> None:
        drafter, runner = self._drafter, self._runner
        assert drafter is not None
        assert runner is not None
        try:
            while True:
                await self._may_draft.wait()
                if self.is_ended:
                    return
                num_rollbacks = self._num_rollbacks
                started_s = self._loop.time()
                work, num_rows = drafter.step(self._guesses.tokens)
                done = await runner.run(with_effort(work, self._loop.time), rows=num_rows)
                now_s = self._loop.time()
                self._known.draft_step_s.add(now_s - started_s)
                self._known.load.add(done.waited_s, done.seconds)
                self._tally.count_step(now_s - started_s, waited_s=done.waited_s)
                # A rollback meanwhile: this guess continues a text that is no more.
                if num_rollbacks == self._num_rollbacks and not self.is_ended:
                    self._take_guess(done.result, now_s)
                    if self._send_timer is None:  # else it goes with the message that is planned
                        self._decide_sending(now_s)
                    self._decide_drafting()
        except ContextExceeded as error:
            log.info("no more drafting: %s", error)
            self._go_on_undrafted()
        except Exception as error:
            log.warning("no more drafting: the draft model failed: %r", error, exc_info=error)
            self._go_on_undrafted()
        finally:
            drafter.release()

    def _take_guess(self, guess: Guess, now_s: float) -> None:
        """The draft says how the text may go on."""
        self._guesses.add(guess.token)
        self._scheduler.note_guess(guess.confidence)

    def _go_on_undrafted(self) -> None:
        """Drafting is for speed only: from here on the edge decides alone, and waits for no hints."""
        self._drafter = None
        self._outbox.patience_s = 0.0
        if not self.is_ended:
            self.open()

    def _decide_drafting(self) -> None:
        if self._draft_timer is not None:
            self._draft_timer.cancel()
            self._draft_timer = None
        self._may_draft.clear()
        if self.is_ended:
            self._may_draft.set()
        elif self._drafter is not None and self._wants_one_more():
            now_s = self._loop.time()
            when_s = self._draft_at_s(now_s)
            if when_s <= now_s:
                self._may_draft.set()
            else:
                self._draft_timer = self._loop.call_at(when_s, self._may_draft.set)

    def _draft_at_s(self, now_s: float) -> float:
        return self._scheduler.draft_at_s(now_s)

    def _wants_one_more(self) -> bool:
        guesses = self._guesses
        if guesses.num_chained and guesses.tokens[-1] in self.request.stop_ids:
            return False
        if guesses.end >= self._length_limit() - 1:
            return False  # the last token is the edge's own anyway
        return self._scheduler.wants_one_more(num_sent=guesses.num_sent)
