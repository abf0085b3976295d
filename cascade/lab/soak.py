"""A real target under devices that come and go for a while: does anything grow?

Rounds of traffic, each followed by a silence that is longer than all leases. What is left then must be what
was left after the round before: no session, no cache, no task, and no memory either. The first round is not
counted, for kernels and allocators fill caches of their own; these take a share of the bound later, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..device import Device, ReconnectSettings, Vocabulary
from ..device.equipment import Draft
from ..edge import EdgeServer, EdgeSettings
from ..errors import CascadeError
from ..links.base import Link
from ..links.memory import MemoryListener
from ..models.base import LanguageModel
from ..models.runner import Runner, ThreadRunner
from .progress import must, say
from .replay import MODEL, QUESTIONS
from .steady import resident_bytes

__all__ = ["Soak", "measure"]

NUM_DEVICES = 8
NUM_IDENTITIES = 4
NUM_ROUNDS, NUM_QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 300.0, 20.0
LEASE_S = 3.0
SILENCE_S = 4 * LEASE_S
WATCH_EVERY_S = 0.5
MAX_GROWTH = 0.05
"""Of the resident memory after the first round."""


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Figures of the bundled target on this machine (cascade models fetch); `quick` takes a minute."""
    from ..models.loading import open_model

    model = open_model(MODEL)
    assert model.tokenizer is not None
    prompts = [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    block_bytes = model.new_sequence().growth_bytes(1)
    kv_bytes = 4 * NUM_DEVICES * block_bytes  # not enough for all that is kept: some are evicted
    soak = Soak(
        model,
        ThreadRunner(),
        prompts,
        drafts=(None, "suffix"),
        kv_bytes=kv_bytes,
        resident=lambda: asyncio.to_thread(resident_bytes),
    )
    seconds, num_rounds = (QUICK_SECONDS, NUM_QUICK_ROUNDS) if quick else (SECONDS, NUM_ROUNDS)
    return asyncio.run(soak.run(num_rounds, seconds / num_rounds))


@dataclass
class Round:
    """The most there was of each thing, and what was left once all was quiet."""

    num_answers: int = 0
    num_tokens: int = 0
    num_cut: int = 0
    most_tasks: int = 0
    most_open: int = 0
    most_kv_bytes: int = 0
    left: dict[str, int] = field(default_factory=dict)


class Soak:
    """An edge in this process, and devices that ask, give up, lose their link, and leave without a word."""

    def __init__(
        self,
        model: LanguageModel,
        runner: Runner,
        prompts: Sequence[Sequence[int]],
        *,
        drafts: Sequence[Draft],
        kv_bytes: int,
        resident: Callable[[], Awaitable[int]],
    ) -> None:
        """`resident` says how much memory the process has."""
        self._prompts = prompts
        self._drafts = drafts
        self._resident = resident
        self._vocabulary = Vocabulary(size=model.vocab_size, fingerprint=model.vocab_fingerprint)
        settings = EdgeSettings(lease_s=LEASE_S, keep_kv_s=LEASE_S, kv_bytes=kv_bytes, prefill_chunk_rows=64)
        self._edge = EdgeServer.of(model, runner, settings=settings)
        self._listener = MemoryListener()
        self._dice = random.Random(1)
        self._round = Round()

    async def run(self, num_rounds: int, round_s: float) -> dict[str, Any]:
        rounds = []
        async with self._edge:
            self._edge.listen(self._listener)
            for number in range(1, num_rounds + 1):
                self._round = Round()
                await self._traffic(max(round_s - SILENCE_S, 1.0))
                rounds.append(self._round)
                num_answers, mb = self._round.num_answers, self._round.left["resident_bytes"] / 1e6
                say(f"round {number} of {num_rounds}: {num_answers} answers, {mb:.0f} MB afterwards")
        return self._report(rounds)

    async def _traffic(self, seconds: float) -> None:
        end_s = asyncio.get_running_loop().time() + seconds
        watcher = asyncio.create_task(self._watch(), name="soak-watch")
        async with asyncio.TaskGroup() as devices:
            for number in range(NUM_DEVICES):
                devices.create_task(self._come_and_go(number, random.Random(self._dice.random()), end_s))
        await asyncio.sleep(SILENCE_S)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        self._round.left = {
            "sessions": self._edge.num_sessions,
            "links": self._edge.num_links,
            "kv_bytes": self._edge.engine.kv_bytes,
            "tasks": len(asyncio.all_tasks()),
            "resident_bytes": await self._resident(),
        }

    async def _come_and_go(self, number: int, dice: random.Random, end_s: float) -> None:
        loop = asyncio.get_running_loop()
        links: list[Link] = []

        async def dial() -> Link:
            links.append(await self._listener.dial(f"identity-{number % NUM_IDENTITIES}"))
            return links[-1]

        while loop.time() < end_s:
            device = Device(
                [dial],
                vocabulary=self._vocabulary,
                draft=dice.choice(self._drafts),
                seed=dice.getrandbits(30),
                reconnect=ReconnectSettings(silent_s=30.0),
            )
            async with device:
                await self._chat(device, dice, lambda: links[-1].close())
            links.clear()
            await asyncio.sleep(dice.uniform(0, 0.5))

    async def _chat(self, device: Device, dice: random.Random, cut: Callable[[], Any]) -> None:
        prompt = list(dice.choice(self._prompts))
        for _ in range(dice.randint(1, 3)):
            way = dice.choice(["read", "read", "give up", "cut", "leave"])
            ids: list[int] = []
            count, temperature = dice.randint(4, 40), dice.choice([0.0, 1.0])
            stream = device.stream(prompt, max_new_tokens=count, temperature=temperature)
            with contextlib.suppress(CascadeError):
                async for token in stream:
                    ids.append(token.id)
                    if len(ids) == 3 and way == "cut":
                        self._round.num_cut += 1
                        await cut()
                    if len(ids) == 3 and way == "give up":
                        break
                    if len(ids) == 3 and way == "leave":
                        return  # the link goes with the device, and says no goodbye
            self._round.num_answers += 1
            self._round.num_tokens += len(ids)
            prompt += ids

    async def _watch(self) -> None:
        while True:
            figures = self._round
            figures.most_tasks = max(figures.most_tasks, len(asyncio.all_tasks()))
            figures.most_open = max(figures.most_open, self._edge.num_sessions)
            figures.most_kv_bytes = max(figures.most_kv_bytes, self._edge.engine.kv_bytes)
            await asyncio.sleep(WATCH_EVERY_S)

    def _report(self, rounds: Sequence[Round]) -> dict[str, Any]:
        first, last = rounds[0].left, rounds[-1].left
        stats, settings = self._edge.engine.stats, self._edge.settings
        grown = last["resident_bytes"] / first["resident_bytes"] - 1
        open_left = sum(one.left["sessions"] + one.left["links"] + one.left["kv_bytes"] for one in rounds)
        tasks_left = [one.left["tasks"] for one in rounds]
        more_tasks = max(late - early for early, late in itertools.pairwise(tasks_left))
        return {
            "musts": [
                must("resident memory, growth after the first round (at most)", grown, at_most=MAX_GROWTH),
                must("sessions, links and bytes of caches left (at most)", open_left, at_most=0),
                must("tasks more than after the round before (at most)", more_tasks, at_most=0),
                must(
                    "caches, part of their budget (at most)",
                    max(one.most_kv_bytes for one in rounds) / settings.kv_bytes,
                    at_most=1.0,
                ),
                must("texts that failed (at most)", stats.num_failed, at_most=0),
            ],
            "devices": NUM_DEVICES,
            "evictions": stats.num_evictions,
            "cache_hits": stats.num_hit,
            "rounds": [
                {
                    "answers": one.num_answers,
                    "tokens": one.num_tokens,
                    "links_cut": one.num_cut,
                    "most_open": one.most_open,
                    "most_tasks": one.most_tasks,
                    "most_kv_mb": round(one.most_kv_bytes / 1e6, 1),
                    "tasks_left": one.left["tasks"],
                    "resident_mb": round(one.left["resident_bytes"] / 1e6, 1),
                }
                for one in rounds
            ],
        }
