"""The kinds of figures, each a function from runs to a picture. Needs matplotlib: the extra `lab`.

Colours are Okabe and Ito's, told apart by the colour-blind, and never alone: markers and dashes differ too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from .capacity import draw_capacity
from .measured import FIGURES, gaps_ms
from .settings import FigureSettings
from .store import Run
from .summary import Group, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
AXES = {
    "link.rtt_ms": "round trip [ms]",
    "link.jitter_ms": "jitter, mean each way [ms]",
    "link.profile": "link",
    "models.agreement": "agreement of draft and target",
    "models.draft_step_ms": "draft step [ms]",
    "models.row_ms": "cost of a further row [ms]",
    "models.pass_ms": "pass of the target [ms]",
    "load.devices": "devices",
    "policy.name": "policy",
    "policy.label": "policy",
    "policy.k": "guesses at a time",
    "policy.patience_ms": "patience [ms]",
    "policy.objective": "objective",
    **FIGURES,
}
SHOWN_TOKENS = 24
"""Of a timeline: more would be too small to see."""


def draw(figure: FigureSettings, runs: Sequence[Run]) -> Figure:
    """The picture; an error of ours where the runs do not hold what it needs."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SettingsError("report", "needs matplotlib; pip install 'cascade-edge[lab]'") from None
    groups = grouped(runs, figure.where)
    if not groups:
        raise SettingsError("where", f"no run has {dict(figure.where)}")
    for name in filter(None, (figure.x, figure.by)):
        if name not in groups[0].settings and name not in FIGURES:
            raise SettingsError("figure", f"{name!r} is neither a setting nor a figure of a run")
    wide = figure.kind == "timeline"
    picture = Figure(figsize=(9.5 if wide else 6.4, 3.6), layout="constrained")
    _KINDS[figure.kind](picture.subplots(), figure, groups)
    return picture


