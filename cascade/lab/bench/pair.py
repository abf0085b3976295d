"""The real pair in real time, edge and device on a core each: hint-driven against plain and ask-and-wait."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ...device import Policy
from ...links import precise
from ...models.paced import RecordedText, Recording
from ...models.runner import ThreadRunner
from ..cores import competitor, pinned, two_cores
from ..forecast import Costs, Curve, best_question, expected_gains, served_curve
from ..formats import cost_curves
from ..pair import Block, Course, Run, dialer, run_block
from ..progress import must, say
from ..record import judged
from ..twin import times_in_virtual_time_s
from ..watched import Step, WatchedEdge, WatchedRunner, watched_edge

if TYPE_CHECKING:
    from ...models.base import LanguageModel

__all__ = ["run"]

TARGET, DRAFT = "smollm2-135m", "smollm2-135m-draft"
ROUND_TRIPS_MS = (0, 20, 50, 100, 200)
BUSY_ROUND_TRIPS_MS = (0, 50)
TEMPERATURES = (0.0, 0.8)
CLOUD, ASK, HINTS = "cloud", "ask_and_wait", "hint_driven"
NEAR_MS = 20
"""Up to this round trip the gain is held against the fast model's."""
MAX_STEP_ROWS = 2
"""Of a draft step: a token, and one more behind a correction. More are a prompt's."""
FIRST_STEP_S = 0.006
"""Of the draft, before it was measured."""


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
        watched_edge(TARGET, dtype, edge_core) as edge,
        pinned(device_core),
        competitor(device_core) if busy else nullcontext(),
    ):
        grid = precise.run(_grid(edge, draft, curves[dtype], quick=quick, is_busy=busy))
    return {
        "target": TARGET,
        "draft": draft,
        "edge_core": edge_core,
        "device_core": device_core,
        "device_is_busy": busy,
        "pass_ms_by_rows": [{"format": name, **_ms_by_rows(curve)} for name, curve in curves.items()],
        "edge_format": dtype,
        "grid": grid,
        "musts": _musts(grid, is_busy=busy),
    }


def _musts(grid: Sequence[Mapping[str, Any]], *, is_busy: bool) -> list[dict[str, Any]]:
    slowest = max(row["hint_driven_by_cloud"] for row in grid)
    if is_busy:
        return [must("hint-driven by plain, device busy", slowest, at_most=1.05)]
    shares = [row["gain_by_expected"] for row in grid if row["rtt_ms"] <= NEAR_MS]
    return [
        must("hint-driven by plain, worst", slowest, at_most=1.03),
        must("gain by the expected one, least, near", min(shares), at_least=0.9),
    ]


async def _grid(
    edge: WatchedEdge, draft_name: str, quiet: Curve, *, quick: bool, is_busy: bool
) -> list[dict[str, Any]]:
    from ...models.distill.result import held_out_prompts
    from ...models.loading import open_model

    num_prompts = 3 if quick else 10 if is_busy else 20
    prompts = held_out_prompts(draft_name)[: num_prompts + 1]  # one to warm up
    round_trips_ms = (0, 50) if quick else BUSY_ROUND_TRIPS_MS if is_busy else ROUND_TRIPS_MS
    draft = await asyncio.to_thread(open_model, draft_name, dtype="int8", device="cpu")
    agreement, step_s = dict.fromkeys(TEMPERATURES, 0.5), FIRST_STEP_S
    rows: list[dict[str, Any]] = []
    clock = _TimeLeft([(1 + rtt_ms / 50) for rtt_ms in round_trips_ms for _ in TEMPERATURES])
    for rtt_ms in round_trips_ms:
        for temperature in TEMPERATURES:
            rtt_s = rtt_ms / 1000
            num_asked = best_question(agreement[temperature], quiet, rtt_s=rtt_s, draft_step_s=step_s)
            courses = {CLOUD: Course(policy=Policy.cloud()), HINTS: Course(policy=Policy.adaptive())}
            if not is_busy:
                # Far away it takes most of the time of all this, so it has every second prompt.
                courses[ASK] = Course(policy=Policy.ask_and_wait(num_asked), every=2)
            steps: list[Step] = []
            block = await run_block(
                dialer(edge.url, rtt_s),
                draft,
                prompts,
                courses,
                rtt_s=rtt_s,
                temperature=temperature,
                num_tokens=24 if quick else 40,
                runner=WatchedRunner(ThreadRunner("draft"), steps.append),
            )
            costs, found = _measured(block, edge.passes(), steps, quiet)
            texts = await asyncio.to_thread(_texts, draft, block)
            row = _row(block, num_asked=num_asked) | found
            row |= await asyncio.to_thread(_forecast, block, _recording(draft, texts), costs)
            agreement[temperature], step_s = row["agreement"], costs.draft_step_s
            rows.append(row)
            say(f"{_line(row)}; {clock.left()}")
    return rows


