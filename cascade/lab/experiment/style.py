"""How figures look: colours, markers, and what stands on the axes.

Colours are Okabe and Ito's and a grey, told apart by the colour-blind, and never alone: markers and dashes
differ too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .measured import FIGURES
from .settings import FigureSettings
from .summary import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "AXES",
    "COLOURS",
    "DASHES",
    "HATCHES",
    "beside",
    "by_value",
    "distinct",
    "finish",
    "named",
    "style",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vPX*"
DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
)
HATCHES = "/.x\\o+-|"
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
    "policy.quality": "quality promised",
    **FIGURES,
}


def named(name: str) -> str:
    """What an axis of this setting or figure is called."""
    return AXES.get(name, name)


def style(number: int) -> dict[str, Any]:
    """Of the n-th line of a figure."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markersize": 5,
    }


def distinct(values: Iterable[Any]) -> list[Any]:
    """Numbers in their order, names as they come."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(value, int | float) for value in found) else found


def by_value(figure: FigureSettings, groups: Sequence[Group]) -> list[tuple[str, list[Group]]]:
    """A line for each value of `by`."""
    values = distinct(group.settings[figure.by] for group in groups)
    return [
        (str(value), [group for group in groups if group.settings[figure.by] == value]) for value in values
    ]


def finish(axes: Axes, x: str, y: str, figure: FigureSettings) -> None:
    """Labels, a grid, and a legend beside the picture, where it covers nothing."""
    axes.set(xlabel=named(x), ylabel=named(y))
    axes.grid(alpha=0.3)
    beside(axes, named(figure.by))


def beside(axes: Axes, title: str, handles: Sequence[Any] | None = None) -> None:
    """A legend to the right."""
    options: dict[str, Any] = {} if handles is None else {"handles": handles}
    axes.legend(
        **options,
        title=title,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        fontsize=8,
        title_fontsize=8,
        frameon=False,
    )
