"""The table that the design stands on, made by the real code in virtual time.

Three ways to decode, five round trips, three drafts: milliseconds per token at the device, passes per
token at the edge, payload bytes per token on the link. `REFERENCE` holds what an abstract event model
said before the code was there; a figure that is off by more than a tenth wants an explanation.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..device import Policy
from .simulation import Outcome, Setting, simulate
from .workers import worker_pool

__all__ = ["AGREEMENTS", "POLICIES", "REFERENCE", "RTTS_MS", "Figure", "best_k", "make_table"]

AGREEMENTS = (0.6, 0.8, 0.9)
RTTS_MS = (0, 50, 100, 200, 400)
POLICIES = ("ask-and-wait", "hint-driven", "patient")
"""Classic speculation with its best k, hints with patience 0, hints with patience R + 10 ms."""

REFERENCE: dict[tuple[float, str], tuple[float, ...]] = {
    (0.6, "ask-and-wait"): (30, 52, 73, 115, 197),
    (0.6, "hint-driven"): (32, 39, 44, 48, 50),
    (0.6, "patient"): (29, 49, 69, 109, 189),
    (0.8, "ask-and-wait"): (20, 32, 44, 66, 108),
    (0.8, "hint-driven"): (19, 26, 31, 38, 46),
    (0.8, "patient"): (18, 28, 39, 58, 99),
    (0.9, "ask-and-wait"): (15, 21, 28, 39, 61),
    (0.9, "hint-driven"): (12, 16, 20, 26, 35),
    (0.9, "patient"): (12, 17, 22, 32, 51),
}
"""Milliseconds per token over `RTTS_MS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One cell: means over runs, and how far the runs' times are apart.

    The dice of the runs are rotated against each other, so the mean is far more certain than the spread
    of independent runs would say.
    """

    agreement: float
    policy: str
    rtt_ms: int
    ms_per_token: float
    spread_ms: float
    """Standard deviation over the runs."""
    passes_per_token: float
    payload_bytes_per_token: float
    best_k: int | None
    reference_ms: float

    @property
    def deviation(self) -> float:
        """From the reference, as a share of it."""
        return self.ms_per_token / self.reference_ms - 1


Point = tuple[float, str, int, int | None]
"""(agreement, policy, round trip in ms, k): what one cell is about."""


def make_table(
    *, num_runs: int, num_tokens: int, on_progress: Callable[[int, int], None] | None = None
) -> list[Figure]:
    """Every cell of the table, computed on all cores, each the mean of `num_runs` runs (see `_rotations`)."""
    jobs = [
        (point, _setting(point, num_tokens, rotation))
        for point in _points()
        for rotation in _rotations(point[0], num_runs)
    ]
    jobs.sort(key=lambda job: job[1].policy.waits_for_verdict)  # the long ones first
    outcomes: dict[Point, list[Outcome]] = {}
    with worker_pool() as pool:
        try:
            results = pool.map(simulate, [setting for _, setting in jobs])
            for number, ((point, _), outcome) in enumerate(zip(jobs, results, strict=True), start=1):
                outcomes.setdefault(point, []).append(outcome)
                if on_progress is not None:
                    on_progress(number, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted((_figure(point, found) for point, found in outcomes.items()), key=_cell)


def _points() -> Iterable[Point]:
    for agreement, rtt_ms in itertools.product(AGREEMENTS, RTTS_MS):
        yield agreement, "hint-driven", rtt_ms, None
        yield agreement, "patient", rtt_ms, None
        yield agreement, "ask-and-wait", rtt_ms, best_k(agreement, rtt_ms)


def _rotations(agreement: float, num_runs: int) -> list[float]:
    """Evenly spread; twice as many where only that makes the runs together disagree at exactly the rate."""
    num_disagreeing = num_runs * (1 - agreement)
    if abs(num_disagreeing - round(num_disagreeing)) > 1e-9:
        num_runs *= 2
    return [number / num_runs for number in range(num_runs)]


def best_k(agreement: float, rtt_ms: int, draft_ms: float = 5, pass_ms: float = 50) -> int:
    """Where ask-and-wait is fastest, by the textbook formula: nothing in that scheme overlaps."""

    def ms_per_token(k: int) -> float:
        num_tokens = (1 - agreement ** (k + 1)) / (1 - agreement)
        return (k * draft_ms + pass_ms + rtt_ms) / num_tokens

    return min(range(1, 64), key=ms_per_token)


def _setting(point: Point, num_tokens: int, rotation: float) -> Setting:
    agreement, policy_name, rtt_ms, k = point
    if k is not None:
        policy = Policy.ask_and_wait(k)
    else:
        policy = Policy.hint_driven(patience_s=rtt_ms / 1000 + 0.01 if policy_name == "patient" else 0)
    return Setting(
        agreement=agreement, rtt_s=rtt_ms / 1000, policy=policy, num_tokens=num_tokens, rotation=rotation
    )


def _figure(point: Point, outcomes: list[Outcome]) -> Figure:
    agreement, policy, rtt_ms, k = point
    times_ms = [outcome.summary.time_per_token_s * 1000 for outcome in outcomes]
    return Figure(
        agreement=agreement,
        policy=policy,
        rtt_ms=rtt_ms,
        ms_per_token=statistics.fmean(times_ms),
        spread_ms=statistics.stdev(times_ms) if len(times_ms) > 1 else 0.0,
        passes_per_token=statistics.fmean(outcome.passes_per_token for outcome in outcomes),
        payload_bytes_per_token=statistics.fmean(outcome.payload_bytes_per_token for outcome in outcomes),
        best_k=k,
        reference_ms=REFERENCE[agreement, policy][RTTS_MS.index(rtt_ms)],
    )


def _cell(figure: Figure) -> tuple[float, int, int]:
    return figure.agreement, POLICIES.index(figure.policy), figure.rtt_ms
