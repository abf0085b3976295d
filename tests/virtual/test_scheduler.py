"""The scheduler in virtual time, where figures are exact: against the cloud, fixed policies, an oracle.

`cascade bench scheduler` covers the whole grid; here are the points that a broken rule shows at first.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

import pytest

from cascade.device import Objective, Policy
from cascade.lab.best_fixed import Point, as_policy, evaluate, fast_setting, settings_of, winners
from cascade.lab.drift import SCENARIOS, Scenario, arrivals
from cascade.lab.fast_model import FixedPolicy, Loop, run_fast
from cascade.lab.simulation import Outcome, simulate

NUM_TOKENS = 400
NUM_SEEDS = 5


@functools.cache
def outcomes(point: Point, objective: Objective) -> list[Outcome]:
    return evaluate(point, Policy.adaptive(objective), num_tokens=NUM_TOKENS, num_seeds=NUM_SEEDS)


def ms_per_token(found: Sequence[Outcome]) -> float:
    return statistics.fmean(outcome.summary.time_per_token_s for outcome in found) * 1000


def passes_per_token(found: Sequence[Outcome]) -> float:
    return statistics.fmean(outcome.passes_per_token for outcome in found)


REFERENCE_POINT = Point(agreement=0.8, rtt_ms=100, draft_cost=0.1)

MEASURED = {
    (0, Objective.LATENCY): (18.11, 0.305),
    (100, Objective.LATENCY): (30.35, 0.608),
    (100, Objective.BALANCED): (37.12, 0.391),
    (100, Objective.COST): (41.93, 0.237),
}
"""(Round trip, objective) -> milliseconds and passes per token at an agreement of .8: this code's figures."""


@pytest.mark.parametrize(("rtt_ms", "objective"), MEASURED)
def test_what_an_objective_costs(rtt_ms: int, objective: Objective) -> None:
    found = outcomes(Point(agreement=0.8, rtt_ms=rtt_ms, draft_cost=0.1), objective)
    costs = ms_per_token(found), passes_per_token(found)
    assert costs == pytest.approx(MEASURED[rtt_ms, objective], rel=0.02)


@pytest.mark.parametrize(
    "point",
    [
        Point(agreement=0.5, rtt_ms=400, draft_cost=0.5, row_cost=0.015),
        Point(agreement=0.5, rtt_ms=50, draft_cost=0.5, has_jitter=True),
        Point(agreement=0.02, rtt_ms=0, draft_cost=0.1, row_cost=0.015),
        Point(agreement=0.8, rtt_ms=100, draft_cost=1.5),
    ],
    ids=str,
)
def test_never_slower_than_the_cloud_where_drafting_hardly_pays(point: Point) -> None:
    assert ms_per_token(outcomes(point, Objective.LATENCY)) <= 50.5


@pytest.mark.parametrize(
    "point",
    [
        Point(agreement=0.7, rtt_ms=0, draft_cost=0.2),
        Point(agreement=0.8, rtt_ms=50, draft_cost=0.1, row_cost=0.015),
        Point(agreement=0.9, rtt_ms=0, draft_cost=0.5),
    ],
    ids=str,
)
def test_close_to_the_best_fixed_policy(point: Point) -> None:
    best_ms = min(
        ms_per_token(
            evaluate(
                point,
                as_policy(fixed),
                num_tokens=NUM_TOKENS,
                num_seeds=NUM_SEEDS,
                max_fed_hints=fixed.max_fed_hints,
            )
        )
        for fixed in winners(point, num_tokens=400)
    )
    assert ms_per_token(outcomes(point, Objective.LATENCY)) <= 1.05 * best_ms


def test_the_reference_point() -> None:
    assert ms_per_token(outcomes(REFERENCE_POINT, Objective.LATENCY)) <= 32
    assert passes_per_token(outcomes(REFERENCE_POINT, Objective.COST)) <= 0.36
    found = outcomes(REFERENCE_POINT, Objective.LATENCY)
    assert statistics.fmean(outcome.payload_bytes_per_token for outcome in found) <= 24
    thrifty = outcomes(REFERENCE_POINT, Objective.COST)
    assert statistics.fmean(outcome.payload_bytes_per_token for outcome in thrifty) <= 15


def test_balanced_lies_between() -> None:
    found = [outcomes(REFERENCE_POINT, objective) for objective in Objective]
    times_ms, passes = [ms_per_token(each) for each in found], [passes_per_token(each) for each in found]
    assert times_ms == sorted(times_ms)
    assert passes == sorted(passes, reverse=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_close_to_an_oracle_when_circumstances_change(name: str) -> None:
    scenario = SCENARIOS[name]
    found, truth = (arrivals(scenario, seed=0, rotation=0.0, is_oracle=oracle) for oracle in (False, True))
    assert len(found) == len(truth) == scenario.num_tokens
    assert found[-1] - found[0] <= 1.03 * (truth[-1] - truth[0])


def test_what_does_not_pay_is_stopped_and_tried_again() -> None:
    """At a tenth of the agreement the drafter all but rests; when the text becomes easy it is back."""
    hard = evaluate(
        Point(agreement=0.05, rtt_ms=200, draft_cost=0.1), Policy.adaptive(), num_tokens=600, num_seeds=1
    )[0].summary
    assert hard.num_drafted < 0.5 * hard.num_tokens
    eased = Scenario(agreement=((0, 0.05), (300, 0.9)), num_tokens=900)
    times_s = arrivals(eased, seed=0, rotation=0.0, is_oracle=False)
    assert (times_s[-1] - times_s[500]) / 400 <= 0.6 * (times_s[299] - times_s[0]) / 300


@pytest.mark.parametrize(
    "point",
    [
        Point(agreement=0.6, rtt_ms=100, draft_cost=0.1),
        Point(agreement=0.9, rtt_ms=20, draft_cost=0.2, row_cost=0.015),
        Point(agreement=0.8, rtt_ms=400, draft_cost=0.05, has_jitter=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("window", [6, 48])
def test_the_fast_model_is_as_the_real_code(point: Point, window: int) -> None:
    fixed = FixedPolicy(window=window, max_fed_hints=16, patience_s=0.0)
    settings = list(settings_of(point, as_policy(fixed), num_tokens=NUM_TOKENS, num_seeds=3))
    real_s = statistics.fmean(simulate(setting).summary.time_per_token_s for setting in settings)
    fast_s = statistics.fmean(fast_setting(setting, fixed) for setting in settings)
    assert fast_s == pytest.approx(real_s, rel=0.06)


def test_the_fast_model_of_a_perfect_and_of_no_draft() -> None:
    loop = Loop(rtt_s=0.1, draft_step_s=0.005, pass_s=0.05)
    fixed = FixedPolicy(window=64, max_fed_hints=16, patience_s=0.0)
    perfect = run_fast(fixed, loop, [True] * 2000, 2000)
    assert perfect.time_per_token_s == pytest.approx(0.005, rel=0.1)
    none = run_fast(FixedPolicy(window=0, max_fed_hints=16, patience_s=0.0), loop, [True] * 500, 500)
    assert none.time_per_token_s == pytest.approx(0.05)
    assert (none.passes_per_token, none.drafted_per_token) == (1.0, 0.0)
