"""The drafter at work: when its steps begin, and which of them count."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from cascade.decoding import Sampling
from cascade.device.drafter import Drafter, DraftMemory, Guess
from cascade.device.drafting import Drafting
from cascade.device.guesses import Guesses
from cascade.device.tally import Tally
from cascade.errors import ContextExceeded
from cascade.measure import Knowledge
from cascade.models.base import Feed
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import SyntheticTarget

from ...helpers import in_virtual_time

STEP_S = 0.5


class Failing(SyntheticTarget):
    """At the step that is said."""

    def __init__(self, failing_step: int, error: Exception) -> None:
        super().__init__()
        self._num_left = failing_step
        self._error = error

    def forward(self, feeds: Sequence[Feed]) -> Any:
        self._num_left -= 1
        if not self._num_left:
            raise self._error
        return super().forward(feeds)


class Desk:
    """A drafter at work, and what came of it."""

    def __init__(self, model: SyntheticTarget | None = None, num_wished: int = 0) -> None:
        self.guesses = Guesses([5, 6, 7])
        self.known = Knowledge()
        self.tally = Tally(0.0, is_plain=False)
        self.taken_s: list[float] = []
        self.num_failures = 0
        self.num_wished = num_wished
        self.drafting = Drafting(
            Drafter(model or SyntheticTarget(), Sampling()),
            PacedRunner(constant_cost(STEP_S)),
            self.guesses,
            knowledge=self.known,
            tally=self.tally,
            on_guess=self._take,
            on_failure=self._fail,
        )

    def _take(self, guess: Guess, now_s: float) -> None:
        self.guesses.add(guess.token)
        self.taken_s.append(now_s)
        self.drafting.wish(now_s if len(self.taken_s) < self.num_wished else None)

    def _fail(self) -> None:
        self.num_failures += 1


@contextlib.asynccontextmanager
async def at_work(desk: Desk) -> AsyncIterator[None]:
    task = asyncio.create_task(desk.drafting.run())
    try:
        yield
    finally:
        desk.drafting.end()
        await task


@in_virtual_time
async def test_a_step_begins_when_it_was_wished_for_last() -> None:
    desk = Desk()
    async with at_work(desk):
        await asyncio.sleep(10)
        assert desk.taken_s == [], "nobody asked"
        desk.drafting.wish(11)
        desk.drafting.wish(13)
        await asyncio.sleep(5)
        assert desk.taken_s == [13 + STEP_S]
        desk.drafting.wish(16)
        desk.drafting.wish(None)
        await asyncio.sleep(5)
        assert len(desk.taken_s) == 1, "it was taken back"
        desk.drafting.wish(3)
        await asyncio.sleep(5)
        assert desk.taken_s[1:] == [20 + STEP_S], "at once"


@in_virtual_time
async def test_a_guess_behind_a_text_that_is_no_more_is_dropped() -> None:
    desk = Desk()
    async with at_work(desk):
        desk.drafting.wish(1.0)
        await asyncio.sleep(1.1)
        desk.guesses.commit((9,))
        desk.drafting.roll_back(3)
        await asyncio.sleep(5)
        assert desk.taken_s[:1] == [2.0], "the wish stands, so the next step is for the new text"
        assert desk.guesses.tokens[:4] == [5, 6, 7, 9]
        assert desk.tally.num_drafted == 2
    desk = Desk(num_wished=2)
    async with at_work(desk):
        desk.drafting.wish(0.0)
        await asyncio.sleep(3)
        assert len(desk.taken_s) == 2


@in_virtual_time
async def test_nothing_comes_of_a_step_that_outlives_its_stream() -> None:
    """In cascade mode a guess may take a place in the ledger that nobody would give back."""
    desk = Desk()
    async with at_work(desk):
        desk.drafting.wish(0.0)
        await asyncio.sleep(STEP_S / 2)
    assert asyncio.get_running_loop().time() == STEP_S, "the step is waited for"
    assert desk.taken_s == []
    assert desk.guesses.tokens == [5, 6, 7]
    assert desk.tally.num_drafted == 1
    assert desk.known.draft_step_s.value == STEP_S


@pytest.mark.parametrize("error", [ContextExceeded(9, 8), RuntimeError("out of memory")])
@in_virtual_time
async def test_a_draft_that_fails_is_done_with(error: Exception) -> None:
    desk = Desk(Failing(3, error), num_wished=100)
    async with at_work(desk):
        desk.drafting.wish(0.0)
        await asyncio.sleep(10)
        assert (len(desk.taken_s), desk.num_failures) == (2, 1)
        desk.drafting.wish(10.0)
        await asyncio.sleep(10)
    assert (len(desk.taken_s), desk.num_failures) == (2, 1)


# The cache between turns


def test_the_last_token_is_fed_even_if_the_cache_has_it() -> None:
    """Its logits are wanted."""
    model, memory = SyntheticTarget(), DraftMemory()
    guesses = []
    for num_rows in (3, 1):
        drafter = Drafter(model, Sampling(), memory)
        work, rows = drafter.step([5, 6, 7])
        assert rows == num_rows
        guesses.append(work().token)
        drafter.release()
    assert guesses[0] == guesses[1]


def test_a_step_that_failed_leaves_nothing_to_the_next_turn() -> None:
    memory = DraftMemory()
    drafter = Drafter(Failing(1, RuntimeError("out of memory")), Sampling(), memory)
    work, _ = drafter.step([5, 6, 7])
    with pytest.raises(RuntimeError):
        work()
    drafter.release()
    assert memory.take([5, 6, 7]) == (None, 0)
