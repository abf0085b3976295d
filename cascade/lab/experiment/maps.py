"""Maps over two settings: who is fastest where, and where a policy begins to win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from .measured import FIGURES
from .settings import FigureSettings
from .style import COLOURS, DASHES, HATCHES, beside, distinct, named
from .summary import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_heat", "draw_winners"]

PAPER = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}


def draw_winners(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """Which policy is fastest, and by how much of the runner-up's time."""
    grid = _Grid(figure, groups)
    labels = distinct(group.settings[figure.by] for group in groups)
    used = set()
    for row, column in grid.places:
        ordered = sorted((cost, labels.index(label)) for label, cost in grid.costs(row, column).items())
        (best, winner), (second, _) = ordered[0], ordered[min(1, len(ordered) - 1)]
        used.add(winner)
        axes.add_patch(_rectangle((column - 0.5, row - 0.5), winner))
        gain = f"{best:.0f} ms\n-{100 * (1 - best / second):.0f} %" if second else f"{best:.0f} ms"
        axes.text(column, row, gain, ha="center", va="center", fontsize=8, bbox=PAPER)
    grid.label(axes)
    handles = [_rectangle((0, 0), number, label=str(labels[number])) for number in sorted(used)]
    beside(axes, f"fastest {named(figure.by)}", handles)


def draw_heat(axes: Axes, figure: FigureSettings, groups: Sequence[Group]) -> None:
    """The gain of one policy over another, and for each policy the line beyond which it loses to that."""
    import numpy as np
    from matplotlib.lines import Line2D

    grid = _Grid(figure, groups)
    labels = distinct(group.settings[figure.by] for group in groups)
    for label in (figure.of, figure.against):
        if label not in labels:
            raise SettingsError("figure", f"no point's {figure.by} is {label!r}; there are {labels}")
    gains = {
        label: np.array(
            [
                [
                    grid.costs(row, column)[figure.against] / grid.costs(row, column)[label]
                    for column in range(len(grid.columns))
                ]
                for row in range(len(grid.rows))
            ]
        )
        for label in labels
        if label != figure.against
    }
    shown = gains[figure.of]
    reach = max(0.05, float(np.abs(np.log2(shown)).max()))
    picture = axes.imshow(
        np.log2(shown), cmap="PuOr_r", vmin=-reach, vmax=reach, origin="lower", aspect="auto"
    )
    for (row, column), gain in np.ndenumerate(shown):
        axes.text(column, row, f"{gain:.2f}", ha="center", va="center", fontsize=8, bbox=PAPER)
    handles = []
    for number, (label, values) in enumerate(gains.items()):
        colour, dashes = COLOURS[-1 - number % len(COLOURS)], DASHES[number % len(DASHES)]
        if values.min() < 1 < values.max():
            axes.contour(values, levels=[1.0], colors=[colour], linestyles=[dashes], linewidths=2)
            handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=2, label=label))
        else:
            verdict = "nowhere slower" if values.min() >= 1 else "nowhere faster"
            handles.append(Line2D([], [], color="none", label=f"{label}: {verdict}"))
    grid.label(axes)
    bar = axes.figure.colorbar(picture, ax=axes, location="top", shrink=0.8, pad=0.02)
    ticks = [tick for tick in (0.25, 0.5, 0.71, 1, 1.41, 2, 2.83, 4) if abs(np.log2(tick)) <= reach]
    bar.set_ticks([float(np.log2(tick)) for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.set_label(f"{figure.of}: times as fast as {figure.against}", fontsize=8)
    beside(axes, f"slower than {figure.against} to the right of", handles)


class _Grid:
    """Two settings, and what stands at each place."""

    def __init__(self, figure: FigureSettings, groups: Sequence[Group]) -> None:
        self._x = figure.x
        self._y = figure.y if figure.y not in FIGURES else "models.agreement"
        self._by = figure.by
        self.columns = distinct(group.settings[self._x] for group in groups)
        self.rows = distinct(group.settings[self._y] for group in groups)
        self._cells: dict[tuple[int, int], dict[str, float]] = {}
        for group in groups:
            place = (self.rows.index(group.settings[self._y]), self.columns.index(group.settings[self._x]))
            cost = group.figure("ms_per_token").mean
            self._cells.setdefault(place, {})[group.settings[self._by]] = cost
        has_holes = len(self._cells) < len(self.rows) * len(self.columns)
        if has_holes or len({tuple(cell) for cell in self._cells.values()}) > 1:
            raise SettingsError("figure", "a map needs every policy at every place; narrow it by `where`")

    @property
    def places(self) -> list[tuple[int, int]]:
        return list(self._cells)

    def costs(self, row: int, column: int) -> dict[str, float]:
        """Milliseconds per token by policy."""
        return self._cells[row, column]

    def label(self, axes: Axes) -> None:
        axes.set(xlim=(-0.5, len(self.columns) - 0.5), ylim=(-0.5, len(self.rows) - 0.5))
        axes.set_xticks(range(len(self.columns)), [str(value) for value in self.columns])
        axes.set_yticks(range(len(self.rows)), [str(value) for value in self.rows])
        axes.set(xlabel=named(self._x), ylabel=named(self._y))


def _rectangle(corner: tuple[float, float], number: int, label: str = "") -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        corner,
        1,
        1,
        facecolor=COLOURS[number % len(COLOURS)],
        edgecolor="white",
        hatch=HATCHES[number % len(HATCHES)],
        linewidth=1,
        label=label,
    )
