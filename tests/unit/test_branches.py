"""The model of branches: without them it is the fast model, and with them it can show a gain."""

from __future__ import annotations

import statistics

import pytest

from cascade.lab.branches import Branching, run_branched
from cascade.lab.fast_model import FixedPolicy, Loop, agreeing, run_fast

LOOP = Loop(rtt_s=0.1, draft_step_s=0.005, pass_s=0.05)
NUM_TOKENS, SEEDS = 1000, range(4)


def cost(how: Branching, loop: Loop = LOOP, *, second_agreement: float = 0.5) -> tuple[float, float]:
    """Seconds and drafted tokens for each token."""
    runs = [
        run_branched(
            how, loop, agreement=0.8, second_agreement=second_agreement, num_tokens=NUM_TOKENS, seed=seed
        )
        for seed in SEEDS
    ]
    return statistics.fmean(run[0] for run in runs), statistics.fmean(run[1] for run in runs)


@pytest.mark.parametrize("rtt_s", [0.02, 0.1, 0.3])
def test_without_branches_it_is_the_fast_model(rtt_s: float) -> None:
    loop = Loop(rtt_s=rtt_s, draft_step_s=0.005, pass_s=0.05)
    fixed = FixedPolicy(window=16, max_fed_hints=16, patience_s=0.0)
    fast = [run_fast(fixed, loop, agreeing(0.8, NUM_TOKENS, 7 + seed), NUM_TOKENS) for seed in SEEDS]
    fast_s = statistics.fmean(run.time_per_token_s for run in fast)
    assert cost(Branching(window=16), loop)[0] == pytest.approx(fast_s, rel=0.04)


def test_second_choices_that_are_always_right_are_worth_more_than_those_that_never_are() -> None:
    how = Branching(window=12, num_positions=6, length=8)
    free = Loop(rtt_s=0.1, draft_step_s=0.001, pass_s=0.05)
    never, half, always = (cost(how, free, second_agreement=chance)[0] for chance in (0.0, 0.5, 1.0))
    assert always < 0.9 * never
    assert always < half < never
    plain_s, plain_drafted = cost(Branching(window=12), free)
    assert never >= 0.99 * plain_s
    assert cost(how, free)[1] > plain_drafted


def test_what_is_sent_ahead_is_there_sooner() -> None:
    free = Loop(rtt_s=0.1, draft_step_s=0.001, pass_s=0.05)
    ahead, kept = (
        cost(Branching(window=12, num_positions=6, length=8, is_sent_ahead=is_ahead), free)[0]
        for is_ahead in (True, False)
    )
    assert ahead < kept
