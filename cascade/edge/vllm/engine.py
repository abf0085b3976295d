"""The engine interface over a running vLLM: a text is a chain of requests, each up to the run-ahead long.

vLLM does not wait for anybody, so a request ends where its device has to acknowledge first, and the next one
goes on from there; vLLM's prefix cache makes that cheap. A request is given up when its device is over its
rate, or has another text.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

from ...errors import EngineError
from ...wire import Feature
from ..interface import Committed, DecodeRequest, EngineStats, Served, Text
from ..settings import EdgeSettings
from .bridge import Frame, ServerEnd, StepReport
from .proposer import CascadeWorker, request_id
from .text import VllmText

if TYPE_CHECKING:
    from .starting import VllmModel

__all__ = ["VllmEngine"]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How often vLLM is asked whether it lives."""
SMOOTHING = 0.2
"""Weight of the newest step in the time that one takes."""


class VllmEngine:
    """`VllmEngine(await start("smollm2-135m"))`. Whoever started the model ends it, after the engine."""

    def __init__(self, model: VllmModel, settings: EdgeSettings | None = None) -> None:
        self.settings = settings or EdgeSettings()
        self.served = Served(
            vocab_size=model.vocab_size,
            vocab_fingerprint=model.vocab_fingerprint,
            context_length=model.context_length,
            numerics=model.numerics,
            lacks=Feature.SHARED_NOISE | Feature.KEEP | Feature.LOGPROBS,
        )
        self.stats = EngineStats()
        self.kv_bytes = model.kv_bytes
        """vLLM takes all of it when it starts."""
        self.pass_s = 0.0
        self.is_alive = True
        self.is_bound = asyncio.Event()
        """Set once vLLM takes our hints; before that it decodes without them."""
        self._model = model
        self._llm = model.llm
        self._bridge = ServerEnd(self._on_step)
        self._texts: dict[VllmText, None] = {}
        self._held_until_s: dict[str, float] = {}
        self._numbers = itertools.count()
        self._num_asked = 0
        """Requests at vLLM."""
        self._num_begun = 0
        """Of these, such as have not had their first token."""
        self._last_step_s: float | None = None
        """None: vLLM was idle since, or did something else."""
        self._reported_s: float | None = None
        """When a step was reported whose tokens have not come yet."""
        self._lag_s = 0.0
        """Of the tokens behind the report: they take the longer way."""
        self._tasks: set[asyncio.Task[None]] = set()

    # What the server says

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
        text = VllmText(
            next(self._numbers), request, prefix, owner=owner, on_commit=on_commit, on_failure=on_failure
        )
        self._texts[text] = None
        self._begin(text)
        return text

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        ours = _ours(text)
        if ours.take_up(prefix):
            self._begin(ours)
        ours.has_room.set()

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        ours = _ours(text)
        if ours not in self._texts:
            return
        near = ours.guess(position, tokens, self.settings.max_buffered_hints)
        if not near or not self._bridge.send(Frame.HINT, ours.number, position, prefix_hash, near):
            self.stats.num_unfed_hints += len(tokens)

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
        raise EngineError(Feature.KEEP.reason)

    def overrule(self, text: Text, position: int, prefix_hash: int) -> bool:
        return False

    def wish_patience(self, text: Text, patience_s: float) -> None:
        """vLLM waits for nobody."""

    def hold(self, owner: str, until_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self._held_until_s = {who: when_s for who, when_s in self._held_until_s.items() if when_s > now_s}
        self._held_until_s[owner] = until_s
        for text in self._texts:
            if text.owner == owner and not text.is_finished:
                self._begin(text)

    def acknowledge(self, text: Text, known: int) -> None:
        ours = _ours(text)
        ours.known = max(ours.known, min(known, ours.head))
        ours.has_room.set()

    def close(self, text: Text) -> None:
        ours = _ours(text)
        if ours in self._texts:
            del self._texts[ours]
            self._end_life(ours)
            self._bridge.send(Frame.OVER, ours.number)

    async def run(self) -> None:
        try:
            path = await self._bridge.open()
            await self._llm.collective_rpc(CascadeWorker.cascade_bind.__name__, args=(path,))
            self.is_bound.set()
            while True:
                await self._llm.check_health()
                await asyncio.sleep(LOOK_EVERY_S)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise EngineError(
                f"vLLM has ended: {type(error).__name__}; see its log, and start it again"
            ) from error
        finally:
            self.is_alive = False
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._bridge.close()

    # What goes on by itself

    def _begin(self, text: VllmText) -> None:
        """Decode from what there is, whatever was under way."""
        self._end_life(text)
        text.task = asyncio.create_task(self._decode(text, text.life), name=f"vllm-text-{text.number}")
        self._tasks.add(text.task)
        text.task.add_done_callback(self._tasks.discard)

    def _end_life(self, text: VllmText) -> None:
        text.life += 1
        if text.task is not None and text.task is not asyncio.current_task():
            text.task.cancel()  # the current one sees that its life is over, once its commit is said
        text.task = None

    async def _decode(self, text: VllmText, life: int) -> None:
        """Until the text is finished, or this life of it is over."""
        try:
            for part in itertools.count():
                await self._wait_for_room(text)
                if text.is_finished or text.life != life:
                    return
                head = text.head
                await self._ask(text, life, part)
                if text.life == life and text.head == head:
                    raise EngineError("vLLM ended the text without a token; see its log")
        except Exception as error:
            if text.life == life:
                self._fail(text, error)

    def _fail(self, text: VllmText, error: Exception) -> None:
        """What vLLM says may quote the prompt, so its device gets no more than the kind of it."""
        log.warning("vLLM does not decode a text: %s", type(error).__name__)
        self.stats.num_failed += 1
        if not isinstance(error, EngineError):
            error = EngineError(f"the engine failed ({type(error).__name__}); try again")
        self.close(text)
        text.on_failure(error)

    async def _wait_for_room(self, text: VllmText) -> None:
        loop = asyncio.get_running_loop()
        while True:
            held_s = self._held_until_s.get(text.owner, 0.0) - loop.time()
            if held_s > 0:
                await asyncio.sleep(held_s)
                continue
            if text.is_finished or text.room(self.settings.run_ahead) > 0:
                return
            text.has_room.clear()
            await text.has_room.wait()

    async def _ask(self, text: VllmText, life: int, part: int) -> None:
        """One request: as many tokens as the text has room for."""
        is_first = True
        self._num_asked += 1
        self._num_begun += 1
        try:
            async with contextlib.aclosing(self._outputs(text, life, part)) as outputs:
                async for output in outputs:
                    if text.life != life:
                        return
                    if is_first:
                        is_first = False
                        self._num_begun -= 1
                        if part == 0:  # the others go on with what is in the cache
                            self._note_prefill(text, output.num_cached_tokens or 0)
                    self._commit(text, list(output.outputs[0].token_ids))
        finally:
            self._num_begun -= is_first
            self._num_asked -= 1
            if not self._num_asked:
                self._last_step_s = None

    def _outputs(self, text: VllmText, life: int, part: int) -> AsyncGenerator[Any]:
        prompt = {"type": "token", "prompt_token_ids": list(text.tokens), "cache_salt": _salt(text.owner)}
        room = text.room(self.settings.run_ahead)
        outputs: AsyncGenerator[Any] = self._llm.generate(
            prompt, self._model.sampling(**_sampling(text, room)), request_id(text.number, life, part)
        )
        return outputs

    def _note_prefill(self, text: VllmText, num_cached: int) -> None:
        self.stats.num_hit += num_cached
        self.stats.num_prefilled += text.head - num_cached

    def _commit(self, text: VllmText, tokens: list[int]) -> None:
        if not tokens:
            return
        text.lag_s = self._measure_lag()
        committed = text.add(tokens)
        self.stats.num_committed += len(tokens)
        self.stats.num_hinted += committed.num_hinted
        text.on_commit(committed)

    def _measure_lag(self) -> float:
        if self._reported_s is not None:
            lag_s = asyncio.get_running_loop().time() - self._reported_s
            self._lag_s += (lag_s - self._lag_s) * SMOOTHING
            self._reported_s = None
        return self._lag_s

    def _on_step(self, report: StepReport) -> None:
        """One of vLLM's steps is over. How long it took is measured here, between two of them."""
        num_texts, num_hints, _num_tokens = report
        now_s = self._reported_s = asyncio.get_running_loop().time()
        seconds = None if self._last_step_s is None else now_s - self._last_step_s
        self._last_step_s = now_s if self._num_asked else None
        self.stats.num_passes += 1
        self.stats.num_rows += num_texts + num_hints
        if seconds is None:
            self.stats.num_fed_hints += num_hints
            return
        self.stats.add_step(
            seconds=seconds, num_rows=num_texts + num_hints, num_texts=num_texts, num_hints=num_hints
        )
        if not self._num_begun:
            self.pass_s += (seconds - self.pass_s) * (SMOOTHING if self.pass_s else 1.0)


def _sampling(text: VllmText, num_tokens: int) -> dict[str, Any]:
    """What vLLM is told of a request, in its own words."""
    options: dict[str, Any] = {"temperature": 0.0}
    sampling = text.request.sampling
    if sampling.temperature:
        if sampling.min_p:
            raise EngineError("this edge's engine takes no min_p; leave it out")
        options = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": max(sampling.top_p, 1e-6),
            # A request's noise begins with its seed: the next one of the same text must have another.
            "seed": int.from_bytes(
                hashlib.blake2b(f"{sampling.seed} {text.head}".encode(), digest_size=7).digest()
            ),
        }
    return {
        **options,
        "max_tokens": num_tokens,
        "stop_token_ids": sorted(text.request.stop_ids),
        "ignore_eos": True,
        "detokenize": False,
    }


def _salt(owner: str) -> str:
    """Texts of different owners share no cache: whether one is there could be seen in the time."""
    return hashlib.sha256(owner.encode()).hexdigest()


def _ours(text: Text) -> VllmText:
    assert isinstance(text, VllmText)
    return text
