"""The kinds of figures, each a function from runs to a picture. Needs matplotlib: the extra `lab`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from .capacity import draw_capacity
from .comparing import capacity
from .maps import draw_heat, draw_winners
from .measured import FIGURES, gaps_ms
from .settings import FigureSettings
from .store import Run
from .style import COLOURS, beside, by_value, distinct, finish, named, style
from .summary import Group, grouped
from .timelines import draw_drift, draw_timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]


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
    if figure.kind not in _KINDS:
        picture = Figure(figsize=(9.5, 5.6), layout="constrained")
        draw_drift(picture, figure, groups)
        return picture
    picture = Figure(figsize=(9.5 if figure.kind == "timeline" else 8.0, 3.8), layout="constrained")
    _KINDS[figure.kind](picture.subplots(), figure, groups)
    return picture


def _lines(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """A figure of a run over a setting, with 95 % intervals over seeds."""
    names = distinct(group.settings[figure.x] for group in groups)
    is_named = any(isinstance(name, str) for name in names)
    for number, (label, members) in enumerate(by_value(figure, groups)):
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
            **style(number),
        )
    if is_named:
        axes.set_xticks(range(len(names)), [str(name) for name in names])
    axes.set_ylim(bottom=0)
    finish(axes, figure.x, figure.y, figure)


def _goal(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """A figure of a run over the number of devices, the goal, and where each policy passes it."""
    lines = by_value(figure, groups)
    for number, (label, members) in enumerate(lines):
        held = capacity(members, figure.y, figure.goal_ms)
        points = sorted((group.settings["load.devices"], group.figure(figure.y).mean) for group in members)
        beyond = points[-1][1] <= figure.goal_ms
        axes.plot(
            *zip(*points, strict=True),
            label=f"{label}: {'over ' if beyond else ''}{held:.0f}",
            **style(number),
        )
        if not beyond and held:
            axes.plot(
                [held, held], [0, figure.goal_ms], color=style(number)["color"], linewidth=1, linestyle=":"
            )
    axes.axhline(figure.goal_ms, color=COLOURS[6], linewidth=1)
    axes.annotate(
        f"goal {figure.goal_ms:g} ms",
        (0.01, figure.goal_ms),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8,
    )
    axes.set_ylim(0, 2 * figure.goal_ms)
    axes.set_xlim(left=0)
    axes.set(xlabel=named("load.devices"), ylabel=named(figure.y))
    axes.grid(alpha=0.3)
    beside(axes, "devices held")


def _capacity(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Devices that hold a goal; dotted: the fluid model."""
    curves = by_value(figure, groups)
    draw_capacity(axes, figure.y, curves, [style(number) for number in range(len(curves))])
    axes.set(xlabel=f"goal: {named(figure.y)}", ylabel="devices held")
    axes.grid(alpha=0.3)
    beside(axes, named(figure.by))


def _cdf(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Gaps between tokens: the share of them that is at most so long."""
    for number, (label, members) in enumerate(by_value(figure, groups)):
        gaps = sorted(gap for group in members for run in group.runs for gap in gaps_ms(run.lines("tokens")))
        if gaps:
            line = style(number)
            axes.step(
                [gaps[0], *gaps],
                [index / len(gaps) for index in range(len(gaps) + 1)],
                where="post",
                label=label,
                color=line["color"],
                linestyle=line["linestyle"],
            )
    axes.set(ylim=(0, 1.02), xlim=(0, None))
    finish(axes, "gap between tokens [ms]", "share of gaps", figure)


def _front(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """One figure of a run against another: what is paid for what."""
    for number, (label, members) in enumerate(by_value(figure, groups)):
        line = style(number)
        axes.plot(
            [group.figure(figure.x).mean for group in members],
            [group.figure(figure.y).mean for group in members],
            line["marker"],
            color=line["color"],
            label=label,
        )
    if figure.x not in _SHARES:
        axes.set_xlim(left=0)
    if figure.y not in _SHARES:
        axes.set_ylim(bottom=0)
    finish(axes, figure.x, figure.y, figure)


_SHARES = ("quality",)
"""Near 1, where nothing would be seen on an axis from 0."""
_KINDS: dict[str, Callable[[Any, FigureSettings, Sequence[Group]], None]] = {
    "lines": _lines,
    "cdf": _cdf,
    "front": _front,
    "winners": draw_winners,
    "heat": draw_heat,
    "goal": _goal,
    "capacity": _capacity,
    "timeline": draw_timeline,
}
