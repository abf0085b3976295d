"""What every engine has to do, said once: `cascade.edge.interface.Engine` as checks.

A check gets a `Subject`, an engine that runs and what is known of it, and speaks the interface alone. So
another engine is held to the same by naming it in `test_conformance.py`, in virtual or in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from cascade.decoding import Sampling
from cascade.edge.interface import Committed, DecodeRequest, Engine, Text
from cascade.errors import EngineError
from cascade.wire import Feature
from cascade.wire.text import HashedText

__all__ = ["CHECKS", "Check", "Subject", "needs"]

WITHIN_S = 120.0
"""An engine that takes longer for a short text hangs."""


@dataclass(frozen=True)
class Subject:
    """An engine under test, while it runs."""

    engine: Engine
    running: asyncio.Task[None]
    answer: Callable[[DecodeRequest], list[int]]
    """What the target alone says to a request, whatever the engine."""
    prompts: Sequence[tuple[int, ...]]
    """At least three, with different answers."""
    run_ahead: int
    """Tokens that are decoded beyond the acknowledged ones; more than 8."""
    uses_hints: bool = True
    num_tokens: int = 24

    def request(self, index: int = 0, **changes: object) -> DecodeRequest:
        prompt = self.prompts[index]
        plain = DecodeRequest(
            prompt=prompt,
            sampling=Sampling(),
            stop_ids=frozenset(),
            length_limit=len(prompt) + self.num_tokens,
        )
        return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]

    def open(self, request: DecodeRequest, said: Sequence[int] = (), **options: object) -> Opened:
        return Opened(self.engine, request, (*request.prompt, *said), **options)  # type: ignore[arg-type]


class Opened:
    """One text, acknowledged as its commits come."""

    def __init__(
        self,
        engine: Engine,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str = "owner",
        acknowledges: bool = True,
    ) -> None:
        self.said: list[int] = []
        self.num_hinted = 0
        self.failure: EngineError | None = None
        self.on_commit: Callable[[], None] = lambda: None
        self._engine = engine
        self.acknowledges = acknowledges
        self._changed = asyncio.Event()
        self._is_opening = True
        self.text: Text = engine.open(
            request,
            prefix,
            owner=owner,
            patience_s=0.0,
            on_commit=self._on_commit,
            on_failure=self._on_failure,
        )
        self._is_opening = False

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not is_true():
                await self._changed.wait()
                self._changed.clear()
                assert self.failure is None, self.failure

    async def finish(self) -> list[int]:
        await self.until(lambda: self.text.is_finished)
        self._engine.close(self.text)
        return self.said

    def hint(self, guesses: Sequence[int], *, behind: Sequence[int] | None = None) -> None:
        """Guesses behind this text, by default the one that was committed."""
        text = HashedText(self.text.committed() if behind is None else behind)
        self._engine.hint(self.text, len(text), text.hash_before(len(text)), tuple(guesses))

    def keep(self, tokens: Sequence[int], kept: Sequence[bool], *, may_go_on: bool) -> None:
        """Behind the text that was committed."""
        position = self.text.head
        state = HashedText(self.text.committed()).state_before(position)
        self._engine.keep(self.text, position, state, tuple(tokens), tuple(kept), may_go_on=may_go_on)

    def acknowledge(self) -> None:
        """From now on, and for what was said before."""
        self.acknowledges = True
        self._engine.acknowledge(self.text, self.text.head)

    def _on_commit(self, committed: Committed) -> None:
        assert not self._is_opening, "commits come later, and not while the text is being opened"
        assert committed.tokens
        assert 0 <= committed.num_hinted <= len(committed.tokens)
        self.said += committed.tokens
        self.num_hinted += committed.num_hinted
        if self.acknowledges:
            self._engine.acknowledge(self.text, self.text.head)
        self.on_commit()
        self._changed.set()

    def _on_failure(self, error: EngineError) -> None:
        self.failure = error
        self._changed.set()


Check = Callable[[Subject], Awaitable[None]]
NEEDS: dict[Check, Feature] = {}
"""What an engine must not lack to be held to a check."""


def needs(feature: Feature) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        NEEDS[check] = feature
        return check

    return note


async def a_text_is_decoded_to_its_limit(subject: Subject) -> None:
    request = subject.request()
    opened = subject.open(request)
    assert opened.text.prompt_length == opened.text.head == opened.text.known == len(request.prompt)
    assert not opened.text.is_finished
    expected = subject.answer(request)
    assert await opened.finish() == expected
    text, begin = opened.text, len(request.prompt)
    assert text.head == text.known == request.length_limit
    assert text.committed() == [*request.prompt, *expected]
    assert text.committed(begin + 2, 3) == expected[2:5]
    assert subject.engine.stats.num_committed >= len(expected)


async def a_stop_token_ends_a_text_and_belongs_to_it(subject: Subject) -> None:
    expected = subject.answer(subject.request())
    request = subject.request(stop_ids=frozenset({expected[5]}))
    assert await subject.open(request).finish() == expected[: expected.index(expected[5]) + 1]


@needs(Feature.SHARED_NOISE)
async def a_seed_decides_a_text(subject: Subject) -> None:
    for seed in (1, 2):
        request = subject.request(sampling=Sampling(temperature=1.0, seed=seed))
        assert await subject.open(request).finish() == subject.answer(request)


async def any_noise_gives_a_text(subject: Subject) -> None:
    request = subject.request(sampling=Sampling(temperature=1.0, seed=1), takes_any_noise=True)
    assert len(await subject.open(request).finish()) == subject.num_tokens


@needs(Feature.LOGPROBS)
async def who_wants_log_probabilities_has_them(subject: Subject) -> None:
    for wants_logprobs in (True, False):
        request = subject.request(wants_logprobs=wants_logprobs)
        opened = subject.open(request, acknowledges=False)
        await opened.until(lambda opened=opened: len(opened.said) >= 4)  # type: ignore[misc]
        begin = len(request.prompt)
        logprobs = opened.text.logprobs(begin, begin + 4)
        assert (logprobs is not None) == wants_logprobs
        assert all(logprob < 0 for logprob in logprobs or ())
        subject.engine.close(opened.text)


async def a_text_goes_on_from_what_was_said(subject: Subject) -> None:
    request = subject.request()
    expected = subject.answer(request)
    assert await subject.open(request, expected[:7]).finish() == expected[7:]
    whole = subject.open(request, expected)
    assert whole.text.is_finished
    subject.engine.close(whole.text)


async def texts_side_by_side_do_not_mix(subject: Subject) -> None:
    requests = [subject.request(index) for index in range(len(subject.prompts))]
    opened = [subject.open(request, owner=f"owner-{index}") for index, request in enumerate(requests)]
    for one, request in zip(opened, requests, strict=True):
        assert await one.finish() == subject.answer(request)


async def hints_of_any_kind_change_nothing_but_the_speed(subject: Subject) -> None:
    request = subject.request()
    expected = subject.answer(request)
    wrong = [token + 1 if token == 0 else token - 1 for token in expected]
    opened = subject.open(request)
    turn = 0

    def on_commit() -> None:
        nonlocal turn
        turn += 1
        at = len(opened.said)
        if turn % 4 == 0:
            opened.hint(wrong[at : at + 4])
        elif turn % 4 == 1:
            opened.hint([*expected[at : at + 2], *wrong[at + 2 : at + 4]])
        elif turn % 4 == 2:
            opened.hint(expected[at + 1 : at + 5], behind=[*opened.text.committed(), wrong[at - 1]])
        else:
            opened.hint([*expected[at : at + 8], *wrong])  # beyond the end, too

    opened.on_commit = on_commit
    assert await opened.finish() == expected
    assert (opened.num_hinted > 0) == subject.uses_hints


async def who_does_not_acknowledge_is_waited_for(subject: Subject) -> None:
    """What the device cannot have seen costs work; once it speaks again the text goes on."""
    begin = len(subject.prompts[0])
    request = subject.request(length_limit=begin + 2 * subject.run_ahead)
    expected = subject.answer(request)
    silent = subject.open(request, acknowledges=False)
    await silent.until(lambda: len(silent.said) >= subject.run_ahead)
    other = subject.open(subject.request(1), owner="other")
    assert await other.finish() == subject.answer(subject.request(1)), "nobody else waits"
    assert len(silent.said) < 2 * subject.run_ahead
    while not silent.text.is_finished:
        num_said = len(silent.said)
        subject.engine.acknowledge(silent.text, silent.text.head)
        await silent.until(lambda n=num_said: len(silent.said) > n)  # type: ignore[misc]
    assert await silent.finish() == expected


async def a_closed_text_says_nothing_more(subject: Subject) -> None:
    opened = subject.open(subject.request(length_limit=len(subject.prompts[0]) + 500))
    await opened.until(lambda: len(opened.said) > 2)
    subject.engine.close(opened.text)
    num_said = len(opened.said)
    subject.engine.close(opened.text)
    opened.hint(subject.answer(subject.request())[:4])
    subject.engine.acknowledge(opened.text, opened.text.head)
    other = subject.open(subject.request(1))
    await other.finish()
    assert len(opened.said) == num_said


async def what_the_device_has_is_the_text(subject: Subject) -> None:
    """A text that is resumed goes on behind all that its device was given, here or elsewhere."""
    request = subject.request()
    expected = subject.answer(request)
    opened = subject.open(request, acknowledges=False)
    await opened.until(lambda: len(opened.said) >= 2)
    subject.engine.resume(opened.text, (*request.prompt, *expected[:12]), patience_s=0.0)
    assert opened.text.head >= len(request.prompt) + 12
    opened.said = opened.text.committed(len(request.prompt))
    subject.engine.acknowledge(opened.text, opened.text.head)
    await opened.until(lambda: opened.text.is_finished)
    assert opened.text.committed(len(request.prompt)) == expected
    subject.engine.resume(opened.text, (*request.prompt, *expected), patience_s=0.0)
    assert opened.text.is_finished
    subject.engine.close(opened.text)


async def an_owner_is_held_and_others_are_not(subject: Subject) -> None:
    loop = asyncio.get_running_loop()
    held, other = subject.open(subject.request(), owner="held"), subject.open(subject.request(1))
    await held.until(lambda: len(held.said) > 0)
    until_s = loop.time() + 1.0
    subject.engine.hold("held", until_s)
    await other.finish()
    await held.until(lambda: held.text.is_finished)
    assert held.said == subject.answer(subject.request())
    assert loop.time() >= until_s
    subject.engine.close(held.text)


@needs(Feature.KEEP)
async def what_is_kept_is_text_and_gets_a_verdict(subject: Subject) -> None:
    """Behind a guess that is confirmed; and without the pen nothing is added behind it."""
    request = subject.request()
    expected = subject.answer(request)
    other = expected[1] - 1 if expected[1] else 1
    opened = subject.open(request, acknowledges=False)
    begin = len(request.prompt)
    opened.keep([expected[0], other], [False, True], may_go_on=False)
    await opened.until(lambda: len(opened.said) >= 2)
    await subject.open(subject.request(1), owner="other").finish()
    assert opened.said == [expected[0], other]
    assert opened.text.verdict(begin, begin + 2) == (True, False)
    assert opened.text.verdict(begin, begin + 1) is None
    opened.acknowledge()
    opened.keep([other], [True], may_go_on=True)
    await opened.until(lambda: opened.text.is_finished)
    assert opened.said[:3] == [expected[0], other, other]
    subject.engine.close(opened.text)


@needs(Feature.KEEP)
async def what_stands_behind_a_wrong_guess_is_dead(subject: Subject) -> None:
    request = subject.request()
    expected = subject.answer(request)
    opened = subject.open(request)
    wrong = expected[0] - 1 if expected[0] else 1
    opened.keep([wrong, wrong, wrong], [False, True, True], may_go_on=True)
    assert await opened.finish() == expected


@needs(Feature.KEEP)
async def the_app_has_the_last_word(subject: Subject) -> None:
    request = subject.request()
    expected = subject.answer(request)
    opened = subject.open(request)
    await opened.until(lambda: opened.text.is_finished)
    begin = len(request.prompt)
    state = HashedText([*request.prompt, *expected[:3]]).state_before(begin + 3)
    assert not subject.engine.overrule(opened.text, begin + 3, state ^ 1)
    assert not subject.engine.overrule(opened.text, begin + 500, state)
    assert subject.engine.overrule(opened.text, begin + 3, state)
    assert opened.text.committed(begin) == expected[:3]
    assert not opened.text.is_finished
    other = expected[3] - 1 if expected[3] else 1
    opened.acknowledges = False
    opened.keep([other], [True], may_go_on=False)
    await opened.until(lambda: opened.text.head > begin + 3)
    assert opened.text.committed(begin) == [*expected[:3], other]
    assert opened.text.verdict(begin, begin + 4) == (True, True, True, False)
    subject.engine.close(opened.text)


async def what_a_token_takes_is_known_once_one_was_decoded(subject: Subject) -> None:
    await subject.open(subject.request(length_limit=len(subject.prompts[0]) + 100)).finish()
    assert subject.engine.pass_s > 0


async def an_engine_that_has_ended_says_so(subject: Subject) -> None:
    await subject.open(subject.request()).finish()
    assert subject.engine.is_alive
    subject.running.cancel()
    await asyncio.gather(subject.running, return_exceptions=True)
    assert not subject.engine.is_alive


CHECKS: tuple[Check, ...] = (
    a_text_is_decoded_to_its_limit,
    a_stop_token_ends_a_text_and_belongs_to_it,
    a_seed_decides_a_text,
    any_noise_gives_a_text,
    who_wants_log_probabilities_has_them,
    a_text_goes_on_from_what_was_said,
    texts_side_by_side_do_not_mix,
    hints_of_any_kind_change_nothing_but_the_speed,
    who_does_not_acknowledge_is_waited_for,
    a_closed_text_says_nothing_more,
    what_the_device_has_is_the_text,
    an_owner_is_held_and_others_are_not,
    what_is_kept_is_text_and_gets_a_verdict,
    what_stands_behind_a_wrong_guess_is_dead,
    the_app_has_the_last_word,
    what_a_token_takes_is_known_once_one_was_decoded,
    an_engine_that_has_ended_says_so,
)


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[asyncio.Task[None]]:
    """The engine runs as long as the block."""
    task = asyncio.create_task(engine.run(), name="engine-under-test")
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
