"""Sixty-four devices on one edge that is short of everything, and the oracle that judges each text.

Rows are dear enough that pacing leaves out many hints that are there: how many of them are fed to each text
is the engine's own choice, another one in every pass.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass

from cascade.decoding import Sampling
from cascade.device import Device, Policy
from cascade.edge import EdgeServer, EdgeSettings, EngineStats
from cascade.lab.fleet import PassCost
from cascade.links.base import Link
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

from ..helpers import tasks_left
from .schedules import EOS, VOCAB_SIZE, Answer, Ask, check

NUM_DEVICES = 64
NUM_IDENTITIES = 16
BYTES_PER_TOKEN = SyntheticTarget().new_sequence().growth_bytes(1)


@dataclass(frozen=True)
class CrowdReport:
    """What happened, so that a campaign can show that it tried what it claims."""

    answers: list[Answer]
    stats: EngineStats
    temperatures: frozenset[float]
    longest_prompt: int
    num_given_up: int
    """Streams that their app left in the middle."""


def run_crowd(seed: int) -> CrowdReport:
    """Run a crowd drawn from a seed, and hold every answer against the target alone."""
    target = SyntheticTarget(seed=seed, vocab_size=VOCAB_SIZE, eos_ids=frozenset({EOS}))
    report = run_virtual(_Crowd(seed, target).run(), limit_s=600.0)
    for answer in report.answers:
        check(target, answer)
    return report


class _Crowd:
    def __init__(self, seed: int, target: SyntheticTarget) -> None:
        self._dice = dice = random.Random(seed)
        self._target = target
        self._public = [self._draw_tokens(60), self._draw_tokens(25)]
        self._beginnings = [
            dice.choice(self._public) + self._draw_tokens(dice.randint(0, 40)) for _ in range(NUM_IDENTITIES)
        ]
        self._listener = MemoryListener()
        self._edge = EdgeServer.of(
            target,
            PacedRunner(PassCost(0.005, dice.choice([0.0002, 0.0005, 0.001]))),
            settings=EdgeSettings(
                prefill_chunk_rows=dice.choice([16, 48]),
                run_ahead=dice.choice([16, 64]),
                kv_bytes=dice.choice([1500, 2500]) * BYTES_PER_TOKEN,
                max_wait_s=1000.0,  # who lacks memory waits and is not refused
                keep_kv_s=dice.choice([0.5, 5.0]),
                public_prefixes=tuple(tuple(prefix) for prefix in self._public),
            ),
        )
        self._answers: list[Answer] = []
        self._num_given_up = 0

    async def run(self) -> CrowdReport:
        async with self._edge:
            self._edge.listen(self._listener)
            async with asyncio.TaskGroup() as devices:
                for number in range(NUM_DEVICES):
                    devices.create_task(self._live(number, random.Random(self._dice.random())))
            await asyncio.sleep(100)  # leases end, where a CLOSE did not get out before its device left
            assert self._edge.num_sessions == 0
            assert self._edge.engine.kv_bytes == 0
        assert tasks_left() == []
        asks = [answer.ask for answer in self._answers]
        return CrowdReport(
            self._answers,
            self._edge.engine.stats,
            frozenset(ask.sampling.temperature for ask in asks),
            max(len(ask.prompt) for ask in asks),
            self._num_given_up,
        )

    async def _live(self, number: int, dice: random.Random) -> None:
        """One device: a chat of some turns, now and then a fork of an earlier one."""
        identity = number % NUM_IDENTITIES
        conditions = Conditions(delay_s=dice.choice([0.0, 0.01, 0.04]), jitter_s=dice.choice([0.0, 0.01]))

        async def dial() -> Link:
            link = await self._listener.dial(f"identity-{identity}")
            return EmulatedLink(link, up=conditions, down=conditions, seed=number)

        draft = SyntheticDraft(self._target, agreement=dice.choice([0.5, 0.8, 0.95]), seed=number)
        async with Device([dial], draft=draft, runner=PacedRunner(lambda rows: 0.002), seed=number) as device:
            await asyncio.sleep(dice.uniform(0, 1.5))
            turns = [self._beginnings[identity] + self._draw_tokens(dice.choice([1, 10, 120]), dice)]
            for _ in range(3):
                begin = dice.choice([turns[-1], turns[-1], dice.choice(turns)])
                ask = self._draw_ask(begin, dice)
                if (said := await self._ask(device, ask, dice)) is None:
                    continue
                turns.append([*ask.prompt, *said, *self._draw_tokens(dice.randint(1, 30), dice)])
                await asyncio.sleep(dice.choice([0.0, 0.1, 1.0]))

    async def _ask(self, device: Device, ask: Ask, dice: random.Random) -> list[int] | None:
        stream = device.stream(
            ask.prompt,
            max_new_tokens=ask.max_new_tokens,
            **asdict(ask.sampling),
            stop_ids=ask.stop_ids,
            policy=ask.policy,
            logprobs=ask.wants_logprobs,
        )
        gives_up_at = dice.randint(1, 20) if dice.random() < 0.1 else None
        tokens = []
        iterator = aiter(stream)
        async for token in iterator:
            tokens.append(token)
            if len(tokens) == gives_up_at:
                await iterator.aclose()
                self._num_given_up += 1
                return None
        self._answers.append(Answer(ask, tokens, stream.summary.finish_reason, stream.summary.num_opens))
        return [token.id for token in tokens]

    def _draw_ask(self, prompt: list[int], dice: random.Random) -> Ask:
        return Ask(
            prompt=tuple(prompt),
            max_new_tokens=dice.choice([1, 5, 30, 60]),
            sampling=Sampling(temperature=dice.choice([0.0, 0.7, 1.0]), seed=dice.getrandbits(64)),
            stop_ids=frozenset({EOS}) if dice.random() < 0.5 else frozenset(),
            policy=dice.choice(
                [
                    Policy.cloud(),
                    Policy.hint_driven(),
                    Policy.hint_driven(),
                    Policy.hint_driven(patience_s=0.06),
                ]
            ),
        )

    def _draw_tokens(self, count: int, dice: random.Random | None = None) -> list[int]:
        dice = dice or self._dice
        return [dice.randrange(VOCAB_SIZE) for _ in range(count)]
