"""The real pair in real time, edge and device on a core each: hint-driven against plain and ask-and-wait."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from cascade.device import Policy

from ..cores import competitor, pinned, real_edge, two_cores
from ..forecast import best_question, expected_gain
from ..formats import cost_curves
from ..pair import Block, Course, agreed, run_block
from ..progress import must, say

__all__ = ["run"]

TARGET, DRAFT = "smollm2-135m", "smollm2-135m-draft"
ROUND_TRIPS_MS = (0, 20, 50, 100, 200)
BUSY_ROUND_TRIPS_MS = (0, 50)
TEMPERATURES = (0.0, 0.8)
CLOUD, ASK, HINTS = "cloud", "ask_and_wait", "hint_driven"
NEAR_MS = 20
"""Up to this round trip the gain is held against the fast model's."""
Curve = Mapping[int, float]


def run(*, quick: bool = False, busy: bool = False, draft: str = DRAFT) -> dict[str, Any]:
    """Needs the target (cascade models fetch) and two cores.

    `busy` puts another process on the device's core. `quick` takes two round trips and three prompts. Times
    are medians over prompts, ratios are medians of each prompt's ratio to plain streaming of the same prompt.
    """
    edge_core, device_core = two_cores()
    say("measuring the target's formats")
    curves = cost_curves(TARGET, edge_core, 4 if quick else 15, time.perf_counter)
    dtype = min(curves, key=lambda name: curves[name][1])
    say(f"starting an edge in {dtype}")
    with (
        real_edge(TARGET, dtype, edge_core) as url,
        pinned(device_core),
        competitor(device_core) if busy else nullcontext(),
    ):
        grid = asyncio.run(_grid(url, draft, curves[dtype], quick=quick, is_busy=busy))
    return {
        "target": TARGET,
        "draft": draft,
        "edge_core": edge_core,
        "device_core": device_core,
        "device_is_busy": busy,
        "pass_ms_by_rows": [
            {"format": name, **{str(rows): round(s * 1000, 2) for rows, s in curve.items()}}
            for name, curve in curves.items()
        ],
        "edge_format": dtype,
        "grid": grid,
        "musts": _musts(grid, is_busy=busy),
    }


def _musts(grid: Sequence[Mapping[str, Any]], *, is_busy: bool) -> list[dict[str, Any]]:
    slowest = max(row["hint_driven_by_cloud"] for row in grid)
    if is_busy:
        return [must("hint-driven by plain, device busy", slowest, at_most=1.05)]
    shares = [row["gain"] / row["expected_gain"] for row in grid if row["rtt_ms"] <= NEAR_MS]
    return [
        must("hint-driven by plain, worst", slowest, at_most=1.03),
        must("gain by the expected one, least, near", min(shares), at_least=0.9),
    ]


async def _grid(
    url: str, draft_name: str, curve: Curve, *, quick: bool, is_busy: bool
) -> list[dict[str, Any]]:
    from cascade.models.distill.result import held_out_prompts
    from cascade.models.loading import open_model

    num_prompts = 3 if quick else 10 if is_busy else 20
    num_tokens = 24 if quick else 40
    prompts = held_out_prompts(draft_name)[: num_prompts + 1]  # one to warm up
    round_trips_ms = (0, 50) if quick else BUSY_ROUND_TRIPS_MS if is_busy else ROUND_TRIPS_MS
    draft = await asyncio.to_thread(open_model, draft_name, dtype="int8", device="cpu")
    agreement, step_s = dict.fromkeys(TEMPERATURES, 0.5), 0.006
    rows: list[dict[str, Any]] = []
    clock = _TimeLeft([(1 + rtt_ms / 50) for rtt_ms in round_trips_ms for _ in TEMPERATURES])
    for rtt_ms in round_trips_ms:
        for temperature in TEMPERATURES:
            rtt_s = rtt_ms / 1000
            num_asked = best_question(agreement[temperature], curve, rtt_s=rtt_s, draft_step_s=step_s)
            courses = {CLOUD: Course(policy=Policy.cloud()), HINTS: Course(policy=Policy.adaptive())}
            if not is_busy:
                # Far away it takes most of the time of all this, so it has every second prompt.
                courses[ASK] = Course(policy=Policy.ask_and_wait(num_asked), every=2)
            block = await run_block(
                url,
                draft,
                prompts,
                courses,
                rtt_s=rtt_s,
                temperature=temperature,
                num_tokens=num_tokens,
            )
            coins = [coin for one in block.runs[CLOUD].values() for coin in agreed(draft, one)]
            agreement[temperature] = statistics.fmean(coins)
            step_s = block.mean(HINTS, "draft_step_s")
            rows.append(_row(block, coins, curve, num_asked=num_asked))
            say(f"{_line(rows[-1])}; {clock.left()}")
    return rows


