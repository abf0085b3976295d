"""Figures over time: one stream's pipeline as lanes, and a run while its link drifts."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from .settings import FigureSettings
from .store import Run
from .style import COLOURS, beside, by_value, style
from .summary import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_drift", "draw_timeline"]

SHOWN_TOKENS = 24
"""Of a timeline: more would be too small to see."""
BIN_S = 1.0
"""Of a drift plot: tokens are counted by the second."""
STATE_S = 0.5
"""And the controller's state is taken together by this."""
DEVICE, STREAM = "device-0", 0
LANES = (
    "device drafts",
    "hints fly up",
    "hints wait",
    "edge passes",
    "commits fly down",
    "tokens",
)


def draw_timeline(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Draft steps, messages in flight, hints that wait, passes, rollbacks, and tokens as they came."""
    run = groups[0].runs[0]
    tokens = _of_first_stream(run, "tokens")
    if not tokens:
        raise SettingsError("figure", 'a timeline needs the lines of its run: records = "all"')
    shown = [token for token in tokens if token["time_s"] >= figure.from_s][:SHOWN_TOKENS]
    if not shown:
        raise SettingsError("from_s", f"the stream was over after {tokens[-1]['time_s']:.1f} s")
    start_s = figure.from_s
    end_s = shown[-1]["time_s"] + 0.01
    place = {lane: len(LANES) - 1 - number for number, lane in enumerate(LANES)}
    steps = [step for step in run.lines("steps") if step["began_s"] < end_s and step["ended_s"] > start_s]
    passes = [step for step in steps if not step["who"].startswith("device-")]
    for step in steps:
        if step["who"] == DEVICE:
            _bar(axes, place["device drafts"], step["began_s"], step["ended_s"], COLOURS[2])
    for step in passes:
        _bar(axes, place["edge passes"], step["began_s"], step["ended_s"], COLOURS[0])
        middle_ms = 500 * (step["began_s"] + step["ended_s"])
        axes.text(
            middle_ms,
            place["edge passes"],
            str(step["rows"]),
            ha="center",
            va="center",
            fontsize=6,
            color="white",
        )
    begins = [step["began_s"] for step in passes]
    for message in run.lines("messages"):
        if message["device"] != DEVICE or message["kind"] not in ("hint", "commit") or not message["tokens"]:
            continue
        if message["arrived_s"] is None or message["sent_s"] > end_s or message["arrived_s"] < start_s:
            continue
        is_up = message["way"] == "up"
        lane = place["hints fly up" if is_up else "commits fly down"]
        axes.plot(
            [1000 * message["sent_s"], 1000 * message["arrived_s"]],
            [lane + 0.35, lane - 0.35],
            color=COLOURS[4 if is_up else 5],
            linewidth=1.2,
        )
        if is_up:
            next_pass = bisect.bisect_left(begins, message["arrived_s"])
            if next_pass < len(begins):
                _bar(axes, place["hints wait"], message["arrived_s"], begins[next_pass], COLOURS[4])
    _rollbacks(axes, run, place["device drafts"], start_s, end_s)
    for source, marker, colour in (
        ("hinted", "^", COLOURS[2]),
        ("driven", "s", COLOURS[1]),
        ("kept", "o", COLOURS[3]),
    ):
        marks = [mark for mark, token in _stacked(shown) if token["source"] == source]
        if marks:
            times, heights = zip(*marks, strict=True)
            axes.plot(times, heights, marker, color=colour, label=source, markersize=4)
    axes.set_yticks(range(len(LANES)), list(reversed(LANES)))
    axes.set(
        xlabel="time since the stream was asked for [ms]; on a pass: its rows",
        xlim=(1000 * start_s, 1000 * end_s),
        ylim=(-0.6, len(LANES) - 0.4),
    )
    axes.grid(alpha=0.3, axis="x")
    beside(axes, "")


def draw_drift(picture: Figure, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """What every policy brings second by second; under it the link, and what the controller makes of it."""
    speed, link, control = picture.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1.2))
    if not any(run.lines("tokens") for run in groups[0].runs):
        raise SettingsError("figure", 'a drift plot needs the lines of its run: records = "all"')
    for number, (label, members) in enumerate(by_value(figure, groups)):
        runs = [run for group in members for run in group.runs]
        seconds, rates = _rates(runs)
        speed.plot(seconds, rates, label=label, **(style(number) | {"markersize": 3}))
    speed.set(ylabel="tokens/s", ylim=(0, None))
    beside(speed, "policy")
    ours = [
        group
        for group in groups
        if figure.of in (group.settings["policy.label"], group.settings["policy.name"])
    ]
    if not ours:
        raise SettingsError("figure", f"no point's policy is {figure.of!r}")
    lines = _of_first_stream(ours[0].runs[0], "control")
    if not lines:
        raise SettingsError("figure", 'the controller\'s state is kept with records = "all" only')
    times = [line["time_s"] for line in lines]
    settings = ours[0].settings
    changes = [
        (0.0, settings["link.rtt_ms"]),
        *((one["at_s"], one["rtt_ms"]) for one in settings["link.drift"]),
    ]
    link.step(
        [at for at, _ in changes] + [times[-1]],
        [rtt for _, rtt in changes] + [changes[-1][1]],
        where="post",
        color=COLOURS[6],
        label="the link's",
    )
    link.plot(
        times, [_ms(line, "rtt_s") for line in lines], ".", color=COLOURS[1], markersize=2, label="estimated"
    )
    link.set(ylabel="round trip\n[ms]", ylim=(0, None))
    beside(link, figure.of)
    _controller(control, lines)
    for axes in (speed, link, control):
        axes.grid(alpha=0.3)
        for at_s, _ in changes[1:]:
            axes.axvline(at_s, color="black", linewidth=0.8, linestyle=":")


def _controller(axes: Axes, lines: Sequence[dict[str, Any]]) -> None:
    """How far the device is ahead, and how long it lets the edge wait: means, and all that was between."""
    ahead: dict[int, list[float]] = {}
    for line in lines:
        ahead.setdefault(int(line["time_s"] / STATE_S), []).append(line["ahead"])
    seconds = [STATE_S * (number + 0.5) for number in ahead]
    axes.fill_between(
        seconds,
        [min(some) for some in ahead.values()],
        [max(some) for some in ahead.values()],
        color=COLOURS[0],
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(
        seconds, [sum(some) / len(some) for some in ahead.values()], color=COLOURS[0], label="tokens ahead"
    )
    axes.set(ylabel="tokens ahead", ylim=(0, None), xlabel="time [s]", xlim=(0, lines[-1]["time_s"]))
    handles = axes.get_legend_handles_labels()[0]
    patience_ms = [_ms(line, "patience_s") for line in lines]
    if any(patience_ms):
        other = axes.twinx()
        other.step(
            [line["time_s"] for line in lines],
            patience_ms,
            where="post",
            color=COLOURS[3],
            linestyle="--",
            label="patience",
        )
        other.set(ylabel="patience [ms]", ylim=(0, 1.1 * max(patience_ms)))
        handles += other.get_legend_handles_labels()[0]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)


def _rates(runs: Sequence[Run]) -> tuple[list[float], list[float]]:
    """Tokens a second, by the second, mean over runs; the last second, which is not whole, is left out."""
    counts: list[dict[int, int]] = []
    for run in runs:
        found: dict[int, int] = {}
        for line in run.lines("tokens"):
            found[int(line["time_s"] / BIN_S)] = found.get(int(line["time_s"] / BIN_S), 0) + 1
        counts.append(found)
    last = min(max(found) for found in counts)
    seconds = [BIN_S * (number + 0.5) for number in range(last)]
    return seconds, [
        sum(found.get(number, 0) for found in counts) / len(counts) / BIN_S for number in range(last)
    ]


def _stacked(tokens: Sequence[dict[str, Any]]) -> list[tuple[tuple[float, float], dict[str, Any]]]:
    """Where each token is drawn: those of one moment above each other, the first at the top."""
    found = []
    for time_s, some in itertools.groupby(tokens, key=lambda token: float(token["time_s"])):
        together = list(some)
        for number, token in enumerate(together):
            height = 0.35 - 0.7 * (number + 0.5) / len(together) if len(together) > 1 else 0.0
            found.append(((1000 * time_s, height), token))
    return found


def _rollbacks(axes: Axes, run: Run, lane: int, start_s: float, end_s: float) -> None:
    before, times = 0, []
    for line in _of_first_stream(run, "control"):
        if line["rollbacks"] > before and start_s <= line["time_s"] < end_s:
            times.append(1000 * line["time_s"])
        before = line["rollbacks"]
    if times:
        axes.vlines(times, lane - 0.45, lane + 0.45, color=COLOURS[6], linewidth=1.5, label="rollback")


def _of_first_stream(run: Run, kind: str) -> list[dict[str, Any]]:
    return [line for line in run.lines(kind) if (line["device"], line["stream"]) == (DEVICE, STREAM)]


def _ms(line: dict[str, Any], name: str) -> float:
    return 1000 * float(line.get(name, 0.0))


def _bar(axes: Axes, row: float, began_s: float, ended_s: float, colour: str) -> None:
    axes.broken_barh(
        [(1000 * began_s, 1000 * (ended_s - began_s))],
        (row - 0.35, 0.7),
        facecolor=colour,
        edgecolor="white",
        linewidth=0.5,
    )