def _measured(
    block: Block, passes: Sequence[Step], steps: Sequence[Step], quiet: Curve
) -> tuple[Costs, dict[str, Any]]:
    """What things took in these very runs, and the same to be shown."""
    plain_s = statistics.median(block.times_s(CLOUD))
    plain_passes = _during(block.runs[CLOUD], passes)
    one_row_s = statistics.median(step.seconds for step in plain_passes if step.rows == 1)
    between_s = max(0.0, plain_s - one_row_s)
    curve = served_curve(_during(block.runs[HINTS], passes), quiet)
    drafted = [step.seconds for step in _during(block.runs[HINTS], steps) if step.rows <= MAX_STEP_ROWS]
    rtts_s = block.known(HINTS, "rtt_s")
    costs = Costs(
        plain_s=plain_s,
        pass_s={rows: each_s + between_s for rows, each_s in curve.items()},
        draft_step_s=statistics.median(drafted) if drafted else FIRST_STEP_S,
        rtt_s=statistics.median(rtts_s) if rtts_s else block.rtt_s,
    )
    return costs, {
        "served_pass_ms_by_rows": _ms_by_rows(curve),
        "plain_pass_ms": _ms(one_row_s),
        "between_passes_ms": _ms(between_s),
        "measured_rtt_ms": _ms(costs.rtt_s),
        "draft_step_ms": _ms(costs.draft_step_s),
        "edge_queue_ms": _ms(_mean(block.known(HINTS, "edge_queue_s"))),
        "device_load": round(_mean(block.known(HINTS, "device_load")), 3),
    }


def _during(runs: Mapping[int, Run], steps: Sequence[Step]) -> list[Step]:
    """Those that began while one of the runs was under way. Runs follow one another, and so do steps."""
    spans = sorted((run.began_s, run.ended_s) for run in runs.values())
    found, at = [], 0
    for step in steps:
        while at < len(spans) and spans[at][1] <= step.began_s:
            at += 1
        if at < len(spans) and spans[at][0] <= step.began_s:
            found.append(step)
    return found


def _texts(draft: LanguageModel, block: Block) -> dict[int, RecordedText]:
    """What plain streaming answered, and what the draft would have said at each place."""
    return {
        number: judged(draft, one.prompt, one.tokens, one.sampling)
        for number, one in block.runs[CLOUD].items()
        if number in block.runs[HINTS]
    }


def _recording(draft: LanguageModel, texts: Mapping[int, RecordedText]) -> Recording:
    return Recording(
        target=TARGET,
        draft="draft",
        vocab_size=draft.vocab_size,
        vocab_fingerprint=draft.vocab_fingerprint,
        texts=tuple(texts.values()),
    )


def _forecast(block: Block, recording: Recording, costs: Costs) -> dict[str, Any]:
    """Gains of each prompt: real, by the fast model, and by the same code in virtual time."""
    gains = [1 / ratio for ratio in block.ratios(HINTS, CLOUD)]
    expected = expected_gains([text.is_right for text in recording.texts], costs)
    twins = [
        costs.plain_s / time_s for time_s in times_in_virtual_time_s(recording, costs, Policy.adaptive())
    ]
    agreements = [statistics.fmean(text.is_right) for text in recording.texts]
    return {
        "agreement": round(recording.agreement, 3),
        "agreement_middle_half": _middle_half(agreements),
        "gain": round(statistics.median(gains), 3),
        "gain_middle_half": _middle_half(gains),
        "expected_gain": round(statistics.median(expected), 3),
        "expected_gain_middle_half": _middle_half(expected),
        "gain_by_expected": round(statistics.median(gains) / statistics.median(expected), 3),
        "gain_in_virtual_time": round(statistics.median(twins), 3),
        "prompts": [
            {
                "tokens": len(text.answer),
                "agreement": round(agreement, 3),
                "gain": round(gain, 3),
                "expected_gain": round(expected_gain, 3),
                "gain_in_virtual_time": round(twin, 3),
            }
            for text, agreement, gain, expected_gain, twin in zip(
                recording.texts, agreements, gains, expected, twins, strict=True
            )
        ],
    }


def _row(block: Block, *, num_asked: int) -> dict[str, Any]:
    """What each policy took, and by how much ours is faster."""
    ratios = block.ratios(HINTS, CLOUD)
    row: dict[str, Any] = {"rtt_ms": round(block.rtt_s * 1000), "temperature": block.temperature}
    for name, runs in block.runs.items():
        row[f"{name}_ms_per_token"] = _ms(statistics.median(block.times_s(name)))
        row[f"{name}_first_token_ms"] = round(statistics.median(block.first_tokens_s(name)) * 1000, 1)
        row[f"{name}_answers"] = len(runs)
    row |= {
        "hint_driven_by_cloud": round(statistics.median(ratios), 3),
        "middle_half": _middle_half(ratios),
        "first_token_by_cloud": round(_first_token_ratio(block), 3),
        "tokens_per_pass": round(_mean(block.known(HINTS, "tokens_per_pass")), 3),
    }
    if ASK in block.runs:
        row["ask_and_wait_k"] = num_asked
        row["ask_and_wait_by_cloud"] = round(statistics.median(block.ratios(ASK, CLOUD)), 3)
    return row


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
        f"expected {row['expected_gain']}, in virtual time {row['gain_in_virtual_time']})"
    )


def _middle_half(values: Sequence[float]) -> list[float]:
    quarters = statistics.quantiles(values, n=4, method="inclusive")
    return [round(quarters[0], 3), round(quarters[2], 3)]


def _ms_by_rows(curve: Curve) -> dict[str, float]:
    return {str(rows): _ms(seconds) for rows, seconds in curve.items()}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


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