def _lines(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """A figure of a run over a setting, with 95 % intervals over seeds."""
    names = _distinct(group.settings[figure.x] for group in groups)
    is_named = any(isinstance(name, str) for name in names)
    for number, (label, members) in enumerate(_by(figure, groups)):
        estimates = [group.figure(figure.y) for group in members]
        places = [group.settings[figure.x] for group in members]
        axes.errorbar(
            [names.index(place) for place in places] if is_named else places,
            [estimate.mean for estimate in estimates],
            yerr=[
                0 if estimate.half_width != estimate.half_width else estimate.half_width
                for estimate in estimates
            ],
            capsize=3,
            label=label,
            **_style(number),
        )
    if is_named:
        axes.set_xticks(range(len(names)), [str(name) for name in names])
    axes.set_ylim(bottom=0)
    _finish(axes, figure.x, figure.y, figure)


def _cdf(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Gaps between tokens: the share of them that is at most so long."""
    for number, (label, members) in enumerate(_by(figure, groups)):
        gaps = sorted(gap for group in members for run in group.runs for gap in gaps_ms(run.lines("tokens")))
        if gaps:
            style = _style(number)
            axes.step(
                [gaps[0], *gaps],
                [index / len(gaps) for index in range(len(gaps) + 1)],
                where="post",
                label=label,
                color=style["color"],
                linestyle=style["linestyle"],
            )
    axes.set(xlabel="gap between tokens [ms]", ylabel="share of gaps", ylim=(0, 1.02), xlim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(title=AXES.get(figure.by, figure.by), fontsize=8, title_fontsize=8)


def _front(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """One figure of a run against another: what is paid for what."""
    for number, (label, members) in enumerate(_by(figure, groups)):
        style = _style(number)
        axes.plot(
            [group.figure(figure.x).mean for group in members],
            [group.figure(figure.y).mean for group in members],
            style["marker"],
            color=style["color"],
            label=label,
        )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    _finish(axes, figure.x, figure.y, figure)


def _winners(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Over two settings: which policy is fastest, and by how much of the runner-up's time."""
    y = figure.y if figure.y not in FIGURES else "models.agreement"
    columns = _distinct(group.settings[figure.x] for group in groups)
    rows = _distinct(group.settings[y] for group in groups)
    labels = _distinct(group.settings[figure.by] for group in groups)
    cells: dict[tuple[int, int], list[tuple[float, int]]] = {}
    for group in groups:
        place = (rows.index(group.settings[y]), columns.index(group.settings[figure.x]))
        cost = group.figure("ms_per_token").mean
        cells.setdefault(place, []).append((cost, labels.index(group.settings[figure.by])))
    for (row, column), candidates in cells.items():
        ordered = sorted(candidates)
        (best, winner), (second, _) = ordered[0], ordered[min(1, len(ordered) - 1)]
        axes.add_patch(
            _rectangle((column - 0.5, row - 0.5), COLOURS[winner % len(COLOURS)], hatch="/.x\\"[winner % 4])
        )
        gain = f"{best:.0f} ms\n-{100 * (1 - best / second):.0f} %" if second else f"{best:.0f} ms"
        axes.text(column, row, gain, ha="center", va="center", fontsize=8, bbox=_PAPER)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.set_xticks(range(len(columns)), [str(value) for value in columns])
    axes.set_yticks(range(len(rows)), [str(value) for value in rows])
    axes.set(xlabel=AXES.get(figure.x, figure.x), ylabel=AXES.get(y, y))
    handles = [
        _rectangle((0, 0), COLOURS[number % len(COLOURS)], hatch="/.x\\"[number % 4])
        for number in range(len(labels))
    ]
    axes.legend(
        handles,
        [str(label) for label in labels],
        title=f"fastest {AXES.get(figure.by, figure.by)}",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=8,
        title_fontsize=8,
    )


def _capacity(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Devices that hold a goal; dotted: the fluid model."""
    curves = _by(figure, groups)
    draw_capacity(axes, figure.y, curves, [_style(number) for number in range(len(curves))])
    _finish(axes, figure.y, "load.devices", figure)
    axes.set(xlabel=f"goal: {AXES.get(figure.y, figure.y)}", ylabel="devices held")


def _timeline(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """One stream's pipeline as lanes: draft steps, messages in flight, passes, and tokens as they came."""
    run = groups[0].runs[0]
    tokens = [line for line in run.lines("tokens") if (line["device"], line["stream"]) == ("device-0", 0)]
    if not tokens:
        raise SettingsError("figure", 'a timeline needs the lines of its run: records = "all"')
    shown = tokens[:SHOWN_TOKENS]
    end_s = shown[-1]["time_s"] + 0.01
    lanes = ("device drafts", "hints fly up", "edge passes", "commits fly down", "tokens")
    place = {lane: len(lanes) - 1 - number for number, lane in enumerate(lanes)}
    for step in run.lines("steps"):
        if step["who"] in ("edge", "edge-0", "device-0") and step["began_s"] < end_s:
            lane = "device drafts" if step["who"] == "device-0" else "edge passes"
            _bar(
                axes,
                place[lane],
                step["began_s"],
                step["ended_s"],
                COLOURS[2 if step["who"] == "device-0" else 0],
            )
    for message in run.lines("messages"):
        if message["device"] != "device-0" or message["sent_s"] > end_s or not message.get("tokens"):
            continue
        lane = "hints fly up" if message["way"] == "up" else "commits fly down"
        if message["arrived_s"] is not None and message["kind"] in ("hint", "commit"):
            colour = COLOURS[4 if message["way"] == "up" else 5]
            axes.plot(
                [1000 * message["sent_s"], 1000 * message["arrived_s"]],
                [place[lane] + 0.35, place[lane] - 0.35],
                color=colour,
                linewidth=1,
            )
    for source, marker, colour in (
        ("hinted", "^", COLOURS[2]),
        ("driven", "s", COLOURS[1]),
        ("kept", "o", COLOURS[3]),
    ):
        times = [1000 * token["time_s"] for token in shown if token["source"] == source]
        if times:
            axes.plot(times, [place["tokens"]] * len(times), marker, color=colour, label=source, markersize=5)
    axes.set_yticks(range(len(lanes)), list(reversed(lanes)))
    axes.set(
        xlabel="time since the stream was asked for [ms]",
        xlim=(0, 1000 * end_s),
        ylim=(-0.6, len(lanes) - 0.4),
    )
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="token", fontsize=8, title_fontsize=8)


_KINDS: dict[str, Callable[[Any, FigureSettings, Sequence[Group]], None]] = {
    "lines": _lines,
    "cdf": _cdf,
    "front": _front,
    "winners": _winners,
    "timeline": _timeline,
    "capacity": _capacity,
}
_PAPER = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}


def _rectangle(corner: tuple[float, float], colour: str, *, hatch: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", hatch=hatch, linewidth=1)


def _bar(axes: Axes, row: float, began_s: float, ended_s: float, colour: str) -> None:
    axes.broken_barh(
        [(1000 * began_s, 1000 * (ended_s - began_s))],
        (row - 0.35, 0.7),
        facecolor=colour,
        edgecolor="white",
        linewidth=0.5,
    )


def _by(figure: FigureSettings, groups: Sequence[Group]) -> list[tuple[str, list[Group]]]:
    values = _distinct(group.settings[figure.by] for group in groups)
    return [
        (str(value), [group for group in groups if group.settings[figure.by] == value]) for value in values
    ]


def _distinct(values: Iterable[Any]) -> list[Any]:
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(value, int | float) for value in found) else found


def _style(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markersize": 5,
    }


def _finish(axes: Axes, x: str, y: str, figure: FigureSettings) -> None:
    axes.set(xlabel=AXES.get(x, x), ylabel=AXES.get(y, y))
    axes.grid(alpha=0.3)
    axes.legend(title=AXES.get(figure.by, figure.by), fontsize=8, title_fontsize=8)
