"""Invariant 1: whatever the draft, the links and the edges do, the text is the target's own.

`run_schedule` draws a device, two edges and their faults from a seed, runs them in virtual time, and judges
every answer by the target decoding alone: same tokens, each position once and in order, and an end.
A failing seed is named; `python -c "from tests.virtual.schedules import run_schedule; run_schedule(SEED)"`
runs it again.
"""

from __future__ import annotations

import pytest

from .schedules import Report, run_schedule

NUM_SEEDS = 500
NUM_SEEDS_SLOW = 10_000
CHUNK = 25
"""Seeds in one test: few enough to share among processes, many enough that each contains every fault."""


@pytest.mark.parametrize("first", range(0, NUM_SEEDS, CHUNK))
def test_same_text(first: int) -> None:
    check_faults(run_chunk(first, CHUNK))


@pytest.mark.parametrize("seed", [5619, 6470, 8647])
def test_a_link_slower_than_our_patience_is_not_redialled_for_ever(seed: int) -> None:
    """Nothing came back on these links before the device took them for dead, time after time."""
    run_schedule(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(NUM_SEEDS, NUM_SEEDS + NUM_SEEDS_SLOW, 10 * CHUNK))
def test_same_text_at_length(first: int) -> None:
    check_faults(run_chunk(first, 10 * CHUNK))


def test_a_schedule_is_deterministic() -> None:
    """The same seed gives the same run, down to the time of every token."""
    assert run_schedule(11) == run_schedule(11)


def run_chunk(first: int, count: int) -> list[Report]:
    """All schedules of a chunk; the seeds that failed are named together."""
    reports, failures = [], []
    for seed in range(first, first + count):
        try:
            reports.append(run_schedule(seed))
        except Exception as error:
            failures.append(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}")
    assert not failures, "\n".join(failures)
    return reports


def check_faults(reports: list[Report]) -> None:
    """The schedules contained what they claim; otherwise they would prove nothing."""
    answers = [answer for report in reports for answer in report.answers]
    policies = [answer.ask.policy for answer in answers]
    assert any(policy.window == 0 for policy in policies)
    assert any(policy.waits_for_verdict for policy in policies)
    assert any(policy.window and policy.patience_s == 0 for policy in policies)
    assert any(policy.patience_s and not policy.waits_for_verdict for policy in policies)
    assert {answer.ask.sampling.temperature for answer in answers} == {0.0, 0.7, 1.0}
    assert {answer.ask.sampling.has_cuts for answer in answers} == {True, False}
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    assert sum(report.num_restarts for report in reports) >= len(reports)
    assert sum(report.num_reopens > 0 for report in reports) >= len(reports) / 4
    assert sum(report.num_resumes > 0 for report in reports) >= len(reports) / 10
    assert sum(len(report.edges_used) > 1 for report in reports) >= len(reports) / 10
    assert sum(report.num_lost > 0 for report in reports) >= len(reports) / 4
