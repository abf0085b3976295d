"""Advice: predictions from declared figures, where modes change places, and the command around it."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from cascade import EdgeServer
from cascade.apps.advise import Wanted, gather
from cascade.device.router import Route
from cascade.errors import SettingsError
from cascade.lab.advice import AXES, Expectation, Situation, best, crossings, expect
from cascade.lab.bench import advise as bench
from cascade.lab.energy import EnergyMeter
from cascade.lab.survey import measure_draft, measure_edge
from cascade.links.base import Link
from cascade.prices import Objective, Prices
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
)
from tests.helpers import in_virtual_time
from tests.unit.test_cli import run_cli

HERE = Situation(rtt_s=0.05, pass_s=0.05, draft_step_s=0.005)
LOSSLESS = dataclasses.replace(HERE, quality=1.0)
BY_NAME = {axis.name: axis for axis in AXES}
DECLARED = ("--draft-step-ms", "5", "--pass-ms", "50", "--rtt-ms", "50")


def of(mode: Route, situation: Situation, prices: Prices | None = None) -> Expectation:
    return next(each for each in expect(situation, prices or Prices()) if each.mode is mode)


@pytest.mark.parametrize("number", [0, 10, 14])
def test_predictions_are_what_the_scheduler_then_does(number: int) -> None:
    """Three of the twenty points of `cascade bench advise`."""
    dice = random.Random(bench.SEED)
    points = [bench.random_point(dice) for _ in range(bench.NUM_POINTS)]
    row = bench._row(*bench._fields(points[number]), "latency", 3)
    assert abs(row["deviation"]) <= 0.1
    assert row["predicted_first_ms"] == pytest.approx(row["measured_first_ms"], rel=0.1)


def test_plain_streaming_and_the_draft_alone_are_sums() -> None:
    here = dataclasses.replace(HERE, row_s=0.001, draft_row_s=0.0005, num_prompt_tokens=101, num_tokens=10)
    cloud, device = of(Route.CLOUD, here), of(Route.DEVICE, here)
    assert (cloud.first_token_s, cloud.s_per_token) == pytest.approx((0.05 + 0.05 + 0.1, 0.05))
    assert cloud.per_token.waiting_s == pytest.approx((0.2 + 9 * 0.05) / 10)
    assert (device.first_token_s, device.s_per_token) == pytest.approx((0.055, 0.005))
    assert device.per_token.num_passes == device.per_token.bytes_up == 0
    assert device.agreement == 0.8


def test_what_is_not_there_is_no_choice() -> None:
    bare = dataclasses.replace(HERE, draft_step_s=None)
    assert [each.mode for each in expect(bare, Prices())] == [Route.CLOUD]
    assert {each.mode for each in expect(LOSSLESS, Prices())} == {Route.CLOUD, Route.LOSSLESS, Route.DEVICE}
    assert not of(Route.DEVICE, LOSSLESS).keeps_quality
    assert best(LOSSLESS, Prices()) is Route.LOSSLESS


def test_load_makes_both_slower() -> None:
    busy = dataclasses.replace(LOSSLESS, device_load=0.5, edge_load=0.5)
    assert of(Route.CLOUD, busy).s_per_token == pytest.approx(0.1)
    assert of(Route.DEVICE, busy).s_per_token == pytest.approx(0.01)


def test_energy_and_money_are_counted() -> None:
    prices = Prices(edge_pass=0.01, draft_step_j=0.2, joule=0.001)
    cloud, device = of(Route.CLOUD, HERE, prices), of(Route.DEVICE, HERE, prices)
    assert (cloud.energy_j_per_1000, cloud.expenses_per_1000) == pytest.approx((0, 10))
    assert device.energy_j_per_1000 == pytest.approx(200)
    assert device.expenses_per_1000 == pytest.approx(0.2 + 0.05 * 5)
    lossless = of(Route.LOSSLESS, HERE, prices)
    assert lossless.per_token.num_passes < 0.6
    assert lossless.per_token.num_drafted > 1


def test_lossless_is_as_good_as_the_cloud_where_drafting_rests() -> None:
    weak = dataclasses.replace(LOSSLESS, agreement=0.55)
    assert crossings(weak, Prices(), BY_NAME["round trip"]) == []
    far = dataclasses.replace(weak, rtt_s=1.0)
    assert of(Route.LOSSLESS, far).cost_per_1000 == of(Route.CLOUD, far).cost_per_1000


def test_a_draft_that_agrees_as_often_as_is_promised_may_answer_alone() -> None:
    good = dataclasses.replace(HERE, agreement=0.95, quality=0.9)
    prices = Prices(disputed=1.0)
    (crossing,) = crossings(good, prices, BY_NAME["price of a pass"])
    assert crossing.after is Route.DEVICE
    below, above = (Prices(disputed=1.0, edge_pass=factor * crossing.value) for factor in (0.9, 1.1))
    assert best(good, below) is not Route.DEVICE
    assert best(good, above) is Route.DEVICE


def test_a_dear_joule_ends_drafting_whatever_the_unit() -> None:
    for unit in (1.0, 100.0):
        prices = Prices(waiting_s=unit, draft_s=0.05 * unit, disputed=0.09 * unit)
        (crossing,) = crossings(LOSSLESS, prices, BY_NAME["price of a joule"])
        assert (crossing.before, crossing.after) == (Route.LOSSLESS, Route.CLOUD)
        assert 0.05 * unit < crossing.value < 2 * unit


def test_a_declared_place_as_json_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "advice.png"
    assert run_cli("advise", *DECLARED, "--quality", "1", "--json", "--plot", str(plot)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["mode"] == "lossless"
    assert {row["mode"] for row in said["modes"]} == {"cloud", "lossless", "device"}
    assert {"axis", "from", "before", "after", "now", "unit"} == set(said["crossings"][0])
    assert plot.stat().st_size > 10_000
    assert run_cli("advise", *DECLARED, "--quality", "1") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("lossless is the mode for this place")
    assert "everything else being equal" in shown


def test_prices_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prices.toml"
    file.write_text("edge_pass = 1.0\nmegabyte_up = 2\n", encoding="utf-8")
    assert run_cli("advise", *DECLARED, "--quality", "1", "--prices", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["prices"]["edge_pass"] == 1.0
    file.write_text("edge_passes = 1.0\n", encoding="utf-8")
    assert run_cli("advise", *DECLARED, "--prices", str(file)) == 2
    assert "edge_passes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left_out", "field"), [("draft_step_ms", "draft"), ("pass_ms", "edge"), ("rtt_ms", "profile")]
)
def test_what_is_neither_measured_nor_declared_is_asked_for(left_out: str, field: str) -> None:
    options = {"draft_step_ms": 5.0, "pass_ms": 50.0, "rtt_ms": 50.0}
    del options[left_out]
    with pytest.raises(SettingsError) as caught:
        Wanted(**options)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "speed"},
        {"profile": "lte"},
        {"draft": "suffix"},
        {"pass_ms": 0.0},
        {"jitter_ms": -1.0},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Wanted(**({"draft_step_ms": 5.0, "pass_ms": 50.0, "rtt_ms": 50.0} | wrong))  # type: ignore[arg-type]


@in_virtual_time
async def test_a_profile_says_the_link_and_a_draft_of_no_time_is_none() -> None:
    wanted = Wanted(draft_step_ms=0.0, pass_ms=40.0, profile="lte", draft_joules=0.3)
    situation, prices, found = await gather(wanted, Objective.COST.prices)
    assert situation.draft_step_s is None
    assert (situation.rtt_s, situation.jitter_s) == pytest.approx((0.062, 0.004))
    assert prices.draft_step_j == 0.3
    assert found["link"] == "profile lte"


@in_virtual_time
async def test_what_is_measured_is_what_is_there() -> None:
    target = SyntheticTarget()
    draft = SyntheticDraft(target, agreement=0.9)
    runner = PacedRunner(lambda rows: 0.004 + 0.0005 * rows)
    found = await measure_draft(draft, runner)
    assert (found.step_s, found.row_s) == pytest.approx((0.0045, 0.0005), rel=0.01)
    listener = MemoryListener()
    way = Conditions(delay_s=0.02)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=way, down=way)

    edge = EdgeServer.of(target, PacedRunner(lambda rows: 0.03 + 0.0002 * (rows - 1)))
    async with edge:
        edge.listen(listener)
        place = await measure_edge(dial, identity="x", draft=draft, runner=runner)
    assert place.rtt_s == pytest.approx(0.04, abs=0.002)
    assert place.pass_s == pytest.approx(0.03, rel=0.1)
    assert place.row_s == pytest.approx(0.0002, rel=0.3)
    assert place.agreement == pytest.approx(0.9, abs=0.12)


def test_counters_of_the_processor_count_where_they_may_be_read(tmp_path: Path) -> None:
    package, part = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder, value in ((package, 900), (part, 1)):
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{value}\n")
        (folder / "max_energy_range_uj").write_text("1000\n")
    meter = EnergyMeter(watts=5.0, root=tmp_path)
    (package / "energy_uj").write_text("950\n")
    assert meter.read().joules == pytest.approx(50e-6)
    (package / "energy_uj").write_text("100\n")  # it has wrapped around
    assert meter.read().joules == pytest.approx(200e-6)
    assert meter.read().is_measured
    (package / "energy_uj").write_text("nothing\n")
    assert not meter.read().is_measured
    assert not EnergyMeter(watts=5.0, root=tmp_path / "nowhere").read().is_measured
