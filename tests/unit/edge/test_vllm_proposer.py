"""Hints on their way into vLLM's process: the real socket and the real proposer, without vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import numpy as np

from cascade.edge.vllm.bridge import MAX_WAITING_BYTES, Frame, ServerEnd, StepReport
from cascade.edge.vllm.proposer import MAX_EARLY, MAX_TEXTS, CascadeWorker, Proposer, request_id
from cascade.wire.text import HashedText

MAX_HINTS = 4
MAX_LENGTH = 32
TEXT = (5, 6, 7, 8)


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():  # noqa: ASYNC110 -- of what is looked at nothing says that it has changed
            await asyncio.sleep(0.001)


def make_proposer() -> Proposer:
    return Proposer(
        SimpleNamespace(
            speculative_config=SimpleNamespace(num_speculative_tokens=MAX_HINTS),
            model_config=SimpleNamespace(max_model_len=MAX_LENGTH),
        )
    )


class Batch:
    """A proposer in its place, as vLLM's worker has it; rows are (text, life, tokens)."""

    def __init__(self, server: ServerEnd, reports: list[StepReport]) -> None:
        self.server = server
        self.reports = reports
        self.proposer = make_proposer()
        self._names: list[str] = []

    async def bind(self, path: str) -> None:
        runner = SimpleNamespace(drafter=self.proposer, input_batch=_Names(self))
        worker = CascadeWorker()
        worker.model_runner = runner
        assert await asyncio.to_thread(worker.cascade_bind, path)

    async def step(
        self,
        *rows: tuple[int, int, Sequence[int]],
        num_sampled: Sequence[int] | None = None,
        is_all_there: bool = True,
    ) -> list[list[int]]:
        """Behind a step that decided one token for each row, unless said otherwise."""
        if is_all_there:
            await until(lambda: self.server.num_waiting_bytes == 0)
        counts = [1] * len(rows) if num_sampled is None else num_sampled
        self._names = [f"{request_id(text, life, 0)}-1a2b3c4d" for text, life, _ in rows]
        tokens = np.zeros((len(rows) + 1, MAX_LENGTH), dtype=np.int32)
        for row, (_, _, said) in enumerate(rows):
            tokens[row, : len(said)] = said
        lengths = np.array([len(said) for _, _, said in rows])
        sampled = [[0] * count for count in counts]
        return await asyncio.to_thread(self.proposer.propose, sampled, lengths, tokens, slot_mappings=None)

    def hint(self, text: int, behind: Sequence[int], guesses: Sequence[int]) -> None:
        prefix_hash = HashedText(behind).hash_before(len(behind))
        assert self.server.send(Frame.HINT, text, len(behind), prefix_hash, tuple(guesses))


class _Names:
    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @property
    def req_ids(self) -> list[str]:
        return self._batch._names


@asynccontextmanager
async def a_batch() -> AsyncIterator[Batch]:
    reports: list[StepReport] = []
    server = ServerEnd(reports.append)
    batch = Batch(server, reports)
    await batch.bind(await server.open())
    await until(lambda: server.num_readers == 1)
    try:
        yield batch
    finally:
        await server.close()
        batch.proposer.close()


async def test_a_hint_is_proposed_and_its_rest_after_it_was_confirmed() -> None:
    async with a_batch() as batch:
        assert await batch.step((0, 1, TEXT)) == [[]]
        batch.hint(0, TEXT, (1, 2, 3, 4, 5, 6))
        assert await batch.step((0, 1, TEXT)) == [[1, 2, 3, 4]], "as many as it may"
        assert await batch.step((0, 1, (*TEXT, 1, 2, 3)), num_sampled=[3]) == [[4, 5, 6]]
        assert await batch.step((0, 1, (*TEXT, 1, 2, 3, 9))) == [[]], "the target said something else"
        await until(lambda: len(batch.reports) == 4)
        assert batch.reports == [(1, 0, 1), (1, 0, 1), (1, 4, 3), (1, 3, 1)]


async def test_only_what_follows_this_very_text_is_proposed() -> None:
    async with a_batch() as batch:
        batch.hint(0, (5, 6, 7, 9), (1, 2))  # another text of the same length
        batch.hint(1, TEXT, (3, 4))  # another session with the same text
        assert await batch.step((0, 1, TEXT), (1, 1, TEXT), (2, 1, TEXT)) == [[], [3, 4], []]


