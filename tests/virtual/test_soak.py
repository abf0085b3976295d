"""Traffic for a long time: two hundred devices come, ask, vanish and come again, and leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from dataclasses import dataclass, field

import pytest

from cascade.device import Device, Policy, ReconnectSettings
from cascade.edge import EdgeServer, EdgeSettings
from cascade.errors import CascadeError
from cascade.lab.soak import Soak
from cascade.links.base import Link
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget, run_virtual

from ..helpers import tasks_left
from .peers import VOCAB_SIZE, greedy

NUM_DEVICES = 200
LEASE_S = 10.0
TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
BYTES_PER_TOKEN = TARGET.new_sequence().growth_bytes(1)
PUBLIC = tuple(number * 7 % 60 for number in range(40))


@dataclass
class Figures:
    """The most there was of each thing during a round, and what was left once all was quiet."""

    most_tasks: int = 0
    most_open: int = 0
    most_remembered: int = 0
    most_bytes: int = 0
    num_answers: int = 0
    num_cut: int = 0
    left: dict[str, int] = field(default_factory=dict)


class Traffic:
    """An edge and devices that come and go."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.listener = MemoryListener()
        self.settings = EdgeSettings(
            lease_s=LEASE_S,
            keep_kv_s=LEASE_S,
            kv_bytes=4000 * BYTES_PER_TOKEN,
            prefill_chunk_rows=64,
            public_prefixes=(PUBLIC,),
        )
        runner = PacedRunner(lambda rows: 0.050 + 0.0001 * rows)
        self.edge = EdgeServer.of(TARGET, runner, settings=self.settings)
        self.figures = Figures()

    async def run(self, num_rounds: int, round_s: float) -> list[Figures]:
        async with self.edge:
            self.edge.listen(self.listener)
            rounds = []
            for _ in range(num_rounds):
                self.figures = Figures()
                await self._round(round_s)
                rounds.append(self.figures)
        return rounds

    async def _round(self, round_s: float) -> None:
        end_s = asyncio.get_running_loop().time() + round_s
        watcher = asyncio.create_task(self._watch())
        async with asyncio.TaskGroup() as devices:
            for number in range(NUM_DEVICES):
                devices.create_task(self._come_and_go(number, random.Random(self.dice.random()), end_s))
        await asyncio.sleep(4 * LEASE_S)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        gc.collect()
        self.figures.left = {
            "sessions": self.edge.num_sessions,
            "tombstones": len(self.edge._sessions),
            "peers": len(self.edge._peers),
            "bytes": self.edge.engine.kv_bytes,
            "tasks": len(tasks_left()),
            "objects": len(gc.get_objects()),
        }

    async def _come_and_go(self, number: int, dice: random.Random, end_s: float) -> None:
        loop = asyncio.get_running_loop()
        links: list[Link] = []

        async def dial() -> Link:
            links.append(await self.listener.dial(f"identity-{number % 50}"))
            return links[-1]

        while loop.time() < end_s:
            await asyncio.sleep(dice.uniform(0, 60))
            device = Device(
                [dial],
                draft=SyntheticDraft(TARGET, agreement=0.8, seed=number),
                runner=PacedRunner(lambda rows: 0.004),
                seed=dice.getrandbits(30),
                reconnect=ReconnectSettings(silent_s=5.0),
            )
            async with device:
                await self._chat(device, dice, links)
            links.clear()

    async def _chat(self, device: Device, dice: random.Random, links: list[Link]) -> None:
        prompt = [*PUBLIC[: dice.choice([0, 40])], *(dice.randrange(60) for _ in range(dice.randint(1, 60)))]
        for _ in range(dice.randint(1, 3)):
            count = dice.randint(1, 30)
            policy = dice.choice([Policy.cloud(), Policy.hint_driven(), Policy.hint_driven(patience_s=0.1)])
            way = dice.choice(["read", "read", "read", "give up", "cut", "leave"])
            ids: list[int] = []
            with contextlib.suppress(CascadeError):
                async for token in device.stream(prompt, max_new_tokens=count, policy=policy):
                    ids.append(token.id)
                    if len(ids) == 5 and way == "cut":
                        self.figures.num_cut += 1
                        await links[-1].close()
                    if len(ids) == 5 and way == "give up":
                        break
                    if len(ids) == 5 and way == "leave":
                        return  # the link goes with the device, and says no goodbye
            assert ids == greedy(TARGET, prompt, len(ids))
            self.figures.num_answers += 1
            prompt = [*prompt, *ids, *(dice.randrange(60) for _ in range(5))]
            await asyncio.sleep(dice.choice([0.0, 1.0, 15.0]))

    async def _watch(self) -> None:
        while True:
            figures = self.figures
            figures.most_tasks = max(figures.most_tasks, len(asyncio.all_tasks()))
            figures.most_open = max(figures.most_open, self.edge.num_sessions)
            figures.most_remembered = max(figures.most_remembered, len(self.edge._sessions))
            figures.most_bytes = max(figures.most_bytes, self.edge.engine.kv_bytes)
            await asyncio.sleep(0.5)


def check_soak(num_rounds: int, round_s: float) -> None:
    traffic = Traffic(seed=1)
    rounds = run_virtual(traffic.run(num_rounds, round_s), limit_s=num_rounds * (round_s + 200))
    for figures in rounds:
        assert figures.num_answers > round_s * 2
        assert figures.num_cut > 10
        assert 10 < figures.most_open <= NUM_DEVICES
        assert figures.most_bytes <= traffic.settings.kv_bytes
        assert figures.left | {"objects": 0, "tasks": 0} == dict.fromkeys(figures.left, 0)
    first, *others = rounds
    for figures in others:
        assert figures.left["tasks"] == first.left["tasks"]
        assert figures.left["objects"] <= 1.01 * first.left["objects"]
        assert figures.most_tasks <= 1.2 * first.most_tasks
        assert figures.most_remembered <= 1.3 * first.most_remembered
    assert traffic.edge.engine.stats.num_evictions > 0
    assert traffic.edge.engine.stats.num_failed == 0


def test_five_minutes_of_traffic_leave_nothing_behind() -> None:
    check_soak(num_rounds=3, round_s=100)


def test_the_soak_of_the_real_target_with_the_synthetic_one() -> None:
    """What `cascade bench soak` runs; resident memory is the business of the real one."""

    async def resident() -> int:
        return 1

    soak = Soak(
        TARGET,
        PacedRunner(lambda rows: 0.05 + 0.001 * rows),
        [[number, *PUBLIC] for number in range(8)],
        drafts=[None],
        kv_bytes=300 * BYTES_PER_TOKEN,
        resident=resident,
    )
    figures = run_virtual(soak.run(num_rounds=3, round_s=30.0), limit_s=400.0)
    assert [must for must in figures["musts"] if not must["holds"]] == []
    assert figures["evictions"] > 0
    for one in figures["rounds"]:
        assert one["answers"] > 10
        assert one["links_cut"] > 0
        assert one["most_open"] > 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_hour_of_traffic_leaves_nothing_behind() -> None:
    check_soak(num_rounds=6, round_s=600)
