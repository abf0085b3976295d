"""An answer whose way is chosen before its first token (`router.py`), and which then is another stream."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

from ..errors import CascadeError, ContextExceeded, SettingsError
from ..events import Summary
from ..measure import Knowledge
from ..models.base import LanguageModel
from ..models.runner import Runner
from ..prices import Prices, Usage
from .answer_text import AnswerText
from .answering import AnswerStream
from .drafter import Drafter, DraftMemory
from .effort import with_effort
from .ledger import Book
from .outbox import StreamRequest
from .router import Outcome, Question, Route, Router
from .stream import Stream

__all__ = ["Prober", "RoutedStream"]

log = logging.getLogger(__name__)

NUM_PROBED = 4
"""Guesses that the draft makes before the way is chosen, where its word on the text decides."""
COVER_S = 1.0
"""How long the ledger's file may take to make room."""
COVER_EVERY_S = 0.01


class Prober:
    """Asks the draft how sure it is of a text's beginning."""

    def __init__(self, model: LanguageModel, runner: Runner, memory: DraftMemory) -> None:
        self._model = model
        self._runner = runner
        self._memory = memory

    async def chances(self, request: StreamRequest, known: Knowledge) -> list[float]:
        """Of agreement, for its first guesses; none from a draft that says nothing. What it has read of the
        prompt stays in the memory."""
        loop = asyncio.get_running_loop()
        drafter = Drafter(self._model, request.sampling, self._memory)
        text, chances = list(request.prompt), list[float]()
        try:
            for place in range(min(NUM_PROBED, request.max_new_tokens)):
                work, num_rows = drafter.step(text)
                started_s = loop.time()
                done = await self._runner.run(with_effort(work, loop.time), rows=num_rows)
                guess = done.result
                if num_rows == 1:
                    known.draft_step_s.add(loop.time() - started_s)
                    known.load.add(done.waited_s, done.seconds)
                if guess.confidence.promise is None and guess.confidence.probability is None:
                    break
                chances.append(known.calibration.chance(guess.confidence, place))
                text = [*text, guess.token]
                if guess.token in request.stop_ids:
                    break
        except ContextExceeded:
            pass
        finally:
            drafter.release()
        return chances


