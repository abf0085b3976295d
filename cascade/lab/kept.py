"""Cascade mode in virtual time: the real device, edge and link, the synthetic pair, and a replay."""

from __future__ import annotations

from dataclasses import dataclass

from ..decoding import Sampling
from ..device import Device, Ledger, Policy
from ..edge import EdgeServer
from ..events import Summary
from ..links.base import Link
from ..models.runner import PacedRunner, constant_cost
from ..models.synthetic import BetaAgreement, SyntheticDraft, SyntheticTarget
from ..testing import Conditions, EmulatedLink, MemoryListener, run_virtual
from .promise import own_picks

__all__ = ["KeptOutcome", "KeptSetting", "simulate_kept"]


AGREEMENT = BetaAgreement(mean=0.8, concentration=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSetting:
    """One account with one long answer; the defaults are those of the design."""

    quality: float
    """1: lossless."""
    num_tokens: int
    threshold: float | None = None
    rtt_s: float = 0.1
    draft_step_s: float = 0.005
    pass_s: float = 0.05
    agreement: BetaAgreement = AGREEMENT
    is_plain: bool = False
    """Plain streaming, for comparison."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOutcome:
    """What came of it."""

    summary: Summary
    quality: float
    """By replay."""
    passes_per_token: float

    @property
    def kept_share(self) -> float:
        return self.summary.num_kept / self.summary.num_tokens

    @property
    def at_once_share(self) -> float:
        return self.summary.num_at_once / self.summary.num_tokens


def simulate_kept(setting: KeptSetting) -> KeptOutcome:
    """Run it to its end, and replay it."""
    return run_virtual(_simulate(setting), limit_s=100 + setting.num_tokens * (1 + setting.rtt_s))


async def _simulate(setting: KeptSetting) -> KeptOutcome:
    target = SyntheticTarget(seed=setting.seed)
    draft = SyntheticDraft(target, agreement=setting.agreement, seed=setting.seed + 1)
    listener = MemoryListener()
    one_way = Conditions(delay_s=setting.rtt_s / 2)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=one_way, down=one_way, seed=setting.seed)

    edge = EdgeServer.of(target, PacedRunner(constant_cost(setting.pass_s)))
    runner = PacedRunner(constant_cost(setting.draft_step_s))
    prompt = [1 + setting.seed % 60, 2, 3]
    async with edge:
        edge.listen(listener)
        async with Device([dial], draft=draft, runner=runner, seed=1, ledger=Ledger()) as device:
            stream = device.stream(
                prompt,
                max_new_tokens=setting.num_tokens,
                quality=setting.quality,
                threshold=setting.threshold,
                policy=Policy.cloud() if setting.is_plain else None,
            )
            async for _token in stream:
                pass
            summary, tokens = stream.summary, stream.tokens
    is_own = own_picks(target, prompt, Sampling(), tokens)
    return KeptOutcome(
        summary=summary,
        quality=sum(is_own) / len(is_own),
        passes_per_token=edge.engine.stats.num_passes / len(tokens),
    )
