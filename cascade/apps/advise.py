"""`cascade advise`: figures of a place, measured or declared, and what follows from them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..errors import SettingsError
from ..lab.advice import AXES, Axis, Crossing, Expectation, Situation, crossings, expect
from ..lab.energy import EnergyMeter
from ..lab.plots import check_plot, plot_advice
from ..lab.survey import DraftFound, EdgeFound, device_load, measure_draft, measure_edge
from ..links.profiles import load_profile
from ..links.urls import dialer_for
from ..models.runner import ThreadRunner
from ..prices import Objective, Prices
from ..settings import check_choice, check_number, from_mapping

__all__ = ["Wanted", "gather", "main"]

IDENTITY = "advise"
UNKNOWN_AGREEMENT = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The command's options. None: to be measured, or not there."""

    draft: str | None = None
    draft_step_ms: float | None = None
    draft_joules: float | None = None
    edge: str | None = None
    token: str = ""
    pass_ms: float | None = None
    row_ms: float | None = None
    profile: str | None = None
    rtt_ms: float | None = None
    jitter_ms: float | None = None
    agreement: float | None = None
    quality: float = 0.9
    objective: str = Objective.LATENCY.value
    prices: Path | None = None
    device_load: float | None = None
    edge_load: float = 0.0
    num_prompt_tokens: int = 100
    num_tokens: int = 100

    def __post_init__(self) -> None:
        for field in ("draft_step_ms", "draft_joules", "row_ms", "rtt_ms", "jitter_ms"):
            value = getattr(self, field)
            if value is not None:
                check_number(field, value, low=0)
        if self.pass_ms is not None:
            check_number("pass_ms", self.pass_ms, low=0.001)
        check_choice("objective", self.objective, tuple(each.value for each in Objective))
        if self.draft is None and self.draft_step_ms is None:
            raise SettingsError(
                "draft", "name one to measure (--draft), or declare its step (--draft-step-ms; 0: none)"
            )
        if self.draft is not None and self.draft_step_ms is not None:
            raise SettingsError("draft_step_ms", "leave it out: --draft measures it")
        if self.edge is None and self.pass_ms is None:
            raise SettingsError("edge", "name one to measure (--edge), or declare its pass (--pass-ms)")
        if self.profile is not None and self.rtt_ms is not None:
            raise SettingsError("rtt_ms", "leave it out: the profile says it")
        if self.edge is None and self.profile is None and self.rtt_ms is None:
            raise SettingsError("profile", "say how far the edge is: --profile NAME, --rtt-ms, or --edge URL")


def main(wanted: Wanted, *, plot: str | None, json_output: bool) -> None:
    """Gather, predict, print."""
    if plot is not None:
        check_plot(plot)
    prices = _prices(wanted)
    situation, prices, found = asyncio.run(gather(wanted, prices))
    expectations = expect(situation, prices)
    turns = {axis: crossings(situation, prices, axis) for axis in AXES}
    if json_output:
        print(json.dumps(_figures(situation, prices, found, expectations, turns)))
    else:
        _print(Console(highlight=False), situation, prices, found, expectations, turns)
    if plot is not None:
        plot_advice(situation, prices, plot)


