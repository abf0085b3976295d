"""Circumstances that change under a running stream, and an oracle that always knows them.

Link and device change at given times, the draft's agreement at given positions of the text. The oracle is the
same device with the same rules; only its estimates are the truth.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..device import Device, Policy
from ..edge import EdgeServer
from ..links.base import Link
from ..measure import AgreementEstimator, Calibration, Confidence, Knowledge, LinkEstimator, Smoothed
from ..models.base import Feed, Logits
from ..models.runner import PacedRunner, constant_cost
from ..testing import MemoryListener, SyntheticDraft, SyntheticTarget, memory_pair, run_virtual

__all__ = ["SCENARIOS", "Scenario", "arrivals"]

PASS_S = 0.050
PROMPT = (1, 2, 3)

Steps = tuple[tuple[float, float], ...]
"""(from, value), the first from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What changes, and when."""

    rtt_s: Steps = ((0, 0.1),)
    """By loop time."""
    draft_step_s: Steps = ((0, 0.005),)
    """By loop time."""
    agreement: Steps = ((0, 0.8),)
    """By position in the answer."""
    num_tokens: int = 900

    def settled(self, times_s: Sequence[float], *, num_tokens: int) -> list[int]:
        """Tokens before which, for so many tokens, nothing changed."""
        changes = [start for start, _ in self.agreement[1:]]
        for steps in (self.rtt_s, self.draft_step_s):
            changes += [bisect.bisect(times_s, start_s) for start_s, _ in steps[1:]]
        return [
            index
            for index in range(1, len(times_s))
            if not any(0 <= index - change < num_tokens for change in changes)
        ]


SCENARIOS = {
    "round trip 20, 250, 60 ms": Scenario(rtt_s=((0, 0.020), (8, 0.250), (20, 0.060)), num_tokens=1000),
    "agreement .9, .5, .8": Scenario(agreement=((0, 0.9), (300, 0.5), (600, 0.8))),
    "draft step x4 for 10 s": Scenario(draft_step_s=((0, 0.005), (8, 0.020), (18, 0.005))),
}


def arrivals(scenario: Scenario, *, seed: int, rotation: float, is_oracle: bool) -> list[float]:
    """When each token of the answer reached the device."""
    return run_virtual(_run(scenario, seed, rotation, is_oracle), limit_s=600)


def value_at(steps: Steps, place: float) -> float:
    return [value for start, value in steps if start <= place][-1]


async def _run(scenario: Scenario, seed: int, rotation: float, is_oracle: bool) -> list[float]:
    now_s = asyncio.get_running_loop().time
    target = SyntheticTarget(seed=seed)
    draft = _DriftingDraft(target, scenario.agreement, seed=seed + 1, rotation=rotation)
    listener = MemoryListener()

    async def dial() -> Link:
        return _DriftingLink(await listener.dial(), lambda: value_at(scenario.rtt_s, now_s()) / 2)

    known = _Truth(scenario, now_s) if is_oracle else Knowledge()
    runner = PacedRunner(lambda rows: value_at(scenario.draft_step_s, now_s()))
    edge = EdgeServer.of(target, PacedRunner(constant_cost(PASS_S)))
    async with edge, Device([dial], draft=draft, runner=runner, knowledge=known, seed=1) as device:
        edge.listen(listener)
        stream = device.stream(PROMPT, max_new_tokens=scenario.num_tokens, policy=Policy.adaptive())
        if isinstance(known, _Truth):
            known.num_tokens = lambda: len(stream.tokens)
        return [token.time_s async for token in stream]


class _DriftingDraft:
    """A synthetic draft for each stretch of the text."""

    def __init__(self, target: SyntheticTarget, agreement: Steps, *, seed: int, rotation: float) -> None:
        self._starts = [start for start, _ in agreement]
        self._drafts = [
            SyntheticDraft(target, agreement=chance, seed=seed, rotation=rotation) for _, chance in agreement
        ]
        first = self._drafts[0]
        self.vocab_size, self.context_length = first.vocab_size, first.context_length
        self.eos_ids, self.vocab_fingerprint = first.eos_ids, first.vocab_fingerprint
        self.numerics = first.numerics
        self.new_sequence = first.new_sequence

    def forward(self, feeds: Sequence[Feed]) -> Logits:
        (feed,) = feeds
        position = feed.sequence.length + len(feed.tokens) - len(PROMPT)
        stretch = sum(start <= position for start in self._starts[1:])
        return self._drafts[stretch].forward(feeds)


class _DriftingLink:
    """A link whose delay changes; order is kept."""

    def __init__(self, inner: Link, delay_s: Callable[[], float]) -> None:
        self._near, far = memory_pair()
        self._inner = inner
        self._delay_s = delay_s
        self._tasks = [
            asyncio.create_task(self._carry(far, inner), name="drifting-up"),
            asyncio.create_task(self._carry(inner, far), name="drifting-down"),
        ]
        self._far = far
        self.peer = inner.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        await self._near.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        return await self._near.receive()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in (self._near, self._far, self._inner):
            await link.close()

    async def _carry(self, source: Link, sink: Link) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(4096)

        async def deliver() -> None:
            while True:
                arrival_s, data = await under_way.get()
                await asyncio.sleep(arrival_s - loop.time())
                await sink.send(data)

        delivery = asyncio.create_task(deliver(), name="drifting-delivery")
        try:
            while True:
                data = await source.receive()
                await under_way.put((loop.time() + self._delay_s(), data))
        finally:
            delivery.cancel()


class _Truth(Knowledge):
    """Estimates that are what they estimate."""

    def __init__(self, scenario: Scenario, now_s: Callable[[], float]) -> None:
        super().__init__()
        self.num_tokens: Callable[[], int] = lambda: 0
        self.link = _TrueLink(lambda: value_at(scenario.rtt_s, now_s()))
        self.draft_step_s = _TrueValue(lambda: value_at(scenario.draft_step_s, now_s()))
        self.agreement = _TrueAgreement(lambda: value_at(scenario.agreement, self.num_tokens()))
        self.calibration = _TrueCalibration(self.agreement)


class _TrueLink(LinkEstimator):
    def __init__(self, rtt_s: Callable[[], float]) -> None:
        super().__init__()
        self._truth = rtt_s

    @property
    def rtt_s(self) -> float:
        return self._truth()

    @property
    def jitter_s(self) -> float:
        return 0.0


class _TrueValue(Smoothed):
    def __init__(self, truth: Callable[[], float]) -> None:
        super().__init__(1.0)
        self._truth = truth

    def __getattribute__(self, name: str) -> object:
        return super().__getattribute__("_truth")() if name == "value" else super().__getattribute__(name)


class _TrueAgreement(AgreementEstimator):
    def __init__(self, truth: Callable[[], float]) -> None:
        super().__init__()
        self._truth = truth

    @property
    def chance(self) -> float:
        return self._truth()

    def fork(self, *, memory: float) -> AgreementEstimator:
        return self


class _TrueCalibration(Calibration):
    def __init__(self, agreement: AgreementEstimator) -> None:
        super().__init__()
        self._agreement = agreement

    def chance(self, confidence: Confidence, place: int) -> float:
        return self._agreement.chance

    def fork(self) -> Calibration:
        return self

    def adopt(self, other: Calibration) -> None:
        """The truth needs no telling."""
