"""Cascade mode with the real pair in real time: each promise on an account of its own, and a replay after it.

The same prompts plainly, losslessly and at two qualities, in turns; then the target reads every delivered
token once more, and what it picks is held against the books. An edge in the fastest weight format is what one
would use; but passes of other widths have other near ties there. So there is an exact one, too, where the
books must be right to the last token.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...device import Policy
from ...models.base import LanguageModel
from ..cores import pinned, real_edge, two_cores
from ..formats import cost_curves
from ..pair import Block, Course, dialer, run_block
from ..progress import must, say
from ..verdicts import Replay, replay

__all__ = ["Found", "Place", "measure", "musts_of"]

TARGET, DRAFT = "smollm2-135m", "smollm2-135m-draft"
QUALITIES = (0.9, 0.95)
CLOUD, LOSSLESS = "cloud", "lossless"
FAR_MS, NEAR_MS = 100, 20
"""Round trips: on the first a correction costs more than a disagreement, on the second it does not."""
NEAR_TIE = 0.5
"""Scores that differ by less may change places in a pass of another width."""


@dataclass(frozen=True, slots=True)
class Edge:
    """In which format the target is served."""

    dtype: str
    is_exact: bool = False

    @property
    def name(self) -> str:
        return f"{self.dtype}, exact" if self.is_exact else self.dtype

    @property
    def options(self) -> tuple[str, ...]:
        """Of `cascade serve`."""
        return ("--exact",) if self.is_exact else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A link, and what is asked there."""

    rtt_ms: int
    temperature: float
    qualities: Sequence[float] = QUALITIES
    has_references: bool = True
    """Plain and lossless streams beside."""

    def courses(self) -> dict[str, Course]:
        """With new accounts."""
        names = {CLOUD: Policy.cloud(), LOSSLESS: Policy.adaptive()} if self.has_references else {}
        references = {name: Course(policy=policy) for name, policy in names.items()}
        return references | {
            f"quality {quality:g}": Course(policy=Policy.adaptive(), quality=quality)
            for quality in self.qualities
        }


