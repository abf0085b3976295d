"""What `VllmEngine` uses of vLLM, over the synthetic target: requests, steps, drafts, outputs, and no more.

The proposer and the socket are the real ones. `test_vllm.py` holds the engine over it to every check, as it
holds the engine over the real vLLM where there is one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from cascade.decoding import Sampling, pick
from cascade.edge.vllm import VllmModel
from cascade.edge.vllm.proposer import CascadeWorker, Proposer
from cascade.models.base import Feed
from cascade.testing import SyntheticTarget

__all__ = ["SmallLlm", "SmallModel"]

STEP_S = 0.002
MAX_LENGTH = 2048


class _Request:
    def __init__(self, name: str, prompt: list[int], params: SimpleNamespace) -> None:
        self.name = name
        self.tokens = list(prompt)
        self.params = params
        self.limit = len(prompt) + params.max_tokens
        self.draft: list[int] = []
        self.outputs: asyncio.Queue[SimpleNamespace] = asyncio.Queue()

    @property
    def is_over(self) -> bool:
        return len(self.tokens) >= self.limit or self.tokens[-1] in self.params.stop_token_ids


class SmallLlm:
    """A step for all requests, then the proposer is asked, and the next step checks what it said."""

    def __init__(self, target: SyntheticTarget, *, max_hints: int = 8) -> None:
        self.is_dead = False
        self.lag_s = 0.0
        """Outputs are under way for so long."""
        self.num_steps = 0
        self.num_aborted = 0
        self.salts: set[str] = set()
        self.seeds: list[int] = []
        self._target = target
        self._requests: list[_Request] = []
        self._batch: list[_Request] = []
        self._names = itertools.count()
        config = SimpleNamespace(
            speculative_config=SimpleNamespace(num_speculative_tokens=max_hints),
            model_config=SimpleNamespace(max_model_len=MAX_LENGTH),
        )
        self.drafter = Proposer(config)
        self._worker = CascadeWorker()
        self._worker.model_runner = self
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def input_batch(self) -> SimpleNamespace:
        return SimpleNamespace(req_ids=[request.name for request in self._batch])

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [await asyncio.to_thread(getattr(self._worker, method), *args)]

    async def check_health(self) -> None:
        if self.is_dead:
            raise RuntimeError("EngineDeadError")

    async def generate(
        self, prompt: dict[str, Any], params: SimpleNamespace, request_id: str
    ) -> AsyncGenerator[SimpleNamespace]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        self.salts.add(prompt["cache_salt"])
        if params.temperature:
            self.seeds.append(params.seed)
        request = _Request(f"{request_id}-{next(self._names):08x}", prompt["prompt_token_ids"], params)
        self._requests.append(request)
        self._changed.set()
        try:
            while True:
                output = await request.outputs.get()
                yield output
                if output.finished:
                    return
        finally:
            if request in self._requests:
                self._requests.remove(request)
                self.num_aborted += 1

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.drafter.close()

    async def _run(self) -> None:
        while True:
            while not self._requests:
                self._changed.clear()
                await self._changed.wait()
            self._batch = list(self._requests)
            await asyncio.sleep(STEP_S)
            await self._step()

    async def _step(self) -> None:
        self.num_steps += 1
        sampled = [self._decide(request) for request in self._batch]
        lengths = np.array([len(request.tokens) for request in self._batch])
        tokens = np.zeros((len(self._batch), MAX_LENGTH), dtype=np.int32)
        for row, request in enumerate(self._batch):
            tokens[row, : len(request.tokens)] = request.tokens
        drafts = await asyncio.to_thread(self.drafter.propose, sampled, lengths, tokens, slot_mappings=None)
        for request, said, draft in zip(self._batch, sampled, drafts, strict=True):
            request.draft = draft
            if request.is_over and request in self._requests:
                self._requests.remove(request)
            output = SimpleNamespace(token_ids=said)
            said_by_vllm = SimpleNamespace(outputs=[output], finished=request.is_over, num_cached_tokens=0)
            asyncio.get_running_loop().call_later(self.lag_s, request.outputs.put_nowait, said_by_vllm)

    def _decide(self, request: _Request) -> list[int]:
        """The draft as far as it is the target's own, and one token behind it."""
        said: list[int] = []
        for guess in [*request.draft, None]:
            own = self._pick(request.tokens, request.params)
            request.tokens.append(own)
            said.append(own)
            if own != guess or request.is_over:
                break
        return said

    def _pick(self, tokens: Sequence[int], params: SimpleNamespace) -> int:
        logits = self._target.forward([Feed(self._target.new_sequence(), list(tokens), 1)])
        sampling = Sampling(temperature=params.temperature, seed=getattr(params, "seed", 0))
        return pick(logits[0], sampling, len(tokens))


class SmallModel(VllmModel):
    """The model that stands where `start` gives a real one."""

    @classmethod
    def of(cls, target: SyntheticTarget) -> SmallModel:
        return cls(
            llm=SmallLlm(target),
            vocab_size=target.vocab_size,
            vocab_fingerprint=target.vocab_fingerprint,
            context_length=MAX_LENGTH,
            numerics=target.numerics,
            kv_bytes=1,
        )

    async def close(self) -> None:
        await self.llm.stop()

    def sampling(self, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(**options)
