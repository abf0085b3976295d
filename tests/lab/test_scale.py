"""Many devices on many edges: sharded by edge, ended by the clock, with cost curves that were measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cascade.apps.lab_fluid import ask
from cascade.errors import SettingsError
from cascade.lab.bench import scale
from cascade.lab.bench._campaign import Work
from cascade.lab.curves import check_curve, on_curve
from cascade.lab.experiment.campaign import run_campaign
from cascade.lab.experiment.capacity import devices_held, draw_capacity
from cascade.lab.experiment.checking import check_folder
from cascade.lab.experiment.crowd import crowd_of
from cascade.lab.experiment.effort import Effort
from cascade.lab.experiment.reading import flat, read_experiment
from cascade.lab.experiment.report import write_report
from cascade.lab.experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point
from cascade.lab.experiment.store import Store, digest_of
from cascade.lab.experiment.summary import grouped
from cascade.lab.experiment.trial import run_edge, run_trial
from cascade.lab.scale_plot import plot_scale

ROOT = Path(__file__).parents[2]

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
    # Not to the event: how many there are depends a little on when the garbage collector comes by.
    num_events = sum(part.effort.num_events for part in parts)
    assert both.effort.num_events == pytest.approx(num_events, rel=0.01)
    assert num_events > 1000
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


# The capacity curve, and the fluid model beside it


def test_devices_held_lie_on_lines_between_the_points() -> None:
    points = [(10.0, 50.0), (20.0, 60.0), (40.0, 80.0)]
    assert [devices_held(points, goal) for goal in (49, 50, 55, 70, 79)] == [0, 10, 15, 30, 39]
    assert devices_held(points, 80) is None, "more might have held it"


def test_a_capacity_curve_is_drawn_with_the_model_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "capacity.toml"
    path.write_text(
        'seeds = 1\nrecords = "none"\n[models]\nrow_ms = 1\n[link]\nrtt_ms = 20\n'
        "[load]\ntokens = 1000\nseconds = 1.5\n"
        '[grid]\n"load.devices" = [2, 12]\n"policy.name" = ["cloud", "hint-driven"]\n'
        '[[figure]]\nkind = "capacity"\n'
    )
    run_campaign(path, tmp_path / "out", jobs=1)
    page = write_report(tmp_path / "out").read_text()
    assert "devices held" in page
    assert "fluid model" in page
    groups = grouped(Store(tmp_path / "out").runs())
    clouds = [group for group in groups if group.settings["policy.label"] == "cloud"]
    axes = Figure().subplots()
    style = {"marker": "o", "color": "black", "markersize": 3}
    draw_capacity(axes, "ms_per_token", [("cloud", clouds)], [style])
    held, points = (np.asarray(line.get_xdata()).max() for line in axes.lines[:2])
    assert held < points, "to where the runs go, and no farther"
    crowd = crowd_of(groups[-1].settings)
    assert crowd.has_hints
    assert crowd.rtt_s == 0.02
    assert crowd.cost_s(11) == pytest.approx(0.060)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[link]\nrtt_ms = 1\njitter_ms = 3\n", "knows no jitter"),
        ('[link]\nprofile = "lte"\n', "knows no profiles"),
        ("[models]\nconcentration = 3\n", "knows no chances that vary"),
        ('[policy]\nname = "ask-and-wait"\n', "that its edge waits for"),
        ('[policy]\nobjective = "cost"\n', "that its edge waits for"),
        ('[policy]\nname = "hint-driven"\npatience_ms = 50\n', "knows no patience"),
    ],
)
def test_what_the_fluid_model_does_not_know_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        crowd_of(flat(read_experiment(path).points[0]))


def test_the_fluid_model_is_asked_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "examples" / "lab" / "scale.toml"
    ask(path, devices=[100, 10_000], goals_ms=[60], edges=4, brokers_per_s=[1000], as_json=True)
    answers = json.loads(capsys.readouterr().out)
    few, many = [row for row in answers["devices"] if row["policy.label"] == "cloud"]
    assert few["ms_per_token"] == pytest.approx(50 + 0.5 * 24)
    assert many["ms_per_token"] == pytest.approx(50 + 0.5 * 2499)
    held = {row["policy.label"]: row["devices_held"] for row in answers["goals"]}
    assert held["cloud"] == 4 * 21
    assert held["adaptive, latency"] > 2 * held["cloud"]
    edges, broker, *_ = answers["saturation"]
    assert (edges["what"], edges["devices"]) == ("edges", pytest.approx(400, rel=0.1))
    # A commit each 50 to 60 ms, and an acknowledgement now and then.
    assert broker["devices"] == pytest.approx(1000 * 0.055, rel=0.1)
    ask(path, devices=[100], goals_ms=[], edges=None, brokers_per_s=[], as_json=False)
    assert "adaptive" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="devices"):
        ask(path, devices=[0], goals_ms=[], edges=None, brokers_per_s=[], as_json=True)


# The benchmark around its runs


def test_a_row_of_the_benchmark_is_the_sum_of_its_edges(tmp_path: Path) -> None:
    works = [Work(scale.measure_edge, (16, "cloud", edge, 3.0)) for edge in range(scale.EDGES)]
    parts = [work.function(*work.arguments) for work in works]
    assert [part["devices"] for part in parts] == [2] * 8
    assert [part["messages"] is None for part in parts] == [False] + [True] * 7
    row = scale._together(works[0], parts)
    assert row["ms_per_token"] == pytest.approx(50.1, rel=0.03)
    assert row["tokens_per_s"] == pytest.approx(16 * 20, rel=0.03)
    errors = scale._errors(row)
    assert abs(errors["ms_per_token"]) < 0.03
    assert all(one["holds"] for one in scale._musts([errors], [], 1.0, 1.0))
    bad = {**errors, "ms_per_token": -0.2}
    far = {"error": -0.3}
    assert [one["holds"] for one in scale._musts([bad], [far], 11.0, 1.0)] == [False, False, False, True]
    effort = scale._effort(works[0], parts)
    assert effort["events"] == sum(part["effort"]["num_events"] for part in parts[1:])
    figures = {
        "edges": scale.EDGES,
        "real": [row],
        "fluid": [{"devices": 10_000}],
        "saturation": scale._saturation(),
    }
    plot_scale(figures, crowds={"cloud": scale.crowd_of("cloud")}, path=str(tmp_path / "scale.png"))
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_the_model_is_held_against_edges_of_other_kinds() -> None:
    row = scale.measure_elsewhere(0.6, 20.0, 0.5, 6, 6.0)
    assert row["error"] == pytest.approx(row["fluid_ms_per_token"] / row["ms_per_token"] - 1, abs=1e-3)
    assert abs(row["error"]) < 0.15, "six devices and four seconds scatter"
    assert len(set(scale.ELSEWHERE)) == 16