def _prices(wanted: Wanted) -> Prices:
    if wanted.prices is None:
        return Objective(wanted.objective).prices
    try:
        return from_mapping(Prices, tomllib.loads(wanted.prices.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError("prices", f"cannot read {wanted.prices}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("prices", f"{wanted.prices} is no TOML file: {error}") from None


async def gather(wanted: Wanted, prices: Prices) -> tuple[Situation, Prices, dict[str, str]]:
    """Measure what is to be measured. With it goes a word on where each figure comes from."""
    found = {"draft": "declared", "edge": "declared", "link": "declared"}
    model = runner = None
    if wanted.draft is not None:
        model = await asyncio.to_thread(_open, wanted.draft)
        runner = ThreadRunner("cascade-draft")
    try:
        draft, load = None, wanted.device_load
        if model is not None and runner is not None:
            load = device_load() if load is None else load
            meter = await asyncio.to_thread(EnergyMeter, watts=prices.draft_watts)
            draft = await measure_draft(model, runner, meter)
            is_counted = draft.energy is not None and draft.energy.is_measured
            found["draft"] = f"measured, energy by {'RAPL' if is_counted else 'processor time'}"
        edge = None
        if wanted.edge is not None:
            dial = dialer_for(wanted.edge, identity=IDENTITY, token=wanted.token)
            edge = await measure_edge(dial, identity=IDENTITY, token=wanted.token, draft=model, runner=runner)
            found["edge"] = found["link"] = "measured"
    finally:
        if runner is not None:
            runner.close()
    if wanted.profile is not None:
        found["link"] = f"profile {wanted.profile}"
    if wanted.rtt_ms is not None:
        found["link"] = "declared"
    step_j = wanted.draft_joules
    if step_j is None and draft is not None and draft.energy is not None:
        step_j = draft.energy.joules
    if prices.draft_step_j is None and step_j is not None:
        prices = dataclasses.replace(prices, draft_step_j=step_j)
    return _situation(wanted, draft, edge, load or 0.0), prices, found


def _situation(wanted: Wanted, draft: DraftFound | None, edge: EdgeFound | None, load: float) -> Situation:
    rtt_s, jitter_s = _link(wanted, edge)
    agreement = wanted.agreement
    if agreement is None:
        agreement = UNKNOWN_AGREEMENT if edge is None or edge.agreement is None else edge.agreement
        agreement = min(max(agreement, 0.02), 0.98)
    pass_s = edge.pass_s if wanted.pass_ms is None and edge is not None else (wanted.pass_ms or 0.0) / 1000
    row_s = edge.row_s if wanted.row_ms is None and edge is not None else (wanted.row_ms or 0.0) / 1000
    step_s = None
    if draft is not None:
        step_s = draft.step_s * (1 - load)  # as it would be, had the device nothing else to do
    elif wanted.draft_step_ms:
        step_s = wanted.draft_step_ms / 1000
    return Situation(
        rtt_s=rtt_s,
        jitter_s=jitter_s,
        pass_s=pass_s,
        row_s=row_s,
        draft_step_s=step_s,
        draft_row_s=0.0 if draft is None else draft.row_s * (1 - load),
        agreement=agreement,
        quality=wanted.quality,
        device_load=load,
        edge_load=wanted.edge_load,
        num_prompt_tokens=wanted.num_prompt_tokens,
        num_tokens=wanted.num_tokens,
    )


def _link(wanted: Wanted, edge: EdgeFound | None) -> tuple[float, float]:
    """Round trip without jitter, and mean jitter of either way."""
    if wanted.profile is not None:
        profile = load_profile(wanted.profile)
        return profile.up.delay_s + profile.down.delay_s, (profile.up.jitter_s + profile.down.jitter_s) / 2
    jitter_s = None if wanted.jitter_ms is None else wanted.jitter_ms / 1000
    if wanted.rtt_ms is not None:
        return wanted.rtt_ms / 1000, jitter_s or 0.0
    assert edge is not None  # checked by Wanted
    jitter_s = edge.jitter_s if jitter_s is None else jitter_s
    return max(0.0, edge.rtt_s - 2 * jitter_s), jitter_s


def _open(ref: str) -> Any:
    from ..errors import ModelError

    try:
        from ..models.loading import open_model

        return open_model(ref, dtype="int8")
    except ImportError as error:
        raise ModelError(
            "to measure a draft model takes torch: pip install 'cascade-edge[models]'; "
            "or declare it: --draft-step-ms"
        ) from error


# What is said


def _figures(
    situation: Situation,
    prices: Prices,
    found: dict[str, str],
    expectations: list[Expectation],
    turns: dict[Axis, list[Crossing]],
) -> dict[str, Any]:
    return {
        "mode": expectations[0].mode.value,
        "sources": found,
        "situation": dataclasses.asdict(situation),
        "prices": dataclasses.asdict(prices),
        "modes": [{**dataclasses.asdict(each), "mode": each.mode.value} for each in expectations],
        "crossings": [
            {
                "axis": axis.name,
                "unit": axis.unit,
                "now": axis.scale * axis.now(situation, prices),
                "from": axis.scale * crossing.value,
                "before": crossing.before.value,
                "after": crossing.after.value,
            }
            for axis, each in turns.items()
            for crossing in each
        ],
    }


def _print(
    console: Console,
    situation: Situation,
    prices: Prices,
    found: dict[str, str],
    expectations: list[Expectation],
    turns: dict[Axis, list[Crossing]],
) -> None:
    console.print(f"[bold]{expectations[0].mode.value}[/bold] is the mode for this place")
    step_s = situation.draft_step_s
    step = "no draft" if step_s is None else f"draft step {1000 * step_s:.3g} ms ({found['draft']})"
    console.print(
        f"{step}, load {situation.device_load:.0%}; "
        f"link {1000 * situation.rtt_s:.4g} ms there and back, jitter {1000 * situation.jitter_s:.3g} ms "
        f"({found['link']}); edge {1000 * situation.pass_s:.4g} ms a pass, {1000 * situation.row_s:.3g} ms "
        f"a row more ({found['edge']}), load {situation.edge_load:.0%}; agreement {situation.agreement:.3g}, "
        f"quality {situation.quality:g}",
        soft_wrap=True,
    )
    table = Table(
        "mode",
        "first token ms",
        "ms a token",
        "cost of 1000",
        "of it expenses",
        "J of 1000",
        "the target's own",
    )
    for each in expectations:
        own = f"{each.agreement:.1%}" + ("" if each.keeps_quality else " (too few)")
        table.add_row(
            each.mode.value,
            f"{1000 * each.first_token_s:.0f}",
            f"{1000 * each.s_per_token:.1f}",
            f"{each.cost_per_1000:.4g}",
            f"{each.expenses_per_1000:.4g}",
            f"{each.energy_j_per_1000:.4g}",
            own,
        )
    console.print(table)
    console.print("everything else being equal:")
    for axis, found_there in turns.items():
        now = f"{axis.scale * axis.now(situation, prices):.4g} {axis.unit}".strip()
        if not found_there:
            console.print(f"  {axis.name} (now {now}): no other mode is ever better")
        for crossing in found_there:
            value = f"{axis.scale * crossing.value:.3g} {axis.unit}".strip()
            modes = f"{crossing.after.value}, below {crossing.before.value}"
            console.print(f"  {axis.name} (now {now}): from {value} on {modes}")