async def test_late_hints_are_compared_with_what_was_said() -> None:
    async with a_batch() as batch:
        said = (*TEXT, 1, 2)
        await batch.step((0, 1, said))
        batch.hint(0, TEXT, (1, 9, 9, 9))
        assert await batch.step((0, 1, said)) == [[]], "it was wrong"
        batch.hint(0, TEXT, (1, 2, 3, 4))
        assert await batch.step((0, 1, said)) == [[3, 4]], "it was right, and is not yet used up"


async def test_hints_may_overtake_each_other_and_the_first_token() -> None:
    async with a_batch() as batch:
        batch.hint(0, (*TEXT, 1, 2), (3,))
        batch.hint(0, TEXT, (1, 2))
        assert await batch.step((0, 1, TEXT)) == [[1, 2, 3]]
        for guess in range(MAX_EARLY + 5):
            batch.hint(1, TEXT, (guess,))
        assert await batch.step((1, 1, TEXT)) == [[MAX_EARLY + 4]], "the newest"


async def test_a_row_without_a_token_gets_no_draft_and_the_context_is_kept() -> None:
    async with a_batch() as batch:
        long = tuple(range(1, MAX_LENGTH - 2))
        batch.hint(0, long, (1, 2, 3, 4))
        assert await batch.step((0, 1, long), (1, 1, TEXT), num_sampled=[1, 0]) == [[1, 2], []]


async def test_a_text_that_is_taken_up_again_begins_anew() -> None:
    async with a_batch() as batch:
        batch.hint(0, TEXT, (1, 2, 3))
        assert await batch.step((0, 1, TEXT)) == [[1, 2, 3]]
        other = (5, 6, 1)
        assert await batch.step((0, 2, other)) == [[]]
        batch.hint(0, other, (4,))
        assert await batch.step((0, 2, other)) == [[4]]


async def test_texts_that_are_over_are_forgotten_and_those_that_nobody_closes_too() -> None:
    async with a_batch() as batch:
        for text in range(MAX_TEXTS + 10):
            batch.hint(text, TEXT, (1,))
            if text % 64 == 0:
                await batch.step()  # it reads between steps
        assert batch.server.send(Frame.OVER, MAX_TEXTS)
        drafts = await batch.step((0, 1, TEXT), (MAX_TEXTS, 1, TEXT), (MAX_TEXTS + 9, 1, TEXT))
        assert drafts == [[], [], [1]]


async def test_a_proposer_that_does_not_read_costs_hints_and_no_memory() -> None:
    async with a_batch() as batch:
        tokens = tuple(range(4096))
        num_sent = 0
        while batch.server.send(Frame.HINT, 0, 4, 0, tokens):
            num_sent += 1
            assert num_sent * 4096 < 4 * MAX_WAITING_BYTES, "it has no bound"
        assert batch.server.num_dropped == 1
        for _ in range(20):
            await batch.step((0, 1, TEXT), is_all_there=False)
        batch.hint(0, TEXT, (1,))
        assert await batch.step((0, 1, TEXT)) == [[1]], "it reads again"


async def test_without_a_server_it_proposes_nothing_and_goes_on() -> None:
    plain = make_proposer()
    assert plain.propose([[1], []], np.array([4, 4]), np.zeros((2, 8))) == [[], []]
    async with a_batch() as batch:
        batch.hint(0, TEXT, (1, 2))
        await batch.server.close()
        assert await batch.step((0, 1, TEXT)) == [[1, 2]], "it came before the end"
        assert await batch.step((0, 1, (*TEXT, 1))) == [[2]]
        assert not batch.server.send(Frame.HINT, 0, 4, 0, (1,)), "nobody is there"


async def test_the_newest_server_is_heard() -> None:
    """An engine that is made anew over a vLLM that runs on."""
    async with a_batch() as batch:
        first = batch.server
        batch.hint(0, TEXT, (1, 2))
        other = ServerEnd(batch.reports.append)
        await batch.bind(await other.open())
        await until(lambda: other.num_readers == 1)
        batch.server = other
        assert await batch.step((0, 1, TEXT)) == [[]]
        batch.hint(0, TEXT, (3,))
        assert await batch.step((0, 1, TEXT)) == [[3]]
        await first.close()
        await other.close()
