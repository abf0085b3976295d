"""How many replicas a load wants, and how hastily that is followed."""

from __future__ import annotations

import pytest

from cascade.edge.replicas import ReplicaSettings
from cascade.edge.replicas.scaling import Demand, Scaler, wanted
from cascade.errors import SettingsError

BOUNDS = ReplicaSettings(num_replicas=2, max_replicas=8, texts_per_replica=10, goal_s_per_token=0.1)


@pytest.mark.parametrize(
    ("num_replicas", "num_texts", "pass_s", "num_wanted"),
    [
        (2, 0, 0.0, 2),  # never below the lower bound
        (5, 0, 0.5, 2),  # what the last pass took means nothing where nobody asks
        (2, 35, 0.05, 4),  # by the queue
        (2, 500, 0.05, 8),  # never above the upper one
        (3, 20, 0.15, 5),  # by the goal: passes are too long by half
        (4, 20, 0.09, 4),  # with one less they might be
        (4, 20, 0.06, 3),  # with one less they are not, whatever rows cost
        (4, 20, 0.0, 3),
    ],
)
def test_what_a_load_wants(num_replicas: int, num_texts: int, pass_s: float, num_wanted: int) -> None:
    demand = Demand(num_replicas=num_replicas, num_texts=num_texts, pass_s=pass_s)
    assert wanted(demand, BOUNDS) == num_wanted


def test_without_an_upper_bound_their_number_stays() -> None:
    demand = Demand(num_replicas=2, num_texts=1000, pass_s=9.0)
    assert wanted(demand, ReplicaSettings(num_replicas=2, goal_s_per_token=0.1)) == 2


def test_more_come_soon_and_fewer_late_and_one_at_a_time() -> None:
    scaler = Scaler(BOUNDS)
    much = Demand(num_replicas=2, num_texts=60, pass_s=0.05)
    little = Demand(num_replicas=6, num_texts=1, pass_s=0.01)
    assert [scaler.change(much, float(at)) for at in range(4)] == [0, 0, 0, 4]
    assert [scaler.change(little, 10.0 + at) for at in range(62)] == [0] * 60 + [-1, 0]


def test_what_comes_and_goes_is_not_followed() -> None:
    scaler = Scaler(BOUNDS)
    for at in range(20):
        num_texts = 60 if at % 2 else 20
        assert scaler.change(Demand(num_replicas=2, num_texts=num_texts, pass_s=0.05), float(at)) == 0


def test_impossible_bounds() -> None:
    with pytest.raises(SettingsError, match="max_replicas"):
        ReplicaSettings(num_replicas=3, max_replicas=2)
