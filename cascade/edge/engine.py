"""The batch engine: schedule, run, postprocess, for ever.

Everything but the pass itself runs on the event loop; the pass runs where the runner says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ..decoding import log_probability, pick_rows
from ..errors import CascadeError, EngineError, RunnerStopped
from ..models.base import LanguageModel
from ..models.runner import Runner
from .decode import Decode, PlannedStep
from .interface import Committed, DecodeRequest, EngineStats, Served, Text
from .memory import KVMemory, TextCache
from .pacer import Pacer, Part
from .pacing import NEVER_S
from .settings import EdgeSettings

__all__ = ["BatchEngine"]

log = logging.getLogger(__name__)


class _Picks(NamedTuple):
    """Our own tokens for one text in one pass."""

    tokens: list[int]
    logprobs: list[float]
    """Empty where nobody wants them."""


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
        self._memory = KVMemory(
            model.new_sequence,
            self.stats,
            budget_bytes=self.settings.kv_bytes,
            keep_s=self.settings.keep_kv_s,
            public_prefixes=self.settings.public_prefixes,
        )
        self.pass_s = 0.0
        """How long the last pass took in which nobody was prefilled; 0 before there was one."""
        self.pacer = Pacer(self.settings)
        self._runner = runner
        self._decodes: dict[Decode, None] = {}  # in the order of opening
        self._over: list[TextCache] = []
        """Caches of texts that are over, until no pass uses them."""
        self._changed = asyncio.Event()

    @property
    def kv_bytes(self) -> int:
        return self._memory.num_bytes

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
            owner=owner,
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
        _ours(text).offer(position, prefix_hash, tokens, self._now_s())
        self._changed.set()

    def keep(
        self,
        text: Text,
        position: int,
        prefix_hash: int,
        tokens: tuple[int, ...],
        kept: tuple[bool, ...],
        *,
        may_go_on: bool,
        alpha: float = 0.0,
    ) -> None:
        decode = _ours(text)
        decode.has_pen = may_go_on
        decode.offer(position, prefix_hash, tokens, self._now_s(), kept, alpha)
        self._changed.set()

    def overrule(self, text: Text, position: int, prefix_hash: int) -> bool:
        """Give up the text from `position` on; False if what stands before it is not the device's."""
        self._changed.set()
        return _ours(text).overrule(position, prefix_hash, self._now_s())

    def wish_patience(self, text: Text, patience_s: float) -> None:
        """The device wants the edge to wait for hints so long from now on."""
        _ours(text).patience_s = min(patience_s, self.settings.max_patience_s)
        self._changed.set()

    def hold(self, owner: str, until_s: float) -> None:
        """Decode none of this owner's texts before that time: it had all that its rate allows."""
        self.pacer.hold(owner, until_s)

    def acknowledge(self, text: Text, known: int) -> None:
        """The device has everything before `known`."""
        if _ours(text).acknowledge(known):
            self._changed.set()

    def close(self, text: Text) -> None:
        """Stop decoding. What the cache holds stays for a while: the chat may go on."""
        decode = _ours(text)
        if decode in self._decodes:
            del self._decodes[decode]
            decode.is_closed = True
            self._over.append(decode.part_with_cache())
            self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled, or until the runner is gone."""
        try:
            while True:
                steps = await self._schedule()
                try:
                    picks = await self._run(steps)
                except RunnerStopped:
                    raise
                except Exception as error:
                    await self._try_alone(steps, error)
                else:
                    self._postprocess(steps, picks)
        finally:
            self.is_alive = False
            self._runner.close()

    async def _schedule(self) -> list[PlannedStep]:
        """Wait until a text is due, then plan the pass."""
        may_hold = self.stats.num_passes > 0  # passes are scarce while one follows the other
        while True:
            self._changed.clear()
            now_s = self._now_s()
            wake_at_s = self._tidy(now_s)
            parts, begin_at_s = self._choose(self._decodes, now_s, may_hold=may_hold)
            may_hold = False
            if parts and begin_at_s > now_s:
                await asyncio.sleep(begin_at_s - now_s)
                continue
            steps = self._plan(parts)
            if steps:
                return steps
            if not parts:
                await self._wait_until(min(begin_at_s, wake_at_s, self.pacer.held_until_s))

    def _tidy(self, now_s: float) -> float:
        """What no pass uses any more is kept for the next turn, or given back; says when to look again."""
        for cache in self._over:
            self._memory.keep(cache, now_s)
        self._over.clear()
        return self._memory.expire(now_s)

    def _choose(
        self, decodes: Iterable[Decode], now_s: float, *, may_hold: bool
    ) -> tuple[dict[Decode, Part], float]:
        """Which of these texts take part in the next pass, with what, and when it should begin."""
        due, waiting = self.pacer.sort(decodes, now_s)
        parts, begin_at_s = self.pacer.choose(self._admit(due, now_s), waiting, now_s, may_hold=may_hold)
        if not parts.keys().isdisjoint(waiting):  # some wait in vain, and nobody asked yet whether they fit
            parts = {decode: parts[decode] for decode in self._admit(list(parts), now_s)}
        return parts, begin_at_s

    @staticmethod
    def _plan(parts: Mapping[Decode, Part]) -> list[PlannedStep]:
        """What is fed to each text that takes part."""
        steps = [
            decode.plan(max_hints=part.num_hints, max_prefill=part.num_prefilled)
            for decode, part in parts.items()
        ]
        return [step for step in steps if step.fed]

    def _admit(self, due: list[Decode], now_s: float) -> list[Decode]:
        """Those for which there is memory, the text that was opened first before others."""
        room = self._memory.room_for([decode.cache for decode in due], now_s)
        admitted = []
        for decode in due:
            try:
                if room.take(decode.cache, decode.head, decode.num_hints(self.settings.max_fed_hints)):
                    admitted.append(decode)
            except Exception as error:
                self._fail(decode, error)
        return admitted

    async def _run(self, steps: list[PlannedStep]) -> list[_Picks]:
        """One ragged pass, and our own pick at every position wanted."""
        stats = self.stats
        num_rows = sum(len(step.fed) for step in steps)
        num_prefilled = sum(step.num_prefill for step in steps)
        stats.num_passes += 1
        stats.num_rows += num_rows
        stats.num_prefilled += num_prefilled
        stats.num_rebuilt += sum(step.num_rebuilt for step in steps)
        started_s = self._now_s()
        for step in steps:
            step.decode.begin(started_s)
            stats.num_unfed_hints += step.num_unfed(self.settings.max_fed_hints)
        try:
            picks = await self._runner.run(lambda: self._pass(steps), rows=num_rows)
        finally:
            for step in steps:
                step.decode.is_running = False
        step_s = self._now_s() - started_s
        self.pacer.note_pass(num_rows, step_s)
        num_hints = sum(len(step.hints) for step in steps)
        stats.add_step(seconds=step_s, num_rows=num_rows, num_texts=len(steps), num_hints=num_hints)
        if num_prefilled <= self.settings.max_fed_hints:
            self.pass_s = step_s
        return picks

    def _pass(self, steps: list[PlannedStep]) -> list[_Picks]:
        logits = self.model.forward([step.feed() for step in steps])
        samplings = []
        positions: list[int] = []
        for step in steps:
            samplings += [step.decode.request.sampling] * step.num_picks
            positions += range(step.position, step.position + step.num_picks)
        picks: list[int] = pick_rows(logits, samplings, positions).tolist()
        found, row = [], 0
        for step in steps:
            rows, tokens = logits[row : row + step.num_picks], picks[row : row + step.num_picks]
            step.accept(rows, tokens)
            logprobs = []
            if step.decode.request.wants_logprobs:
                logprobs = [log_probability(rows[at], token) for at, token in enumerate(tokens)]
            found.append(_Picks(tokens, logprobs))
            row += step.num_picks
        return found

    def _postprocess(self, steps: list[PlannedStep], picks: list[_Picks]) -> None:
        """Compare hints with picks, commit, tell."""
        now_s = self._now_s()
        for step, own in zip(steps, picks, strict=True):
            if step.decode.is_closed:
                continue
            try:
                committed = step.decode.finish(step, own.tokens, now_s, own.logprobs)
            except Exception as error:
                self._fail(step.decode, error)
                continue
            num_tokens = 0 if committed is None else len(committed.tokens)
            self.pacer.note_step(step, num_tokens=num_tokens, now_s=now_s)
            if committed is not None:
                self.stats.num_committed += len(committed.tokens)
                self.stats.num_hinted += committed.num_hinted
                step.decode.on_commit(committed)
            if step.decode.is_finished:
                self._over.append(step.decode.part_with_cache())

    async def _try_alone(self, steps: list[PlannedStep], error: Exception) -> None:
        """A step failed. One text alone may be the reason, so each has another try by itself."""
        self.stats.num_failed_passes += 1
        if len(steps) == 1:
            self._fail(steps[0].decode, error)
            return
        log.warning("a step of %d texts failed, each is tried alone: %r", len(steps), error)
        for decode in [step.decode for step in steps]:
            if decode.is_closed or decode.is_finished:
                continue
            parts, _ = self._choose([decode], self._now_s(), may_hold=False)
            for step in self._plan(parts):
                try:
                    self._postprocess([step], await self._run([step]))
                except RunnerStopped:
                    raise
                except Exception as reason:
                    self.stats.num_failed_passes += 1
                    self._fail(decode, reason)

    def _fail(self, decode: Decode, error: Exception) -> None:
        """A text cannot go on. What the model holds of it is not to be trusted."""
        if decode.is_closed:
            return
        if isinstance(error, EngineError):
            log.warning("a text cannot go on: %s", error)
            failure = error
        else:
            log.error("a step failed: %r", error, exc_info=error)
            failure = EngineError(
                str(error) if isinstance(error, CascadeError) else "a step of the engine failed"
            )
        self.stats.num_failed += 1
        self._memory.drop(decode.part_with_cache())
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
