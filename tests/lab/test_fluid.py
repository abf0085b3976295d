"""The fluid model: its limits, its shape, and the real code beside it."""

from __future__ import annotations

import dataclasses

import pytest

from cascade.errors import SettingsError
from cascade.lab.experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point, PolicySettings
from cascade.lab.experiment.trial import run_edge
from cascade.lab.fluid import Crowd, devices_within, flow, knee, most_devices

MODELS = ModelSettings(pass_ms=50, row_ms=0.5, draft_step_ms=5)
CROWD = Crowd(cost_s=MODELS.pass_s, agreement=0.8, rtt_s=0.06)
PLAIN = dataclasses.replace(CROWD, has_hints=False)


def test_plain_streaming_is_the_cost_curve() -> None:
    for devices in (1, 40, 5000):
        one = flow(PLAIN, devices)
        assert one.s_per_token == one.pass_s == MODELS.pass_s(devices)
        assert one.rows_per_pass == devices
        assert one.tokens_per_s == pytest.approx(devices / MODELS.pass_s(devices))
        assert one.messages_down_per_s == pytest.approx(devices * one.passes_per_s)


@pytest.mark.parametrize(
    "change",
    [{"agreement": 0.0}, {"max_fed_hints": 0}, {"draft_step_s": 0.2}, {"rtt_s": 60.0}],
    ids=["never agrees", "feeds none", "drafts too slowly", "too far away"],
)
def test_hints_that_can_not_be_of_use_are_as_good_as_none(change: dict[str, float]) -> None:
    crowd = dataclasses.replace(CROWD, **change)  # type: ignore[arg-type]
    assert flow(crowd, 10).s_per_token == pytest.approx(flow(PLAIN, 10).s_per_token, rel=1e-3)


def test_perfect_hints_bring_as_many_tokens_as_a_pass_feeds() -> None:
    crowd = Crowd(cost_s=lambda rows: 0.05, agreement=1.0, rtt_s=0.0, draft_step_s=0.001)
    assert flow(crowd, 1).s_per_token == pytest.approx(0.05 / 17, rel=0.01)


def test_hints_never_cost_a_crowd_its_tokens() -> None:
    """Up to where rows are all that a pass costs."""
    for devices in (1, 3, 10, 30, 100, 300, 1000, 10_000, 100_000):
        hinted, plain = flow(CROWD, devices), flow(PLAIN, devices)
        assert hinted.s_per_token <= 1.0001 * plain.s_per_token
    assert hinted.num_fed < 0.001, "at the end nobody is fed hints"


def test_more_devices_and_longer_ways_take_longer_and_better_drafts_do_not() -> None:
    times = [flow(CROWD, devices).s_per_token for devices in (1, 4, 16, 64, 256, 1024)]
    assert times == sorted(times)
    far = [flow(dataclasses.replace(CROWD, rtt_s=rtt_s), 8).s_per_token for rtt_s in (0, 0.1, 0.2, 0.4)]
    assert far == sorted(far)
    good = [flow(dataclasses.replace(CROWD, agreement=a), 8).s_per_token for a in (0.3, 0.6, 0.8, 0.9)]
    assert good == sorted(good, reverse=True)


def test_the_most_devices_at_a_goal_are_the_curve_turned_round() -> None:
    assert devices_within(PLAIN, 0.06) == 21
    assert devices_within(PLAIN, 0.049) == 0
    held = devices_within(CROWD, 0.06)
    assert held > 2 * 21
    assert flow(CROWD, held).s_per_token <= 0.06 < flow(CROWD, 1.05 * held).s_per_token


def test_an_edge_is_saturated_where_rows_cost_as_much_as_the_pass() -> None:
    # N / (F + c N) grows half as fast as N where c N = F: at 100 rows of 0.5 ms.
    assert knee(PLAIN) == pytest.approx(100, rel=0.1)
    assert 1 < knee(CROWD) < knee(PLAIN), "with hints there are more rows for each device"


def test_the_search_ends_at_either_end() -> None:
    assert most_devices(lambda devices: False) == 0
    assert most_devices(lambda devices: devices <= 1) == 1
    assert most_devices(lambda devices: devices <= 777) == pytest.approx(777, rel=0.01)
    assert most_devices(lambda devices: True) >= 5_000_000


def test_impossible_crowds_are_refused() -> None:
    with pytest.raises(SettingsError, match="agreement"):
        dataclasses.replace(CROWD, agreement=1.2)
    with pytest.raises(SettingsError, match="rtt_s"):
        dataclasses.replace(CROWD, rtt_s=-1.0)


@pytest.mark.parametrize("policy", ["cloud", "hint-driven"])
def test_the_real_code_does_what_the_model_says(policy: str) -> None:
    """One cheap point; `cascade bench scale` has the dear ones."""
    devices, settled_s, seconds = 14, 1.5, 7.5
    point = Point(
        models=MODELS,
        link=LinkSettings(rtt_ms=60),
        load=LoadSettings(devices=devices, tokens=100_000, seconds=seconds, arrivals_s=0.5),
        policy=PolicySettings(name=policy),
    )
    lines = run_edge(point, 0, 0, records="none").lines
    num_tokens = sum(token["time_s"] >= settled_s for token in lines["tokens"])
    num_passes = sum(step["began_s"] >= settled_s for step in lines["steps"])
    window_s = seconds - settled_s
    model = flow(CROWD if policy == "hint-driven" else PLAIN, devices)
    assert model.s_per_token == pytest.approx(devices * window_s / num_tokens, rel=0.1)
    assert model.passes_per_s == pytest.approx(num_passes / window_s, rel=0.1)
