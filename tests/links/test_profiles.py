"""Links by name: figures that are what they say, files of one's own, and clear refusals."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import pytest

from cascade.errors import SettingsError
from cascade.links.conditions import Conditions
from cascade.links.profiles import Profile, load_profile, profile_names
from cascade.links.shaper import Shaper

NAMES = ("lan", "wifi", "lte", "5g", "3g", "leo", "geo", "lossy-wifi", "train")
NUM_PACKETS = 10_000
PACKET_BYTES = 1000


def test_the_names() -> None:
    assert profile_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_says_where_its_figures_come_from(name: str) -> None:
    profile = load_profile(name)
    assert profile.about
    assert profile.sources
    assert all(source.endswith(".") for source in profile.sources)
    for way in (profile.up, profile.down):
        assert way.rate_bytes_per_s is not None
        assert way.queue_bytes < 1 << 22


each_way = pytest.mark.parametrize(
    ("name", "conditions"),
    [(name, way) for name in NAMES for way in (load_profile(name).up, load_profile(name).down)],
    ids=[f"{name}-{way}" for name in NAMES for way in ("up", "down")],
)


@each_way
def test_delay_and_loss_are_as_stated(name: str, conditions: Conditions) -> None:
    """Packets one by one, none behind another: delay within 3 %, loss within three standard errors."""
    conditions = dataclasses.replace(conditions, outages=(), outages_every_s=None)
    shaper = Shaper(conditions, seed=1, is_reliable=False)
    every_s = 20 * (conditions.delay_s + conditions.jitter_s) + 1
    delays_s = [
        passage.arrivals_s[0] - number * every_s
        for number in range(NUM_PACKETS)
        if (passage := shaper.take(number * every_s, PACKET_BYTES)).arrivals_s
    ]
    assert conditions.rate_bytes_per_s
    stated_s = conditions.delay_s + conditions.jitter_s + PACKET_BYTES / conditions.rate_bytes_per_s
    assert statistics.fmean(delays_s) == pytest.approx(stated_s, rel=0.03)
    error = math.sqrt(conditions.loss * (1 - conditions.loss) / NUM_PACKETS)
    assert shaper.num_dropped / NUM_PACKETS == pytest.approx(conditions.loss, abs=3 * error)


@each_way
def test_a_stream_stalls_as_often_as_packets_are_lost(name: str, conditions: Conditions) -> None:
    conditions = dataclasses.replace(conditions, outages=(), outages_every_s=None)
    shaper = Shaper(conditions, seed=2, is_reliable=True)
    for number in range(NUM_PACKETS):
        assert len(shaper.take(100.0 * number, PACKET_BYTES).arrivals_s) == 1
    error = math.sqrt(conditions.loss * (1 - conditions.loss) / NUM_PACKETS)
    assert shaper.num_stalled / NUM_PACKETS == pytest.approx(conditions.loss, abs=3 * error)


@each_way
@pytest.mark.parametrize("is_reliable", [False, True], ids=["datagrams", "stream"])
def test_the_rate_is_as_stated(name: str, conditions: Conditions, is_reliable: bool) -> None:
    """A sender that always has more, its queue never full."""
    conditions = dataclasses.replace(
        conditions, loss=0, jitter_s=0, outages=(), outages_every_s=None, queue_bytes=1 << 30
    )
    shaper = Shaper(conditions, seed=3, is_reliable=is_reliable)
    arrivals = [shaper.take(0.0, PACKET_BYTES).arrivals_s[0] for _ in range(NUM_PACKETS)]
    measured = (NUM_PACKETS - 1) * PACKET_BYTES / (arrivals[-1] - arrivals[0])
    assert measured == pytest.approx(conditions.rate_bytes_per_s, rel=0.03)


@pytest.mark.parametrize("name", ["leo", "train"])
def test_outages_come_again_and_again(name: str) -> None:
    conditions = dataclasses.replace(load_profile(name).up, loss=0)
    assert conditions.outages_every_s is not None
    out_s = sum(end_s - start_s for start_s, end_s in conditions.outages)
    shaper = Shaper(conditions, seed=4, is_reliable=False)
    num_steps = 100_000
    step_s = 10 * conditions.outages_every_s / num_steps
    for number in range(num_steps):
        shaper.take(number * step_s, 1)
    assert shaper.num_dropped / num_steps == pytest.approx(out_s / conditions.outages_every_s, rel=0.05)


OWN = """
about = "the radio in our factory"
sources = ["ping and iperf3"]

[up]
delay_ms = 12
jitter_ms = 3
rate_mbit_per_s = 2
queue_kib = 64
loss = 0.01
outages = [[5, 6.5]]
outages_every_s = 30

