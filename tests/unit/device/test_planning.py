"""Plans: pure decisions from a handful of estimates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.device.planning import Circumstances, Plan, make_plan
from cascade.prices import Objective


def plan(
    *,
    rtt_s: float = 0.1,
    agreement: float = 0.8,
    draft_step_s: float = 0.005,
    pass_s: float = 0.05,
    jitter_s: float = 0.0,
    objective: Objective = Objective.LATENCY,
    does_wait: bool = False,
) -> Plan:
    circumstances = Circumstances(
        rtt_s=rtt_s, jitter_s=jitter_s, pass_s=pass_s, draft_step_s=draft_step_s, agreement=agreement
    )
    return make_plan(circumstances, objective.prices, does_wait=does_wait)


def test_on_a_near_link_the_edge_waits_for_a_handful_on_a_far_one_it_does_not() -> None:
    near, far = plan(rtt_s=0.0, draft_step_s=0.0025), plan(rtt_s=0.1, draft_step_s=0.0025)
    assert near.patience_s > near.num_gathered * 0.0025
    assert near.num_gathered == 6
    assert (far.patience_s, far.num_gathered) == (0.0, 1)


def test_dear_hints_are_fed_in_smaller_numbers_and_cost_time() -> None:
    def near(hint_s: float, agreement: float) -> Plan:
        these = Circumstances(
            rtt_s=0.0, jitter_s=0.0, pass_s=0.02, draft_step_s=0.003, agreement=agreement, hint_s=hint_s
        )
        return make_plan(these, Objective.LATENCY.prices)

    free, cheap, dear = (near(hint_s, 0.6) for hint_s in (0.0, 0.002, 0.008))
    assert free.s_per_token < cheap.s_per_token < dear.s_per_token <= 0.02
    assert dear.num_gathered == 1
    assert near(0.008, 0.7).does_pay
    assert not near(0.03, 0.4).does_pay


@pytest.mark.parametrize("rtt_s", [0.0, 0.1, 0.2, 1.0])
def test_patience_covers_the_round_trip_and_what_is_gathered(rtt_s: float) -> None:
    found = plan(rtt_s=rtt_s, objective=Objective.COST, jitter_s=0.01)
    assert found.patience_s > rtt_s + found.num_gathered * 0.005 + 2 * 0.01
    assert found.num_gathered > 1


@pytest.mark.parametrize(
    ("agreement", "rtt_s", "draft_step_s"), [(0.5, 0.4, 0.005), (0.8, 0.1, 0.06), (0.02, 0.02, 0.005)]
)
def test_where_drafting_gains_nothing_it_stops(agreement: float, rtt_s: float, draft_step_s: float) -> None:
    found = plan(agreement=agreement, rtt_s=rtt_s, draft_step_s=draft_step_s)
    assert not found.does_pay
    assert (found.patience_s, found.s_per_token, found.passes_per_token) == (0.0, 0.05, 1.0)


def test_a_slow_drafter_is_still_worth_its_while_where_passes_are_dear() -> None:
    assert plan(draft_step_s=0.06, rtt_s=0.0, agreement=0.9, objective=Objective.COST).does_pay


def test_a_change_of_mind_must_be_worth_it() -> None:
    """Somewhere between a link on which the edge waits and one on which it does not, it does what it did."""
    rtts_s = [millisecond / 1000 for millisecond in range(60)]

    def last_waiting(does_wait: bool) -> float:
        return max(s for s in rtts_s if plan(rtt_s=s, draft_step_s=0.0025, does_wait=does_wait).patience_s)

    assert last_waiting(True) > last_waiting(False)


circumstances = st.builds(
    Circumstances,
    rtt_s=st.floats(0, 3),
    jitter_s=st.floats(0, 0.2),
    pass_s=st.floats(0.001, 0.5),
    draft_step_s=st.floats(1e-5, 0.5),
    agreement=st.floats(0, 1),
)


@settings(max_examples=300, derandomize=True)
@given(circumstances, st.sampled_from(Objective), st.booleans())
def test_every_plan_is_one_that_can_be_followed(
    these: Circumstances, objective: Objective, does_wait: bool
) -> None:
    found = make_plan(these, objective.prices, does_wait=does_wait)
    assert 0 <= found.patience_s <= 4.0
    assert 1 <= found.num_gathered <= 8
    assert found.s_per_token > 0
    assert 0 < found.passes_per_token <= 1 + 1e-9
    if objective is Objective.LATENCY:
        assert found.s_per_token <= these.pass_s * (1 + 1e-9)


@settings(max_examples=200, derandomize=True)
@given(circumstances)
def test_whom_passes_cost_more_takes_no_more_of_them(these: Circumstances) -> None:
    in_a_hurry, thrifty = make_plan(these, Objective.LATENCY.prices), make_plan(these, Objective.COST.prices)
    assert thrifty.passes_per_token <= in_a_hurry.passes_per_token + 1e-9 or not thrifty.does_pay
