"""One device, one edge, one emulated link, the synthetic pair: the whole system in virtual time."""

from __future__ import annotations

from dataclasses import dataclass

from ..decoding import Sampling, pick
from ..device import Device, Policy
from ..edge import EdgeServer, EdgeSettings
from ..events import Summary
from ..links.base import Link
from ..models.base import Feed
from ..models.runner import PacedRunner, constant_cost
from ..testing import Conditions, EmulatedLink, MemoryListener, SyntheticDraft, SyntheticTarget, run_virtual

__all__ = ["Outcome", "Setting", "agreements", "simulate"]


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
    """Of one row."""
    row_s: float = 0.0
    """What each further row adds to a pass."""
    jitter_s: float = 0.0
    """Mean of an exponential delay on top of either way."""
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


def agreements(setting: Setting) -> list[bool]:
    """Does the draft, given the true text before, agree at each position of this setting's text?"""
    target, draft = _pair(setting)
    text = _prompt(setting)
    sequence = target.new_sequence()
    fed, agreed = text, []
    for position in range(len(text), len(text) + setting.num_tokens):
        logits = target.forward([Feed(sequence, fed, 1)])
        agreed.append(draft.agrees(sequence.states[-1]))
        fed = [pick(logits[0], Sampling(), position)]
    return agreed


def _pair(setting: Setting) -> tuple[SyntheticTarget, SyntheticDraft]:
    target = SyntheticTarget(seed=setting.seed)
    return target, SyntheticDraft(
        target, agreement=setting.agreement, seed=setting.seed + 1, rotation=setting.rotation
    )


def _prompt(setting: Setting) -> list[int]:
    return [1 + setting.seed % 60, 2, 3]


async def _simulate(setting: Setting) -> Outcome:
    target, draft = _pair(setting)
    listener = MemoryListener()
    one_way = Conditions(delay_s=setting.rtt_s / 2, jitter_s=setting.jitter_s)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=one_way, down=one_way, seed=setting.seed)

    edge = EdgeServer.of(
        target,
        PacedRunner(lambda rows: setting.pass_s + setting.row_s * (rows - 1)),
        settings=EdgeSettings(max_fed_hints=setting.max_fed_hints),
    )
    device = Device([dial], draft=draft, runner=PacedRunner(constant_cost(setting.draft_step_s)), seed=1)
    async with edge:
        edge.listen(listener)
        async with device:
            stream = device.stream(_prompt(setting), max_new_tokens=setting.num_tokens, policy=setting.policy)
            async for _token in stream:
                pass
            summary = stream.summary
    num_bytes = summary.bytes_up + summary.bytes_down
    return Outcome(
        summary=summary,
        passes_per_token=edge.engine.stats.num_passes / summary.num_tokens,
        payload_bytes_per_token=num_bytes / summary.num_tokens,
    )