SERVED = [
    Place(rtt_ms=FAR_MS, temperature=0.0),
    Place(rtt_ms=FAR_MS, temperature=0.8),
    Place(rtt_ms=NEAR_MS, temperature=0.0, qualities=QUALITIES[:1]),
]
EXACT = [Place(rtt_ms=FAR_MS, temperature=0.8, has_references=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One course at one place."""

    edge: Edge
    place: Place
    course: str
    block: Block
    replay: Replay


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Needs the target (cascade models fetch) and two cores. `quick`: four short answers in each course."""
    from cascade.models.distill.result import held_out_prompts
    from cascade.models.loading import open_model

    edge_core, device_core = two_cores()
    say("measuring the target's formats")
    curves = cost_curves(TARGET, edge_core, 4, time.perf_counter)
    fastest = Edge(min(curves, key=lambda name: curves[name][1]))
    num_prompts, num_tokens = (4, 24) if quick else (40, 40)
    prompts = held_out_prompts(DRAFT)[: num_prompts + 1]  # one to warm up
    found: list[Found] = []
    with pinned(device_core):
        draft = open_model(DRAFT, dtype="int8", device="cpu")
        for edge, places in ((fastest, SERVED[:1] if quick else SERVED), (Edge("bfloat16", True), EXACT)):
            found += _ask(edge, edge_core, places, draft, prompts, num_tokens)
    return {
        "target": TARGET,
        "draft": DRAFT,
        "edge_core": edge_core,
        "device_core": device_core,
        "prompts": num_prompts,
        "tokens": num_tokens,
        "near_tie": NEAR_TIE,
        "musts": musts_of(found),
        "accounts": [_row(each) for each in found],
    }


def _ask(
    edge: Edge,
    edge_core: int,
    places: Sequence[Place],
    draft: LanguageModel,
    prompts: Sequence[Sequence[int]],
    num_tokens: int,
) -> list[Found]:
    """Everything that is asked of one edge, and the replay when that is gone."""
    from cascade.models.loading import open_model

    say(f"starting an edge in {edge.name}")
    asked: list[tuple[Place, dict[str, Course], Block]] = []
    with real_edge(TARGET, edge.dtype, edge_core, *edge.options) as url:
        for place in places:
            courses = place.courses()
            block = asyncio.run(
                run_block(
                    dialer(url, place.rtt_ms / 1000),
                    draft,
                    prompts,
                    courses,
                    rtt_s=place.rtt_ms / 1000,
                    temperature=place.temperature,
                    num_tokens=num_tokens,
                )
            )
            asked.append((place, courses, block))
            times = [f"{name} {statistics.median(block.times_s(name)) * 1000:.1f} ms" for name in courses]
            say(f"R = {place.rtt_ms} ms, T = {place.temperature}: {', '.join(times)} a token")
    say("replaying what was delivered")
    target = open_model(TARGET, dtype=edge.dtype, device="cpu", exact=edge.is_exact, num_threads=1)
    near_tie = 0.0 if edge.is_exact else NEAR_TIE
    return [
        Found(
            edge=edge,
            place=place,
            course=name,
            block=block,
            replay=replay(target, course, block.delivered[name], near_tie=near_tie),
        )
        for place, courses, block in asked
        for name, course in courses.items()
    ]


def _row(found: Found) -> dict[str, Any]:
    place, block, replayed, name = found.place, found.block, found.replay, found.course
    summaries = [run.summary for run in block.runs[name].values()]
    num_tokens = sum(summary.num_tokens for summary in summaries)
    row: dict[str, Any] = {
        "edge": found.edge.name,
        "rtt_ms": place.rtt_ms,
        "temperature": place.temperature,
        "course": name,
        "delivered": replayed.num_tokens,
        "own_share_by_replay": round(replayed.own_share, 4),
        "least_by_ledger": round(replayed.books.least_quality, 4),
        "wrong_by_replay": replayed.num_wrong,
        "disputed_by_ledger": replayed.books.num_disputed,
        "near_ties": replayed.num_near_ties,
        "widest_near_tie": round(replayed.widest_near_tie, 3),
        "least_room": round(replayed.least_room, 3),
        "kept_share": round(replayed.num_kept / replayed.num_tokens, 3),
        "at_once_share": round(sum(summary.num_at_once for summary in summaries) / num_tokens, 3),
        "ms_per_token": round(statistics.median(block.times_s(name)) * 1000, 2),
        "first_token_ms": round(statistics.median(block.first_tokens_s(name)) * 1000, 1),
        "draft_step_ms": _mean_ms(block.known(name, "draft_step_s")),
        "pass_ms": _mean_ms(block.known(name, "edge_pass_s")),
        "passes_per_token": round(sum(summary.num_passes for summary in summaries) / num_tokens, 3),
    }
    if CLOUD in block.runs:
        ratios = block.ratios(name, CLOUD)
        quarters = statistics.quantiles(ratios, n=4, method="inclusive")
        row["by_cloud"] = round(statistics.median(ratios), 3)
        row["middle_half"] = [round(quarters[0], 3), round(quarters[2], 3)]
    return row


def musts_of(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Over all accounts; the last ones where there is such a place."""
    replays = [each.replay for each in found]
    margin = min(each.own_share - each.quality for each in replays)
    room = min(each.least_room for each in replays)
    musts = [
        must("share of own picks by replay, less the promise", margin, at_least=0),
        must("room by replay at every token, least", room, at_least=0),
        must("wrong, and unknown to the ledger", sum(each.num_unknown for each in replays), at_most=0),
        must("wrong, and kept by nobody", sum(each.num_strangers for each in replays), at_most=0),
        must("disputed, and right by replay", sum(each.num_slandered for each in replays), at_most=0),
        must("without a verdict at the end", sum(each.books.num_unaudited for each in replays), at_most=0),
        must("delivered, and not in the books", sum(each.num_miscounted for each in replays), at_most=0),
    ]
    exact = [each.replay for each in found if each.edge.is_exact]
    if exact:
        most = max(abs(each.num_wrong - each.books.num_disputed) for each in exact)
        musts.append(must("exact edge: wrong by replay, less disputed", most, at_most=0))
    near = [each.replay for each in found if each.place.rtt_ms == NEAR_MS]
    if near:
        share = max(each.num_kept / each.num_tokens for each in near)
        musts.append(must("kept share on a near link", share, at_most=0.05))
    return musts


def _mean_ms(seconds: Sequence[float]) -> float | None:
    return round(statistics.fmean(seconds) * 1000, 2) if seconds else None
