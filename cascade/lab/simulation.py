"""One device, one edge, one emulated link, the synthetic pair: the whole system in virtual time."""

from __future__ import annotations

from dataclasses import dataclass

from ..device import Device, Policy
from ..edge import EdgeServer, EdgeSettings
from ..events import Summary
from ..links.base import Link
from ..models.runner import PacedRunner, constant_cost
from ..testing import Conditions, EmulatedLink, MemoryListener, SyntheticDraft, SyntheticTarget, run_virtual

__all__ = ["Outcome", "Setting", "simulate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of an experiment; the defaults are the ones of the design's table."""

    agreement: float
    rtt_s: float
    policy: Policy
    num_tokens: int
    seed: int = 0
    rotation: float = 0.0
    """Of the draft's dice, see `SyntheticDraft`."""
    draft_step_s: float = 0.005
    pass_s: float = 0.050
    max_fed_hints: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it."""

    summary: Summary
    passes_per_token: float
    payload_bytes_per_token: float


def simulate(setting: Setting) -> Outcome:
    """Run one stream to its end."""
    return run_virtual(_simulate(setting), limit_s=60 + setting.num_tokens * (1 + setting.rtt_s))


async def _simulate(setting: Setting) -> Outcome:
    target = SyntheticTarget(seed=setting.seed)
    draft = SyntheticDraft(
        target, agreement=setting.agreement, seed=setting.seed + 1, rotation=setting.rotation
    )
    listener = MemoryListener()
    one_way = Conditions(delay_s=setting.rtt_s / 2)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=one_way, down=one_way)

    edge = EdgeServer.of(
        target,
        PacedRunner(constant_cost(setting.pass_s)),
        settings=EdgeSettings(max_fed_hints=setting.max_fed_hints),
    )
    device = Device([dial], draft=draft, runner=PacedRunner(constant_cost(setting.draft_step_s)), seed=1)
    async with edge:
        edge.listen(listener)
        async with device:
            prompt = [1 + setting.seed % 60, 2, 3]
            stream = device.stream(prompt, max_new_tokens=setting.num_tokens, policy=setting.policy)
            async for _token in stream:
                pass
            summary = stream.summary
    num_bytes = summary.bytes_up + summary.bytes_down
    return Outcome(
        summary=summary,
        passes_per_token=edge.engine.stats.num_passes / summary.num_tokens,
        payload_bytes_per_token=num_bytes / summary.num_tokens,
    )
