"""Many devices, one edge, emulated links, the synthetic pair: a loaded edge in virtual time.

Every device streams one text that is measured, from its first token to its last, and goes on with others
until all the measured ones are done, so that the load stays the same. The whole library runs: devices,
sessions, wire, engine; only the models and the time are synthetic.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from dataclasses import dataclass, field

from ..device import Device, Policy
from ..edge import EdgeServer, EdgeSettings
from ..events import Summary
from ..links.base import Link
from ..models.runner import PacedRunner, constant_cost
from ..testing import Conditions, EmulatedLink, MemoryListener, SyntheticDraft, SyntheticTarget, run_virtual

__all__ = ["Fleet", "FleetOutcome", "PassCost", "simulate_fleet"]


@dataclass(frozen=True, slots=True)
class PassCost:
    """t(n): seconds of a pass of n rows."""

    fixed_s: float
    per_row_s: float

    def __call__(self, rows: int) -> float:
        return self.fixed_s + self.per_row_s * rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """One point of an experiment with many devices."""

    num_devices: int
    num_tokens: int
    """Of each measured stream."""
    cost: PassCost
    policy: Policy = field(default_factory=Policy.hint_driven)
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    agreement: float = 0.8
    rtt_s: float = 0.020
    draft_step_s: float = 0.005
    arrivals_s: float = 2.0
    """The devices come one by one, evenly spread over this."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOutcome:
    """What came of it."""

    ms_per_token: tuple[float, ...]
    """Of every measured stream, ascending."""
    max_first_token_ms: float
    tokens_per_s: float
    """All devices together."""
    rows_per_pass: float
    hinted_share: float
    """Of the tokens committed."""

    @property
    def p95_ms_per_token(self) -> float:
        """Nineteen streams of twenty are at least this fast."""
        return self.ms_per_token[math.ceil(0.95 * len(self.ms_per_token)) - 1]

    @property
    def mean_ms_per_token(self) -> float:
        return statistics.fmean(self.ms_per_token)


def simulate_fleet(fleet: Fleet) -> FleetOutcome:
    """Run it until the last measured stream has ended."""
    return run_virtual(_Run(fleet).run(), limit_s=600 + 10.0 * fleet.num_tokens)


class _Run:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._target = SyntheticTarget(seed=fleet.seed)
        self._listener = MemoryListener()
        self._num_measured = 0
        self._is_over = asyncio.Event()

    async def run(self) -> FleetOutcome:
        fleet = self._fleet
        edge = EdgeServer.of(self._target, PacedRunner(fleet.cost), settings=fleet.settings)
        async with edge:
            edge.listen(self._listener)
            async with asyncio.TaskGroup() as group:
                devices = [group.create_task(self._device(number)) for number in range(fleet.num_devices)]
        summaries = [device.result() for device in devices]
        stats = edge.engine.stats
        return FleetOutcome(
            ms_per_token=tuple(sorted(summary.time_per_token_s * 1000 for summary in summaries)),
            max_first_token_ms=max(summary.time_to_first_token_s for summary in summaries) * 1000,
            tokens_per_s=sum(1 / summary.time_per_token_s for summary in summaries),
            rows_per_pass=stats.num_rows / stats.num_passes,
            hinted_share=stats.num_hinted / stats.num_committed,
        )

    async def _device(self, number: int) -> Summary:
        fleet = self._fleet
        one_way = Conditions(delay_s=fleet.rtt_s / 2)

        async def dial() -> Link:
            return EmulatedLink(await self._listener.dial(f"device-{number}"), up=one_way, down=one_way)

        await asyncio.sleep(fleet.arrivals_s * number / fleet.num_devices)
        draft = SyntheticDraft(self._target, agreement=fleet.agreement, seed=fleet.seed + 1)
        runner = PacedRunner(constant_cost(fleet.draft_step_s))
        async with Device([dial], draft=draft, runner=runner, seed=number) as device:
            measured = await self._stream(device, number, turn=0)
            self._num_measured += 1
            if self._num_measured == fleet.num_devices:
                self._is_over.set()
            turn = 0
            while not self._is_over.is_set():
                turn += 1
                await self._stream(device, number, turn=turn)
        return measured

    async def _stream(self, device: Device, number: int, *, turn: int) -> Summary:
        """Read a stream to its end, or until nobody measures any more."""
        prompt = [1 + number % 60, 1 + number // 60, 1 + turn % 60]
        stream = device.stream(prompt, max_new_tokens=self._fleet.num_tokens, policy=self._fleet.policy)
        async for _token in stream:
            if self._is_over.is_set():
                break
        return stream.summary
