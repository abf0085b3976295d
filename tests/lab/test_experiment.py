"""Experiments: from a file to records to a report, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.text import Text

from cascade.errors import SettingsError
from cascade.lab.experiment.campaign import run_campaign
from cascade.lab.experiment.checking import check_folder
from cascade.lab.experiment.comparing import capacity, stand_beside
from cascade.lab.experiment.drawing import draw
from cascade.lab.experiment.pairs import find_recording
from cascade.lab.experiment.reading import read_experiment
from cascade.lab.experiment.recording import Recorder
from cascade.lab.experiment.report import write_book, write_report
from cascade.lab.experiment.settings import (
    FigureSettings,
    LinkSettings,
    LoadSettings,
    ModelSettings,
    Point,
    PolicySettings,
    PriceSettings,
    PublishedSettings,
)
from cascade.lab.experiment.store import Store, digest_of
from cascade.lab.experiment.summary import estimate, grouped
from cascade.lab.experiment.trial import run_trial
from cascade.settings import from_mapping
from cascade.wire import Codec

from ..helpers import in_virtual_time

ROOT = Path(__file__).parents[2]
SMALL = """
about = "A look"
seeds = 2

[load]
tokens = 40

[grid]
"link.rtt_ms" = [0, 100]
"policy.name" = ["cloud", "adaptive"]

[[figure]]
kind = "lines"
title = "Time per token"
x = "link.rtt_ms"

[[figure]]
kind = "timeline"
title = "Pipeline"
where = { "link.rtt_ms" = 100, "policy.name" = "adaptive" }
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "small.toml").write_text(SMALL)
    run_campaign(folder / "small.toml", folder / "out", jobs=1)
    return folder / "out"


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """The runs of `small`, to do with as a test likes."""
    return Path(shutil.copytree(made_once, tmp_path / "out"))


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    program = (
        "from cascade.lab.experiment.trial import run_trial; from cascade.lab.experiment.settings import *;"
        "from cascade.lab.experiment.store import digest_of;"
        "p = Point(link=LinkSettings(rtt_ms=80, jitter_ms=5), load=LoadSettings(devices=3, tokens=40));"
        "print(digest_of(run_trial(p, 7).lines))"
    )
    there = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
        for _ in range(2)
    ]
    point = Point(link=LinkSettings(rtt_ms=80, jitter_ms=5), load=LoadSettings(devices=3, tokens=40))
    here = digest_of(run_trial(point, 7).lines)
    assert [run.stdout.strip() for run in there] == [here, here]
    assert digest_of(run_trial(point, 8).lines) != here