[down]
delay_ms = 10.5
trace = "hall.down"
"""


def write(folder: Path, text: str) -> Path:
    (folder / "hall.down").write_text("1\n2\n")
    path = folder / "factory.toml"
    path.write_text(text)
    return path


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    profile = load_profile(write(tmp_path, OWN))
    assert (profile.name, profile.about) == ("factory", "the radio in our factory")
    assert profile.sources == ("ping and iperf3",)
    assert profile.up == Conditions(
        delay_s=0.012,
        jitter_s=0.003,
        rate_bytes_per_s=250_000,
        queue_bytes=65_536,
        loss=0.01,
        outages=((5, 6.5),),
        outages_every_s=30,
    )
    assert profile.down.delay_s == 0.0105
    assert profile.down.trace is not None
    assert profile.down.mean_rate_bytes_per_s == pytest.approx(1_500_000)
    assert isinstance(load_profile(str(tmp_path / "factory.toml")), Profile)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("delay_ms = 12", "delay = 12", r"up\.delay: unknown in .*factory\.toml; known are delay_ms, dup"),
        ("about", "abuot", r"abuot: unknown in .*; known are about, down, sources, up"),
        ("delay_ms = 12", "delay_ms = -1", r"up\.delay_ms: must be at least 0, not -0.001 \(in .*toml\)"),
        ("delay_ms = 12", "delay_ms = '12'", r"up\.delay_ms: must be a number, not '12'"),
        ("delay_ms = 12", "delay_ms = true", r"up\.delay_ms: must be a number, not True"),
        ("delay_ms = 12", "delay_ms = nan", r"up\.delay_ms: must be a finite number"),
        ("loss = 0.01", "loss = 1.5", r"up\.loss: must be at most 1, not 1.5"),
        ("loss = 0.01", "loss = 'a little'", r"up\.loss: must be a finite number"),
        ("[[5, 6.5]]", "[5, 6.5]", r"up\.outages: must be a list of \[from, to\] in seconds"),
        ("[[5, 6.5]]", "[[5, 6.5, 7]]", r"up\.outages: must be a list of"),
        ("[[5, 6.5]]", "[[5, 4]]", r"up\.outages: must be at least 0"),
        ("every_s = 30", "every_s = 6", r"up\.outages_every_s: the schedule lasts 6.5 s"),
        ("hall.down", "missing", r"trace: cannot read .*missing"),
        ('"hall.down"', "7", r"down\.trace: must be the path of a file"),
        ('trace = "', 'rate_mbit_per_s = 1\ntrace = "', r"down\.trace: is a rate already"),
        ("[down]", "[dwon]", r"dwon: unknown"),
        ("[down]\ndelay_ms = 10.5\ntrace", "[up.x]\ntrace", r"up\.x: unknown|down: is missing"),
        ('["ping and iperf3"]', '"ping"', r"sources: must be a list of texts"),
        ('"the radio in our factory"', "7", r"about: must be a text"),
        ("[up]", "[up", r"factory\.toml is no TOML file: .*line 5"),
    ],
)
def test_faults_in_a_file_are_named(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    assert old in OWN
    with pytest.raises(SettingsError, match=complaint):
        load_profile(write(tmp_path, OWN.replace(old, new, 1)))


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"there is no 'lte2'; there are lan, wifi, lte, .* or name a TOML"
    ):
        load_profile("lte2")
    with pytest.raises(SettingsError, match="cannot read"):
        load_profile(tmp_path / "mine.toml")


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_say_what_the_file_says(name: str) -> None:
    def out(conditions: Conditions) -> str:
        if not conditions.outages:
            return ""
        out_s = sum(end_s - start_s for start_s, end_s in conditions.outages)
        return f"{out_s:.3g} s every {conditions.outages_every_s:g} s "

    up, down = load_profile(name).up, load_profile(name).down
    assert (up.delay_s, up.jitter_s, up.outages) == (down.delay_s, down.jitter_s, down.outages)
    assert up.rate_bytes_per_s
    assert down.rate_bytes_per_s
    row = (
        f"| {name} | {1000 * up.delay_s:g} + {1000 * up.jitter_s:g} "
        f"| {up.rate_bytes_per_s / 125_000:.6g} / {down.rate_bytes_per_s / 125_000:.6g} "
        f"| {100 * up.loss:g} / {100 * down.loss:g} | {out(up)}|"
    )
    docs = (Path(__file__).parents[2] / "docs/links.md").read_text(encoding="utf-8")
    assert row in docs.splitlines()


def test_the_docs_own_profile_loads(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs/links.md").read_text(encoding="utf-8")
    text = docs.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "hall-7.down").write_text("10\n")
    path = tmp_path / "factory.toml"
    path.write_text(text)
    profile = load_profile(path)
    assert profile.up.outages == ((5, 6.5),)
    assert profile.down.trace is not None
