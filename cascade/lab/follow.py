"""Does what is kept follow link and load? One answer, while the link, or the device, changes by a script."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding import Sampling
from ..device import Device, Ledger
from ..device.cascade_stream import CascadeStream
from ..edge import EdgeServer
from ..events import Source, Token
from ..links.base import Link
from ..models.runner import PacedRunner, constant_cost
from ..models.synthetic import SyntheticDraft, SyntheticTarget
from ..testing import Conditions, EmulatedLink, MemoryListener, run_virtual
from .kept import AGREEMENT
from .promise import own_picks

__all__ = ["LINK_SCRIPT", "LOAD_SCRIPT", "Phase", "follow", "plot_followed"]

LOOK_EVERY_S = 0.1
PROMPT = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Circumstances that last for a while."""

    name: str
    lasts_s: float
    rtt_s: float
    draft_step_s: float = 0.005
    is_down: bool = False


FAST = Phase(name="fast", lasts_s=20, rtt_s=0.004)
SLOW = Phase(name="slow", lasts_s=40, rtt_s=0.2)
LINK_SCRIPT = (FAST, SLOW, Phase(name="down", lasts_s=5, rtt_s=0.2, is_down=True), FAST)
IDLE = Phase(name="idle", lasts_s=30, rtt_s=0.2)
LOAD_SCRIPT = (IDLE, Phase(name="device busy", lasts_s=20, rtt_s=0.2, draft_step_s=0.03), IDLE)


def follow(
    script: Sequence[Phase], *, quality: float = 0.9, pass_s: float = 0.02, bin_s: float = 2.0, seed: int = 0
) -> dict[str, Any]:
    """By phase, and over time in bins: the threshold, what was kept, what the reader waited for."""
    return run_virtual(_follow(script, quality, pass_s, bin_s, seed), limit_s=10_000)


async def _follow(
    script: Sequence[Phase], quality: float, pass_s: float, bin_s: float, seed: int
) -> dict[str, Any]:
    now_s = asyncio.get_running_loop().time
    target = SyntheticTarget(seed=seed)
    draft = SyntheticDraft(target, agreement=AGREEMENT, seed=seed + 1)
    listener = MemoryListener()
    links: list[EmulatedLink] = []
    at = script[0]

    async def dial() -> Link:
        one_way = Conditions(delay_s=at.rtt_s / 2)
        links.append(EmulatedLink(await listener.dial(), up=one_way, down=one_way, seed=seed))
        return links[-1]

    tokens: list[Token] = []
    thresholds: list[tuple[float, float]] = []

    async def read(stream: CascadeStream) -> None:
        async for token in stream:
            tokens.append(token)

    async def look(stream: CascadeStream) -> None:
        while True:
            thresholds.append((now_s(), stream.threshold))
            await asyncio.sleep(LOOK_EVERY_S)

    ledger = Ledger()
    runner = PacedRunner(lambda _rows: at.draft_step_s)
    begun: list[tuple[Phase, float]] = []
    async with EdgeServer.of(target, PacedRunner(constant_cost(pass_s))) as edge:
        edge.listen(listener)
        async with Device([dial], draft=draft, runner=runner, seed=1, ledger=ledger) as device:
            stream = device.stream(PROMPT, max_new_tokens=1 << 20, quality=quality)
            assert isinstance(stream, CascadeStream)
            tasks = [asyncio.create_task(work) for work in (read(stream), look(stream))]
            for phase in script:
                at = phase
                begun.append((phase, now_s()))
                one_way = Conditions(delay_s=at.rtt_s / 2)
                for link in links:
                    link.change(up=one_way, down=one_way)
                    if at.is_down:
                        link.cut(at.lasts_s)
                await asyncio.sleep(phase.lasts_s)
            ended_s = now_s()
            stream.cancel()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    is_own = own_picks(target, PROMPT, Sampling(), [token.id for token in tokens])
    seen = _Seen(tokens, is_own, thresholds)
    bounds = [*(start_s for _, start_s in begun), ended_s]
    num_bins = round((ended_s - bounds[0]) / bin_s)
    return {
        "phases": [
            {"phase": phase.name, **seen.between(start_s, end_s)}
            for (phase, start_s), end_s in zip(begun, bounds[1:], strict=True)
        ],
        "over_time": [
            seen.between(bounds[0] + index * bin_s, bounds[0] + (index + 1) * bin_s)
            for index in range(num_bins)
        ],
        "quality": sum(is_own) / len(is_own),
        "promised": quality,
    }


@dataclass(frozen=True, slots=True)
class _Seen:
    tokens: Sequence[Token]
    is_own: Sequence[bool]
    thresholds: Sequence[tuple[float, float]]

    def between(self, start_s: float, end_s: float) -> dict[str, Any]:
        here = [token for token in self.tokens if start_s <= token.time_s < end_s]
        taus = [tau for time_s, tau in self.thresholds if start_s <= time_s < end_s]
        times_s = [start_s, *(token.time_s for token in here), end_s]
        longest_s = max(after - before for before, after in itertools.pairwise(times_s))
        num_kept = sum(token.source is Source.KEPT for token in here)
        return {
            "from_s": start_s,
            "tokens": len(here),
            "threshold": sum(taus) / len(taus) if taus else 0.0,
            "kept_share": num_kept / len(here) if here else 0.0,
            "ms_per_token": (end_s - start_s) / len(here) * 1000 if here else None,
            "longest_wait_ms": longest_s * 1000,
        }


def plot_followed(scripts: dict[str, dict[str, Any]], path: str) -> None:
    """Threshold, kept share and time per token over time, one column for each script."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(scripts), 7), layout="constrained")
    grid = figure.subplots(3, len(scripts), sharex="col", squeeze=False)
    rows = (("threshold", "threshold of doubt"), ("kept_share", "kept"), ("ms_per_token", "ms per token"))
    for column, (name, found) in zip(grid.T, scripts.items(), strict=True):
        over_time, phases = found["over_time"], found["phases"]
        times_s = [each["from_s"] for each in over_time]
        for axes, (field, label) in zip(column, rows, strict=True):
            values = [float("nan") if each[field] is None else each[field] for each in over_time]
            axes.step(times_s, values, where="post")
            axes.set(ylabel=label, ylim=(0, None))
            axes.grid(alpha=0.3)
            for index, phase in enumerate(phases):
                axes.axvline(phase["from_s"], color="grey", linewidth=0.8)
                if index % 2:
                    end_s = phases[index + 1]["from_s"] if index + 1 < len(phases) else times_s[-1]
                    axes.axvspan(phase["from_s"], end_s, color="grey", alpha=0.1)
        for phase in phases:
            column[0].text(phase["from_s"], column[0].get_ylim()[1], f" {phase['phase']}", va="bottom")
        column[0].set_title(name, pad=18)
        column[-1].set(xlabel="seconds")
    figure.savefig(path, dpi=120)