def _row(block: Block, coins: Sequence[bool], curve: Curve, *, num_asked: int) -> dict[str, Any]:
    plain_s = statistics.median(block.times_s(CLOUD))
    ratios = sorted(block.ratios(HINTS, CLOUD))
    step_s = block.mean(HINTS, "draft_step_s")
    row: dict[str, Any] = {"rtt_ms": round(block.rtt_s * 1000), "temperature": block.temperature}
    for name, runs in block.runs.items():
        row[f"{name}_ms_per_token"] = round(statistics.median(block.times_s(name)) * 1000, 2)
        row[f"{name}_first_token_ms"] = round(statistics.median(block.first_tokens_s(name)) * 1000, 1)
        row[f"{name}_answers"] = len(runs)
    ratio = statistics.median(ratios)
    quarters = statistics.quantiles(ratios, n=4, method="inclusive")
    row |= {
        "hint_driven_by_cloud": round(ratio, 3),
        "middle_half": [round(quarters[0], 3), round(quarters[2], 3)],
        "first_token_by_cloud": round(_first_token_ratio(block), 3),
    }
    if ASK in block.runs:
        row["ask_and_wait_k"] = num_asked
        row["ask_and_wait_by_cloud"] = round(statistics.median(block.ratios(ASK, CLOUD)), 3)
    gain = expected_gain(coins, curve, rtt_s=block.rtt_s, draft_step_s=step_s, pass_s=plain_s)
    return row | {
        "agreement": round(statistics.fmean(coins), 3),
        "draft_step_ms": round(step_s * 1000, 2),
        "tokens_per_pass": round(block.mean(HINTS, "tokens_per_pass"), 3),
        "gain": round(1 / ratio, 3),
        "expected_gain": round(gain, 3),
    }


def _first_token_ratio(block: Block) -> float:
    plain = block.runs[CLOUD]
    return statistics.median(
        one.summary.time_to_first_token_s / plain[number].summary.time_to_first_token_s
        for number, one in block.runs[HINTS].items()
        if number in plain
    )


def _line(row: Mapping[str, Any]) -> str:
    asked = f", ask-and-wait {row['ask_and_wait_ms_per_token']} ms" if ASK + "_ms_per_token" in row else ""
    return (
        f"R = {row['rtt_ms']} ms, T = {row['temperature']}: plain {row['cloud_ms_per_token']} ms a token"
        f"{asked}, hint-driven {row['hint_driven_ms_per_token']} ms (gain {row['gain']}, "
        f"expected {row['expected_gain']})"
    )


class _TimeLeft:
    """By the weights of what is done and what is to come."""

    def __init__(self, weights: Sequence[float], now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._weights = list(weights)
        self._total = sum(weights)
        self._started_s = now()

    def left(self) -> str:
        """Called once after each part."""
        self._weights.pop(0)
        to_come = sum(self._weights)
        seconds = (self._now() - self._started_s) * to_come / (self._total - to_come)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
