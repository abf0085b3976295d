"""Many devices on many edges: sharded by edge, ended by the clock, with cost curves that were measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cascade.errors import SettingsError
from cascade.lab.curves import check_curve, on_curve
from cascade.lab.experiment.campaign import run_campaign
from cascade.lab.experiment.checking import check_folder
from cascade.lab.experiment.effort import Effort
from cascade.lab.experiment.reading import read_experiment
from cascade.lab.experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point
from cascade.lab.experiment.store import Store, digest_of
from cascade.lab.experiment.trial import run_edge, run_trial

MANY = Point(
    link=LinkSettings(rtt_ms=40),
    load=LoadSettings(devices=5, edges=2, tokens=30, arrivals_s=0.3, arrival="random", seconds=1.5),
)


def test_a_run_of_many_edges_is_as_many_runs_of_one() -> None:
    both = run_trial(MANY, 3)
    parts = [run_edge(MANY, 3, edge) for edge in range(2)]
    assert both.lines["tokens"] == parts[0].lines["tokens"] + parts[1].lines["tokens"]
    devices = [{line["device"] for line in part.lines["streams"]} for part in parts]
    assert devices == [{"device-0", "device-2", "device-4"}, {"device-1", "device-3"}]
    assert {step["who"] for step in both.lines["steps"] if "edge" in step["who"]} == {"edge-0", "edge-1"}
    assert both.effort.num_events == sum(part.effort.num_events for part in parts) > 1000
    assert both.effort.num_tokens == len(both.lines["tokens"])


def test_the_clock_ends_a_run_that_has_seconds() -> None:
    outcome = run_trial(MANY, 3)
    last = {line["device"]: line["time_s"] for line in outcome.lines["tokens"]}
    assert all(1.3 < time_s < 1.5 for time_s in last.values()), "everybody streams until then, and no longer"
    turns = {(line["device"], line["stream"]) for line in outcome.lines["streams"]}
    assert len(turns) > 5, "text after text"
    for stream in outcome.lines["streams"]:
        key = stream["device"], stream["stream"]
        lines = [line for line in outcome.lines["tokens"] if (line["device"], line["stream"]) == key]
        assert len(lines) == stream["num_tokens"]


def test_random_arrivals_are_in_their_time_and_differ_by_seed() -> None:
    began = [
        sorted(line["began_s"] for line in run_trial(MANY, seed).lines["streams"] if line["stream"] == 0)
        for seed in (1, 2)
    ]
    assert began[0] != began[1]
    assert all(0 <= time_s <= 0.3 for times in began for time_s in times)


def test_edges_are_spread_over_processes_and_the_records_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    path.write_text(
        'seeds = 1\nrecords = "tokens"\n[link]\nrtt_ms = 40\n'
        "[load]\ndevices = 5\nedges = 2\ntokens = 30\nseconds = 1.5\n"
        '[grid]\n"policy.name" = ["cloud", "adaptive"]\n'
    )
    progress: list[tuple[int, int]] = []
    assert run_campaign(path, tmp_path / "two", jobs=2, on_progress=lambda *at: progress.append(at)) == 2
    assert progress[-1] == (4, 4)
    assert run_campaign(path, tmp_path / "one", jobs=1) == 2
    two, one = Store(tmp_path / "two").runs(), Store(tmp_path / "one").runs()
    assert [run.digest for run in two] == [run.digest for run in one]
    assert check_folder(tmp_path / "two") == []
    here = run_trial(read_experiment(path).points[0], 0, records="tokens")
    assert digest_of(here.lines) == two[0].digest
    assert two[0].effort.num_tokens == len(here.lines["tokens"])
    assert run_campaign(path, tmp_path / "two", jobs=2) == 0


def test_a_run_without_records_says_the_same() -> None:
    kept, bare = (run_trial(MANY, 0, records=records) for records in ("all", "none"))
    assert kept.figures == bare.figures
    assert not any(step["who"].startswith("device") for step in bare.lines["steps"])


def test_a_measured_curve_stands_for_the_declared_line() -> None:
    line = ModelSettings(pass_ms=40, row_ms=0.5)
    curve = ModelSettings(curve_ms=((1, 40), (21, 50)))
    assert [curve.pass_s(rows) for rows in (1, 7, 21, 100)] == pytest.approx(
        [line.pass_s(rows) for rows in (1, 7, 21, 100)]
    )
    load = LoadSettings(devices=3, tokens=20)
    runs = [run_trial(Point(models=models, load=load), 0).figures for models in (line, curve)]
    assert runs[0] == runs[1]


def test_a_curve_bends_at_its_corners_and_goes_on_behind_the_last() -> None:
    curve = check_curve("curve_ms", [[1, 10], [3, 20], [5, 60]])
    assert [on_curve(curve, rows) for rows in (0.5, 1, 2, 3, 4, 5, 6)] == [10, 10, 15, 20, 40, 60, 80]


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ("[[1, 10]]", "at least two"),
        ("[[1, 10], 3]", "pairs"),
        ("[[1, 10], [1, 20]]", "must rise"),
        ("[[1, 10], [4, 5]]", "must rise"),
        ("[[0, 10], [4, 50]]", "at least 1"),
    ],
)
def test_a_bad_curve_is_refused_with_its_line(curve: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"[models]\ncurve_ms = {curve}\n")
    with pytest.raises(SettingsError, match=reason) as caught:
        read_experiment(path)
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        ({"devices": 2, "edges": 3}, "more than the 2 devices"),
        ({"seconds": 2, "arrivals_s": 2}, "before the run does"),
        ({"arrival": "in droves"}, "even, random"),
    ],
)
def test_a_load_that_cannot_be_is_refused(load: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        LoadSettings(**load)  # type: ignore[arg-type]


def test_effort_adds_up_and_is_kept_with_the_run() -> None:
    parts = [Effort(num_events=10, cpu_s=1.0, peak_bytes=5, num_tokens=2) for _ in range(2)]
    both = Effort.of_all(parts)
    assert (both.num_events, both.cpu_s, both.peak_bytes, both.num_tokens) == (20, 2.0, 5, 4)
    assert (both.events_per_s, both.us_per_token) == (10, 500_000)
    assert Effort(**json.loads(json.dumps(dataclasses.asdict(both)))) == both
    assert "20 events, 10 a second" in str(both)