def test_a_campaign_goes_on_where_it_stopped(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    progress: list[tuple[int, int]] = []
    assert run_campaign(small, out, jobs=1, on_progress=lambda *at: progress.append(at)) == 8
    assert progress[0] == (0, 8)
    assert progress[-1] == (8, 8)
    gone = Store(out).runs()[3].folder
    digest = json.loads((gone / "run.json").read_text())["digest"]
    (gone / "run.json").unlink()
    assert run_campaign(small, out, jobs=1) == 1
    assert json.loads((gone / "run.json").read_text())["digest"] == digest
    assert run_campaign(small, out, jobs=1) == 0


def test_another_experiment_is_not_mixed_in(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_campaign(small, out, jobs=1)
    small.write_text(SMALL.replace("[0, 100]", "[0, 50]"))
    with pytest.raises(SettingsError, match="another experiment"):
        run_campaign(small, out, jobs=1)


def test_records_explain_the_figures(made: Path) -> None:
    assert check_folder(made) == []
    cloud, adaptive = grouped(Store(made).runs(), {"link.rtt_ms": 100})
    assert cloud.figure("ms_per_token").mean == pytest.approx(50)
    assert cloud.figure("first_token_ms").mean == pytest.approx(150)
    assert adaptive.figure("ms_per_token").mean < 50
    assert adaptive.figure("hinted_share").mean + adaptive.figure("passes_per_token").mean >= 0.95


@pytest.mark.parametrize("kind", ["tokens", "messages", "streams"])
def test_a_changed_line_is_found(made: Path, kind: str) -> None:
    path = Store(made).runs()[0].folder / f"{kind}.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2] + lines[-1:]) + "\n" if len(lines) > 1 else "")
    assert check_folder(made)


def test_a_changed_time_is_found_though_no_figure_needs_it(made: Path) -> None:
    path = Store(made).runs()[0].folder / "messages.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[3]["arrived_s"] += 0.001
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert any("digest" in fault for fault in check_folder(made))


def test_bytes_that_no_link_carried_are_found(made: Path) -> None:
    path = Store(made).runs()[0].folder / "messages.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"commit"' not in line))
    assert any("bytes counted" in fault for fault in check_folder(made))


def test_runs_of_other_settings_are_made_again(small: Path, made: Path) -> None:
    path = Store(made).runs()[0].folder / "run.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "key": "of another version"}))
    assert run_campaign(small, made, jobs=1) == 1
    assert json.loads(path.read_text())["key"] == about["key"]


@in_virtual_time
async def test_equal_messages_under_way_are_told_apart() -> None:
    recorder = Recorder(Codec(64))
    recorder.begin()
    recorder.sent("device-0", "up", b"x")
    await asyncio.sleep(1)
    recorder.sent("device-0", "up", b"x")
    await asyncio.sleep(1)
    recorder.arrived("device-0", "up", b"x")
    await asyncio.sleep(1)
    for _ in range(2):  # the last is a duplicate
        recorder.arrived("device-0", "up", b"x")
    assert [(line["sent_s"], line["arrived_s"]) for line in recorder.messages] == [(0, 2), (1, 3)]


def test_the_report_is_drawn_from_the_records_alone(made: Path) -> None:
    page = write_report(made)
    first = page.read_bytes()
    assert write_report(made).read_bytes() == first
    text = first.decode()
    assert text.count("<svg") == 2
    assert "http://" not in text.replace("http://www.w3.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("http://purl.org", "")
    assert sorted(path.suffix for path in (made / "figures").iterdir()) == [".png", ".png", ".svg", ".svg"]


@pytest.mark.needs_chromium
@pytest.mark.parametrize("is_book", [False, True])
def test_the_report_opens_in_a_browser_without_a_network(made: Path, tmp_path: Path, is_book: bool) -> None:
    other = shutil.copytree(made, made.with_name("other"))
    page = write_book(tmp_path, [made, other]) if is_book else write_report(made)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run(
        [chromium, *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.count('role="img"') == (4 if is_book else 2)
    ids = re.findall(r'\bid="([^"]+)"', done.stdout)
    assert len(ids) == len(set(ids))
    assert "Time per token" in done.stdout
    assert "± " in done.stdout


PUBLISHED = """[[published]]
paper = "A paper"
says = "x"
setting = "x"
unlike = "x"
ours = "ms_per_token"
"""
FAULTS = {
    "unknown setting": ("[link]\nrtt = 3\n", "rtt", 2),
    "unknown table": ("[lnk]\nrtt_ms = 3\n", "lnk", 1),
    "bad value": ("seeds = 1\n[models]\nagreement = 1.5\n", "agreement", 3),
    "bad policy": ('[policy]\nname = "magic"\n', "ask-and-wait", 2),
    "grid of nothing": ('[grid]\n"link.rtt_ms" = 100\n', "list of the values", 2),
    "grid over what is not": ('[grid]\n"weather" = [1]\n', "no such setting", 2),
    "bad value in the grid": ('[grid]\n"models.agreement" = [0.5, 2]\n', "at most 1", 2),
    "no such profile": ('[link]\nprofile = "carrier-pigeon"\n', "carrier-pigeon", 2),
    "profile and round trip": ('[link]\nprofile = "lte"\nrtt_ms = 3\n', "leave rtt_ms", 2),
    "drift backwards": (
        "[link]\ndrift = [{ at_s = 2, rtt_ms = 1 }, { at_s = 1, rtt_ms = 1 }]\n",
        "order of time",
        2,
    ),
    "no such recording": ('[models]\nkind = "paced"\nrecording = "moby"\n', "shipped are smollm2-135m", 3),
    "agreement of a recording": ('[models]\nkind = "paced"\nagreement = 0.5\n', "leave agreement", 3),
    "real models in virtual time": ('[models]\nkind = "real"\n', 'clock = "real"', 2),
    "a price below nothing": ("[prices]\ngb_usd = -1\n", "at least 0", 2),
    "a promise above one": ('[policy]\nname = "cascade"\nquality = 1.5\n', "at most 1", 3),
    "figure without x": ('[[figure]]\nkind = "cdf"\n[[figure]]\nkind = "lines"\n', "needs it", 3),
    "figure of a wrong kind": ('[[figure]]\nkind = "cdf"\n[[figure]]\nkind = "pie"\n', "winners", 4),
    "figures that are none": ('figure = "lines"\n', "array of tables", 1),
    "published without a paper": ('[[published]]\nsays = "fast"\n', "paper", 1),
    "published beside nothing": (f'{PUBLISHED}how = "speedup"\n', "what to compare with", 1),
    "quick form of no axis": ('[quick]\ngrid."link.rtt_ms" = [1]\n', "is no axis", 2),
    "unknown in the quick form": ("[quick]\nsedes = 1\n", "sedes", 2),
    "bad value in the quick form": ("seeds = 2\n[quick]\nseeds = 0\n", "at least 1", 3),
    "heat of nobody": ('[[figure]]\nkind = "heat"\nx = "link.rtt_ms"\n', "of", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_malformed_file_gets_file_line_and_reason(name: str, tmp_path: Path) -> None:
    text, reason, line = FAULTS[name]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_experiment(path, quick="quick" in text)
    assert reason in str(caught.value)
    assert "bad.toml" in str(caught.value)
    assert f"line {line}" in str(caught.value)


def test_no_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("seeds = 1\n[link\n")
    with pytest.raises(SettingsError, match=r"line 2"):
        read_experiment(path)
    with pytest.raises(SettingsError, match="cannot read"):
        read_experiment(tmp_path / "none.toml")


TRACES = {
    "mahimahi": "\n".join(str(millisecond) for millisecond in range(1, 200, 4)),
    "cooked": "0.5 1.2\n1.0 0.3\n1.5 2.0\n",
    "six columns": "\n".join(f"1 {1000 * second} 51.0 3.7 {40000 + second} 1000" for second in range(1, 6)),
}


@pytest.mark.parametrize("form", TRACES)
def test_a_trace_runs_end_to_end(form: str, tmp_path: Path) -> None:
    (tmp_path / "down.trace").write_text(TRACES[form])
    link = LinkSettings(rtt_ms=20, trace_down="down.trace", folder=str(tmp_path))
    traced = run_trial(Point(link=link, load=LoadSettings(tokens=30)), 1)
    assert traced.figures["ms_per_token"] > 0
    assert len(traced.lines["tokens"]) == 30


def test_a_profile_of_ones_own_runs_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "hall.toml").write_text("[up]\ndelay_ms = 30\n[down]\ndelay_ms = 10\n")
    link = LinkSettings(profile="hall.toml", folder=str(tmp_path))
    cloud = PolicySettings(name="cloud")
    outcome = run_trial(Point(link=link, policy=cloud, load=LoadSettings(tokens=10)), 1)
    assert outcome.figures["first_token_ms"] == pytest.approx(90)


def test_a_drifting_link_changes_when_it_says() -> None:
    path = ROOT / "examples" / "lab"
    drift = read_experiment(path / "first.toml").points[0].link.drift
    assert drift == ()
    from cascade.lab.experiment.settings import Change

    link = LinkSettings(rtt_ms=20, drift=(Change(at_s=1, rtt_ms=400),))
    cloud = PolicySettings(name="cloud")
    outcome = run_trial(Point(link=link, policy=cloud, load=LoadSettings(tokens=60)), 1)
    flights = [
        message["arrived_s"] - message["sent_s"]
        for message in outcome.lines["messages"]
        if message["arrived_s"] is not None and message["kind"] == "commit"
    ]
    assert min(flights) == pytest.approx(0.01)
    assert max(flights) == pytest.approx(0.2)


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "examples" / "lab").glob("*.toml"))])
def test_shipped_experiments_are_read_and_their_figures_exist(name: str) -> None:
    experiment = read_experiment(ROOT / "examples" / "lab" / name)
    assert experiment.about
    assert experiment.figures


def test_a_paced_run_replays_its_recording() -> None:
    models = ModelSettings(kind="paced")
    texts = find_recording("smollm2-135m", ".").texts
    outcome = run_trial(Point(models=models, link=LinkSettings(rtt_ms=50), load=LoadSettings(tokens=60)), 2)
    assert tuple(token["id"] for token in outcome.lines["tokens"]) == texts[2].answer[:60]
    assert outcome.figures["hinted_share"] > 0


def test_what_is_kept_is_held_against_the_target() -> None:
    point = Point(
        models=ModelSettings(concentration=1),
        link=LinkSettings(rtt_ms=200),
        load=LoadSettings(tokens=400),
        policy=PolicySettings(name="cascade", quality=0.9),
    )
    figures = run_trial(point, 1).figures
    assert figures["kept_share"] > 0.05
    assert 0.9 <= figures["quality"] < 1
    assert figures["at_once_share"] <= figures["kept_share"]


def test_prices_make_energy_and_money() -> None:
    prices = PriceSettings(draft_step_mj=10, byte_uj=1000, waiting_mw=100, edge_usd_per_h=3.6, gb_usd=1000)
    figures = run_trial(Point(load=LoadSettings(tokens=50), prices=prices), 1).figures
    waiting_mj = 100 * (figures["ms_per_token"] * 49 + figures["first_token_ms"]) / 1000 / 50
    drafting_mj = 10 * figures["drafted_per_token"]
    assert figures["device_mj_per_token"] == pytest.approx(
        drafting_mj + waiting_mj + figures["bytes_per_token"], rel=1e-3
    )
    assert figures["usd_per_mtoken"] == pytest.approx(
        figures["edge_ms_per_token"] + figures["bytes_per_token"], rel=1e-3
    )
    free = run_trial(Point(load=LoadSettings(tokens=50)), 1).figures
    assert (free["device_mj_per_token"], free["ms_per_token"]) == (0, figures["ms_per_token"])


def test_patience_may_follow_the_link() -> None:
    policy = PolicySettings(name="hint-driven", patience_rtts=2, patience_ms=10)
    assert Point(link=LinkSettings(rtt_ms=50), policy=policy).stream_policy().patience_s == pytest.approx(
        0.11
    )
    assert policy.label == "hint-driven, window 64, patience 2 R + 10 ms"


def test_the_controllers_state_is_written_down_when_news_come() -> None:
    point = Point(link=LinkSettings(rtt_ms=100), load=LoadSettings(tokens=80))
    lines = run_trial(point, 1).lines
    control, tokens = lines["control"], lines["tokens"]
    assert sorted({line["time_s"] for line in control}) == sorted({token["time_s"] for token in tokens})
    assert control[-1]["rtt_s"] == pytest.approx(0.1, rel=0.1)
    rollbacks = [line["rollbacks"] for line in control]
    assert rollbacks == sorted(rollbacks)
    assert rollbacks[-1] > 0
    assert run_trial(point, 1, records="tokens").lines["control"] == []


QUICK = (
    SMALL
    + """
[quick]
seeds = 1
load.tokens = 20
grid."link.rtt_ms" = [50]
"""
)


def test_a_quick_form_is_another_experiment(tmp_path: Path) -> None:
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    quick, whole = read_experiment(path, quick=True), read_experiment(path)
    assert (len(quick.points), quick.seeds, quick.points[0].load.tokens) == (2, 1, 20)
    assert (len(whole.points), whole.seeds, whole.points[0].load.tokens) == (4, 2, 40)
    assert run_campaign(path, tmp_path / "out", quick=True, jobs=1) == 2
    assert Store(tmp_path / "out").experiment == dataclasses.replace(
        quick, name="experiment", points=Store(tmp_path / "out").experiment.points
    )
    with pytest.raises(SettingsError, match="another experiment"):
        run_campaign(path, tmp_path / "out", jobs=1)


def test_a_figure_may_be_added_to_a_folder(small: Path, made: Path) -> None:
    small.write_text(SMALL + '[[figure]]\nkind = "front"\nx = "passes_per_token"\n')
    assert run_campaign(small, made, jobs=1) == 0
    write_report(made)
    assert len(list((made / "figures").glob("*.svg"))) == 3


def test_a_folder_is_drawn_where_its_traces_are_not(tmp_path: Path) -> None:
    (tmp_path / "hall.toml").write_text("[up]\ndelay_ms = 30\n[down]\ndelay_ms = 10\n")
    path = tmp_path / "hall-experiment.toml"
    path.write_text('seeds = 1\n[link]\nprofile = "hall.toml"\n[load]\ntokens = 10\n')
    run_campaign(path, tmp_path / "out", jobs=1)
    (tmp_path / "hall.toml").unlink()
    assert write_report(tmp_path / "out").is_file()
    with pytest.raises(SettingsError, match=r"hall\.toml"):
        read_experiment(path)


def entry(**values: object) -> PublishedSettings:
    about = {"paper": "p", "says": "s", "setting": "s", "unlike": "u", "ours": "ms_per_token"}
    return from_mapping(PublishedSettings, about | values)


CLOUD, OURS = {"policy.name": "cloud"}, {"policy.name": "adaptive"}


@pytest.mark.parametrize(
    ("how", "of_two"),
    [
        ("speedup", lambda ours, cloud: cloud / ours),
        ("gain", lambda ours, cloud: ours / cloud),
        ("distance", lambda ours, cloud: ours / cloud - 1),
        ("less", lambda ours, cloud: 1 - ours / cloud),
        ("value", lambda ours, cloud: ours),
    ],
)
def test_our_figures_stand_beside_published_ones(
    made: Path, how: str, of_two: Callable[[float, float], float]
) -> None:
    runs = Store(made).runs()
    found = stand_beside(entry(how=how, of=OURS, against=CLOUD, per=("link.rtt_ms",)), runs)
    assert [ours.at["link.rtt_ms"] for ours in found] == [0, 100]
    for ours in found:
        ms = {
            group.settings["policy.name"]: group.figure("ms_per_token").mean
            for group in grouped(runs, {"link.rtt_ms": ours.at["link.rtt_ms"]})
        }
        assert ours.value == pytest.approx(of_two(ms["adaptive"], ms["cloud"]))


def test_what_stands_beside_is_the_best(made: Path) -> None:
    (found,) = stand_beside(entry(of=OURS), Store(made).runs())
    all_ms = [group.figure("ms_per_token").mean for group in grouped(Store(made).runs(), OURS)]
    assert found.value == pytest.approx(min(all_ms))
    assert found.text.endswith(" ms")
    with pytest.raises(SettingsError, match="no point has"):
        stand_beside(entry(of={"policy.name": "nobody's"}), Store(made).runs())
    with pytest.raises(SettingsError, match="no setting"):
        stand_beside(entry(of={"weather": 1}), Store(made).runs())


CROWD = """
seeds = 1
[models]
row_ms = 8
[load]
tokens = 12
[grid]
"load.devices" = [1, 4, 8]
"policy.name" = ["cloud", "adaptive"]
[[figure]]
kind = "goal"
goal_ms = 60
[[published]]
paper = "A paper"
says = "twice the devices"
setting = "theirs"
unlike = "all of it"
ours = "ms_per_token"
how = "capacity"
of = { "policy.name" = "adaptive" }
against = { "policy.name" = "cloud" }
goal_ms = 60
"""


def test_a_capacity_is_where_the_goal_is_passed(tmp_path: Path) -> None:
    path = tmp_path / "crowd.toml"
    path.write_text(CROWD)
    run_campaign(path, tmp_path / "out", jobs=1)
    clouds = grouped(Store(tmp_path / "out").runs(), CLOUD)
    held = capacity(clouds, "ms_per_token", 60)
    costs = {group.settings["load.devices"]: group.figure("ms_per_token").mean for group in clouds}
    assert costs[1] < 60 < costs[4]
    assert held == pytest.approx(1 + 3 * (60 - costs[1]) / (costs[4] - costs[1]))
    assert capacity(clouds, "ms_per_token", 10) == 0
    assert capacity(clouds, "ms_per_token", 1000) == 8
    page = write_report(tmp_path / "out").read_text()
    assert "twice the devices" in page
    assert "devices that hold 60 ms" in page


MAP = """
seeds = 1
records = "all"
[link]
drift = [{ at_s = 1, rtt_ms = 200 }]
[load]
tokens = 60
[grid]
"link.rtt_ms" = [0, 300]
"models.agreement" = [0.3, 0.9]
policy = [{ name = "cloud" }, { name = "ask-and-wait", k = 4 }, { name = "adaptive" }]
"""
MAPS = {
    "heat": (
        'kind = "heat"\nx = "link.rtt_ms"\ny = "models.agreement"\n'
        'of = "adaptive, latency"\nagainst = "cloud"\n',
        ("ask-and-wait, k = 4", "times as fast as cloud"),
    ),
    "drift": (
        'kind = "drift"\nof = "adaptive"\nwhere = { "link.rtt_ms" = 0, "models.agreement" = 0.9 }\n',
        ("tokens ahead", "estimated", "time [s]"),
    ),
    "timeline": (
        'kind = "timeline"\nfrom_s = 0.5\nwhere = { "policy.name" = "adaptive", "models.agreement" = 0.9 }\n',
        ("hints wait", "rollback", "edge passes"),
    ),
}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    (folder / "map.toml").write_text(MAP)
    run_campaign(folder / "map.toml", folder / "out", jobs=1)
    return folder / "out"


@pytest.mark.parametrize("kind", MAPS)
def test_a_picture_says_what_it_shows(kind: str, mapped: Path) -> None:
    text, wanted = MAPS[kind]
    (figure,) = (from_mapping(FigureSettings, table) for table in [tomllib.loads(text)])
    picture = draw(figure, Store(mapped).runs())
    said = {found.get_text() for found in picture.findobj(Text)}
    assert not [phrase for phrase in wanted if not any(phrase in some for some in said)]
    picture.savefig(io.BytesIO(), format="png")  # a layout that does not fit would warn


def test_pictures_that_cannot_be_drawn_say_why(mapped: Path) -> None:
    runs = Store(mapped).runs()
    for text, reason in (
        ('kind = "heat"\nx = "link.rtt_ms"\nof = "nobody"\nagainst = "cloud"\n', "nobody"),
        ('kind = "drift"\nof = "nobody"\n', "nobody"),
        ('kind = "timeline"\nfrom_s = 1000\n', "was over"),
        ('kind = "lines"\nx = "weather"\n', "weather"),
    ):
        with pytest.raises(SettingsError, match=reason):
            draw(from_mapping(FigureSettings, tomllib.loads(text)), runs)


@pytest.mark.parametrize("kind", ["heat", "winners"])
@pytest.mark.parametrize("only", [{"policy.name": "cloud"}, {}])
def test_a_map_with_holes_is_not_drawn(kind: str, only: dict[str, str], mapped: Path) -> None:
    corner = {"link.rtt_ms": 300, "models.agreement": 0.9, **only}
    runs = [
        run
        for run in Store(mapped).runs()
        if any(run.settings[name] != value for name, value in corner.items())
    ]
    text = f'kind = "{kind}"\nx = "link.rtt_ms"\ny = "models.agreement"\n'
    if kind == "heat":
        text += 'of = "adaptive, latency"\nagainst = "cloud"\n'
    with pytest.raises(SettingsError, match="every policy at every place"):
        draw(from_mapping(FigureSettings, tomllib.loads(text)), runs)


def test_real_time_runs_over_real_sockets() -> None:
    models = ModelSettings(pass_ms=5, draft_step_ms=1)
    outcome = run_trial(Point(models=models, load=LoadSettings(tokens=20)), 1, clock="real")
    assert [token["position"] for token in outcome.lines["tokens"]] == list(range(3, 23))
    assert all(message["kind"] != "unknown" for message in outcome.lines["messages"])


def test_confidence_intervals() -> None:
    # Two runs a standard deviation of sqrt(2)/2 apart: t with one degree of freedom is 12.71.
    assert estimate([1.0, 2.0]).half_width == pytest.approx(12.71 / 2)
    assert str(estimate([3.0])) == "3"


def test_a_whole_group_may_be_an_axis(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text('[policy]\nk = 3\n[grid]\npolicy = [{ name = "cloud" }, { name = "ask-and-wait" }]\n')
    points = read_experiment(path).points
    assert [point.policy.label for point in points] == ["cloud", "ask-and-wait, k = 3"]
    path.write_text('[grid]\npolicy = ["cloud"]\n')
    with pytest.raises(SettingsError, match="takes tables"):
        read_experiment(path)
