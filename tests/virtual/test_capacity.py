"""How many devices an edge holds at a latency goal: the model, the search, and the system under load."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascade.device import Policy
from cascade.edge import EdgeSettings
from cascade.lab.capacity import devices_held, model_devices
from cascade.lab.fleet import Fleet, FleetOutcome, PassCost, simulate_fleet

CHEAP = PassCost(0.050, 0.0001)
DEAR = PassCost(0.050, 0.0005)
GOAL_S = 0.060


def run(
    num_devices: int, num_tokens: int, cost: PassCost, policy: Policy, **settings: float | None
) -> FleetOutcome:
    return simulate_fleet(
        Fleet(
            num_devices=num_devices,
            num_tokens=num_tokens,
            cost=cost,
            policy=policy,
            settings=EdgeSettings(**settings),  # type: ignore[arg-type]
        )
    )


# The model and the search


def test_the_model_without_hints_is_the_cost_curve_turned_round() -> None:
    assert model_devices(GOAL_S, CHEAP, 0.8, max_width=0) == pytest.approx(100)
    assert model_devices(GOAL_S, DEAR, 0.8, max_width=0) == pytest.approx(20)
    assert model_devices(0.04, CHEAP, 0.8, max_width=0) == 0


def test_the_models_gain_falls_with_the_goal_and_does_not_depend_on_the_cost_of_a_row() -> None:
    def gain(goal_s: float, cost: PassCost) -> float:
        return model_devices(goal_s, cost, 0.8) / model_devices(goal_s, cost, 0.8, max_width=0)

    assert gain(GOAL_S, CHEAP) == pytest.approx(2.84, abs=0.01)
    gains = [gain(goal_ms / 1000, CHEAP) for goal_ms in range(55, 400, 15)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == 1
    assert gain(0.07, CHEAP) == pytest.approx(gain(0.07, DEAR))


@pytest.mark.parametrize("guess", [1, 20, 150, 500])
@pytest.mark.parametrize(
    "latency", [lambda n: 50 + 0.1 * n, lambda n: 30 + 0.003 * n**2, lambda n: 55 + n // 90]
)
def test_the_search_encloses_the_goal(latency: Callable[[int], float], guess: int) -> None:
    seen: list[int] = []

    def counted(devices: int) -> float:
        seen.append(devices)
        return latency(devices)

    holding = devices_held(60, counted, guess=guess)
    assert latency(holding.most_held) <= 60 < latency(holding.fewest_missed)
    assert holding.fewest_missed - holding.most_held <= max(1, 0.01 * holding.most_held)
    assert len(seen) <= 24, len(seen)


def test_a_goal_that_nobody_holds() -> None:
    assert devices_held(40, lambda n: 50.0 + n, guess=1).most_held == 0


# The system


def test_cloud_streaming_under_load_is_what_the_cost_curve_says() -> None:
    outcome = run(20, 200, DEAR, Policy.cloud())
    assert outcome.mean_ms_per_token == pytest.approx(60, rel=0.01)
    assert outcome.tokens_per_s == pytest.approx(20 / 0.06, rel=0.01)


def test_hints_that_are_ignored_are_as_good_as_none() -> None:
    ignored = run(6, 100, DEAR, Policy.hint_driven(), max_fed_hints=0)
    assert ignored.hinted_share == 0
    assert ignored.ms_per_token == pytest.approx(run(6, 100, DEAR, Policy.cloud()).ms_per_token, rel=0.005)


def test_with_hints_an_edge_holds_more_than_twice_the_devices() -> None:
    """At a fifth of the devices and rows five times as dear, and with streams that scatter more."""
    outcome = run(46, 400, DEAR, Policy.hint_driven(), goal_s_per_token=GOAL_S)
    assert outcome.p95_ms_per_token <= 60, "46 devices; without hints 20"
    assert outcome.tokens_per_s >= 2.4 * 20 / GOAL_S
    assert outcome.max_first_token_ms < 500, "whoever comes is served in its turn"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_with_hints_an_edge_holds_2_4_times_the_devices() -> None:
    outcome = run(240, 1000, CHEAP, Policy.hint_driven(), goal_s_per_token=GOAL_S)
    assert outcome.p95_ms_per_token <= 60
    assert outcome.tokens_per_s >= 2.4 * 100 / GOAL_S


def test_a_goal_brings_streams_together() -> None:
    aimless, aiming = (
        run(40, 150, DEAR, Policy.hint_driven(), goal_s_per_token=goal_s) for goal_s in (None, 0.05)
    )
    assert aiming.p95_ms_per_token - aiming.mean_ms_per_token < 0.8 * (
        aimless.p95_ms_per_token - aimless.mean_ms_per_token
    )


def test_where_rows_dominate_hints_lose_nothing() -> None:
    cost = PassCost(0.005, 0.002)
    hinted, plain = (run(20, 200, cost, policy) for policy in (Policy.hint_driven(), Policy.cloud()))
    assert hinted.mean_ms_per_token <= 1.01 * plain.mean_ms_per_token
    assert hinted.p95_ms_per_token <= 1.03 * plain.p95_ms_per_token