class RoutedStream(AnswerStream):
    """Chooses, and hands on what comes."""

    def __init__(
        self,
        request: StreamRequest,
        text: AnswerText,
        *,
        quality: float,
        ways: Sequence[Route],
        router: Router,
        knowledge: Knowledge,
        book: Book,
        is_edge_there: Callable[[], bool],
        take: Callable[[Route], AnswerStream],
        prober: Prober | None,
        memory: DraftMemory | None,
        can_revise: bool,
    ) -> None:
        """`take` begins the answer by a way; `memory` is closed when the answer is over."""
        super().__init__(request, text, is_plain=False)
        self.can_revise = can_revise
        self._ways = list(ways)
        self._quality = quality
        self._router = router
        self._known = knowledge
        self._book = book
        self._is_edge_there = is_edge_there
        self._take = take
        self._prober = prober
        self._memory = memory
        self._prices = request.policy.prices or Prices()
        self._way: Route | None = None
        self._inner: AnswerStream | None = None
        self._started_s = self._chosen_s = self._loop.time()
        self._task = asyncio.create_task(self._run(), name="router")

    # What an app sees

    @property
    def tokens(self) -> list[int]:
        return [] if self._inner is None else self._inner.tokens

    @property
    def text(self) -> str:
        return "" if self._inner is None else self._inner.text

    @property
    def num_ahead(self) -> int:
        return 0 if self._inner is None else self._inner.num_ahead

    def cancel(self) -> None:
        if self._inner is not None:
            self._inner.cancel()
        super().cancel()

    async def join(self) -> None:
        await super().join()
        if self._inner is not None:
            await self._inner.join()

    def _answer_tokens(self) -> list[int]:
        return self.tokens

    def _summarise(self) -> Summary:
        if self._inner is None or self._way is None:
            return self._tally.summary(None)
        summary = self._inner.summary
        first_s = summary.time_to_first_token_s + (self._chosen_s - self._started_s)
        reason = summary.finish_reason or self._tally.finish_reason
        return dataclasses.replace(
            summary, route=self._way.value, time_to_first_token_s=first_s, finish_reason=reason
        )

    # How it goes

    async def _run(self) -> None:
        try:
            question, said = await self._ask()
            way = await self._choose(question)
            if self.is_ended:  # cancelled meanwhile
                if way is Route.DEVICE:
                    self._book.release(self.request.max_new_tokens)
                return
            self._way, self._chosen_s = way, self._loop.time()
            self._inner = self._take(way)
            async for event in self._inner.events():
                self._tell(event)
            self._learn(way, question, said, self._inner)
            if not self.is_ended:
                self._end()
        except CascadeError as error:
            self.fail(error)
        except Exception as error:
            log.warning("an answer could not take its way: %r", error, exc_info=error)
            self.fail(CascadeError(f"an answer could not take its way: {error!r}"))
        finally:
            if self._inner is not None:
                self._inner.cancel()
                await self._inner.join()
            if self._memory is not None:
                self._memory.close()

    async def _ask(self) -> tuple[Question, float | None]:
        """What is asked; and what the draft says of its first guesses, where it was asked."""
        question = Question(
            num_prompt_tokens=len(self.request.prompt),
            num_tokens=self.request.max_new_tokens,
            quality=self._quality,
            agreement=self._router.expected_agreement(None),
            balance=self._book.balance,
            is_edge_there=self._is_edge_there(),
        )
        if self._prober is None or not self._router.is_unsure(question, self._possible(), self._prices):
            return question, None
        chances = await self._prober.chances(self.request, self._known)
        if not chances:
            return question, None
        said = sum(chances) / len(chances)
        return dataclasses.replace(question, agreement=self._router.expected_agreement(said)), said

    def _possible(self) -> list[Route]:
        """The draft alone only where the ledger has room for the whole answer."""
        has_room = self._book.balance >= self.request.max_new_tokens
        return [way for way in self._ways if way is not Route.DEVICE or has_room]

    async def _choose(self, question: Question) -> Route:
        ways = self._possible()
        self._router.note(question, self._ways, self._prices)
        while ways:
            way = self._router.choose(question, ways, self._prices)
            if way is not Route.DEVICE or await self._secure():
                return way
            ways.remove(way)
        raise SettingsError(
            "route",
            f"the ledger has no room for {self.request.max_new_tokens} tokens that nobody audits; "
            "ask for fewer, for less quality, or for another route",
        )

    async def _secure(self) -> bool:
        """Room in the books for the whole answer, on file too."""
        if not self._book.reserve(self.request.max_new_tokens):
            return False
        until_s = self._loop.time() + COVER_S
        while not self._book.is_covered:
            if self._loop.time() >= until_s:
                self._book.release(self.request.max_new_tokens)
                return False
            await asyncio.sleep(COVER_EVERY_S)
        return True

    def _learn(self, way: Route, question: Question, said: float | None, inner: AnswerStream) -> None:
        summary = inner.summary
        if summary.finish_reason not in ("stop", "length"):
            return
        pass_s = summary.edge_pass_s or self._known.passes.mean_s or 0.0
        took = Usage(
            waiting_s=summary.time_to_first_token_s + (summary.num_tokens - 1) * summary.time_per_token_s,
            edge_s=summary.num_passes * pass_s,
            num_passes=summary.num_passes,
            num_rows=summary.num_passes + summary.num_hinted,
            bytes_up=summary.bytes_up,
            bytes_down=summary.bytes_down,
            draft_s=summary.num_drafted * (summary.draft_step_s or 0.0),
            num_drafted=summary.num_drafted,
            num_disputed=summary.num_disputed,
        )
        outcome = Outcome(
            took=took,
            first_s=summary.time_to_first_token_s,
            num_tokens=summary.num_tokens,
            agreement=_agreement(inner, summary),
            said=said,
        )
        self._router.learn(way, question, self._prices, outcome)


def _agreement(inner: AnswerStream, summary: Summary) -> float | None:
    """How often the target picks what the draft does. To its stream a token that was kept agrees, whatever
    the verdict on it."""
    chance = inner.agreement if isinstance(inner, Stream) else None
    return None if chance is None else chance - summary.num_disputed / max(1, summary.num_tokens)
