"""The batch engine: schedule, run, postprocess, for ever.

Everything but the pass itself runs on the event loop; the pass runs where the runner says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..decoding import pick_rows
from ..errors import CascadeError, EngineError
from ..models.base import LanguageModel
from ..models.runner import Runner
from .decode import Decode, PlannedStep
from .interface import Committed, DecodeRequest, EngineStats, Served, Text
from .pacing import NEVER_S, due_at_s
from .prefill import share_rows
from .settings import EdgeSettings

__all__ = ["BatchEngine"]

log = logging.getLogger(__name__)


class BatchEngine:
    """Decodes many texts with one model, in batches."""

    def __init__(self, model: LanguageModel, runner: Runner, settings: EdgeSettings | None = None) -> None:
        self.model = model
        self.settings = settings or EdgeSettings()
        self.served = Served(
            vocab_size=model.vocab_size,
            vocab_fingerprint=model.vocab_fingerprint,
            context_length=model.context_length,
            numerics=model.numerics,
        )
        self.stats = EngineStats()
        self.is_alive = True
        self.pass_s = 0.0
        """How long the last pass took in which nobody was prefilled; 0 before there was one."""
        self._runner = runner
        self._decodes: dict[Decode, None] = {}  # in the order of opening
        self._released: list[Decode] = []
        self._changed = asyncio.Event()

    def open(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        patience_s: float,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> Text:
        """Decode on from `prefix`, which begins with the request's prompt."""
        decode = Decode(
            request,
            prefix,
            patience_s=min(patience_s, self.settings.max_patience_s),
            max_buffered_hints=self.settings.max_buffered_hints,
            now_s=self._now_s(),
            on_commit=on_commit,
            on_failure=on_failure,
        )
        self._decodes[decode] = None
        self._changed.set()
        return decode

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        """The device opened the same text again, with all that it has of it."""
        patience_s = min(patience_s, self.settings.max_patience_s)
        _ours(text).resume(prefix, patience_s=patience_s, now_s=self._now_s())
        self._changed.set()

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        _ours(text).hints.offer(position, prefix_hash, tokens)
        self._changed.set()

    def acknowledge(self, text: Text, known: int) -> None:
        """The device has everything before `known`."""
        decode = _ours(text)
        if decode.known < known <= decode.head:
            decode.known = known
            self._changed.set()

    def close(self, text: Text) -> None:
        """Stop decoding; the cache is given back as soon as no pass uses it."""
        decode = _ours(text)
        if decode in self._decodes:
            del self._decodes[decode]
            decode.is_closed = True
            self._released.append(decode)
            self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                steps = await self._schedule()
                picks = await self._run(steps)
                self._postprocess(steps, picks)
        finally:
            self.is_alive = False
            self._runner.close()

    async def _schedule(self) -> list[PlannedStep]:
        """Wait until a text is due, then plan the pass."""
        run_ahead = self.settings.run_ahead
        while True:
            for decode in self._released:
                decode.release()
            self._released.clear()
            self._changed.clear()
            now_s = self._now_s()
            wake_at_s = NEVER_S
            due = []
            for decode in self._decodes:
                due_s = due_at_s(decode, run_ahead=run_ahead)
                if due_s <= now_s:
                    due.append(decode)
                elif due_s < wake_at_s:
                    wake_at_s = due_s
            steps = self._plan(due)
            if steps:
                return steps
            if not due:
                await self._wait_until(wake_at_s)

    def _plan(self, due: list[Decode]) -> list[PlannedStep]:
        """What each text that is due takes part with; those that would get nothing wait for the next pass."""
        lacking = [decode for decode in due if decode.num_prefill]
        lacking.sort(key=lambda decode: decode.prefilled_s)
        shares = share_rows([decode.num_prefill for decode in lacking], self.settings.prefill_chunk_rows)
        max_prefill = dict(zip(lacking, shares, strict=True))
        steps = [self._plan_one(decode, max_prefill.get(decode, 0)) for decode in due]
        return [step for step in steps if step is not None and step.fed]

    def _plan_one(self, decode: Decode, max_prefill: int) -> PlannedStep | None:
        try:
            return decode.plan(
                self.model.new_sequence, max_hints=self.settings.max_fed_hints, max_prefill=max_prefill
            )
        except Exception as error:
            self._fail([decode], error)
            return None

    async def _run(self, steps: list[PlannedStep]) -> list[int] | None:
        """One ragged pass, and our own pick at every position; None when the pass failed."""
        for step in steps:
            step.decode.is_running = True
        num_rows = sum(len(step.fed) for step in steps)
        num_prefilled = sum(step.num_prefill for step in steps)
        self.stats.num_passes += 1
        self.stats.num_rows += num_rows
        self.stats.num_prefilled += num_prefilled
        started_s = self._now_s()
        try:
            picks = await self._runner.run(lambda: self._pass(steps), rows=num_rows)
            if num_prefilled <= self.settings.max_fed_hints:
                self.pass_s = self._now_s() - started_s
            return picks
        except Exception as error:
            self._fail([step.decode for step in steps], error)
            return None
        finally:
            for step in steps:
                step.decode.is_running = False

    def _pass(self, steps: list[PlannedStep]) -> list[int]:
        logits = self.model.forward([step.feed() for step in steps])
        samplings = []
        positions: list[int] = []
        for step in steps:
            samplings += [step.decode.request.sampling] * step.num_picks
            positions += range(step.position, step.position + step.num_picks)
        picks: list[int] = pick_rows(logits, samplings, positions).tolist()
        return picks

    def _postprocess(self, steps: list[PlannedStep], picks: list[int] | None) -> None:
        """Compare hints with picks, commit, tell."""
        if picks is None:
            return
        now_s = self._now_s()
        row = 0
        for step in steps:
            rows = picks[row : row + step.num_picks]
            row += step.num_picks
            if step.decode.is_closed:
                continue
            try:
                committed = step.decode.finish(step, rows, now_s)
            except Exception as error:
                self._fail([step.decode], error)
                continue
            if committed is not None:
                self.stats.num_committed += len(committed.tokens)
                self.stats.num_hinted += committed.num_hinted
                step.decode.on_commit(committed)
            if step.decode.is_finished:
                self._released.append(step.decode)

    def _fail(self, decodes: list[Decode], error: Exception) -> None:
        """A failed step ends the texts that were in it, and only these."""
        log.error("a step of %d texts failed: %r", len(decodes), error, exc_info=error)
        reason = str(error) if isinstance(error, CascadeError) else "a step of the engine failed"
        failure = error if isinstance(error, EngineError) else EngineError(reason)
        for decode in decodes:
            if not decode.is_closed:
                self.stats.num_failed += 1
                self.close(decode)
                decode.on_failure(failure)

    async def _wait_until(self, wake_at_s: float) -> None:
        """Until something changed, or a text is due."""
        if wake_at_s == NEVER_S:
            await self._changed.wait()
            return
        timer = asyncio.get_running_loop().call_at(wake_at_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _ours(text: Text) -> Decode:
    assert isinstance(text, Decode), "a text of another engine"
    return text
