"""Pictures of figures. Needs matplotlib: the extra `lab`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SettingsError
from ..prices import Prices
from .advice import AXES, Situation, crossings, expect

ADVICE_AXES = ("round trip", "device load", "edge load", "price of a pass")
NUM_PLOTTED = 16

__all__ = ["check_plot", "plot_advice", "plot_front", "plot_gain"]


def check_plot(path: str) -> None:
    """Can a picture be written there? For those who have an hour's work to do before."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SettingsError("plot", "needs matplotlib; pip install 'cascade-edge[lab]'") from None
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise SettingsError("plot", f"cannot write {path}: {error.strerror}") from None


def plot_gain(gains: Sequence[Mapping[str, Any]], path: str) -> None:
    """Devices held and gain over the goal, one line for each cost of a row; the model's lines are dashed."""
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    devices, gain = figure.subplots(1, 2)
    for number, per_row_ms in enumerate(sorted({row["per_row_ms"] for row in gains})):
        rows = [row for row in gains if row["per_row_ms"] == per_row_ms]
        goals = [row["goal_ms"] for row in rows]
        colour = f"C{number}"
        name = f"t(n) = 50 + {per_row_ms:g} n ms"
        devices.plot(
            goals, [row["devices_hinted"] for row in rows], "o-", color=colour, label=f"{name}, hints"
        )
        devices.plot(
            goals, [row["devices_plain"] for row in rows], "s:", color=colour, label="the same, ignored"
        )
        both = [row for row in rows if row["times_devices"]]
        gain.plot(
            [row["goal_ms"] for row in both],
            [row["times_devices"] for row in both],
            "o-",
            color=colour,
            label=name,
        )
        modelled = [row for row in both if row["model_devices_plain"] > 0]
        gain.plot(
            [row["goal_ms"] for row in modelled],
            [row["model_devices_hinted"] / row["model_devices_plain"] for row in modelled],
            "--",
            color=colour,
            label="model, of the mean",
        )
    devices.set(xlabel="goal, ms per token (p95 over streams)", ylabel="devices held", ylim=(0, None))
    gain.set(xlabel="goal, ms per token (p95 over streams)", ylabel="times the devices", ylim=(0, None))
    gain.axhline(1.0, color="grey", linewidth=0.8)
    for axes in (devices, gain):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def plot_front(front: Sequence[Mapping[str, Any]], path: str) -> None:
    """What a token costs the edge and how long it takes: a line a round trip, a mark an objective."""
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    marks = {"latency": "o", "balanced": "s", "cost": "^"}
    for number, rtt_ms in enumerate(dict.fromkeys(row["rtt_ms"] for row in front)):
        rows = [row for row in front if row["rtt_ms"] == rtt_ms]
        passes = [row["passes_per_token"] for row in rows]
        times_ms = [row["ms_per_token"] for row in rows]
        errors_ms = [2 * row["ms_error"] for row in rows]
        colour = f"C{number}"
        axes.errorbar(passes, times_ms, errors_ms, color=colour, linewidth=1, label=f"R = {rtt_ms:g} ms")
        for row, x, y in zip(rows, passes, times_ms, strict=True):
            axes.plot(x, y, marks[row["objective"]], color=colour)
    for objective, mark in marks.items():
        axes.plot([], [], mark, color="grey", label=objective)
    axes.plot([1.0], [50.0], "*", color="black", markersize=10, label="plain streaming")
    axes.set(
        xlabel="the edge's passes per token",
        ylabel="milliseconds per token",
        xlim=(0, 1.05),
        ylim=(0, None),
        title="Agreement 0.8, a pass 50 ms, a draft step 5 ms",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2, loc="lower right")
    figure.savefig(path, dpi=120)


def plot_advice(situation: Situation, prices: Prices, path: str) -> None:
    """Cost above, time per token below, over round trip, load and the price of a pass: a line a mode."""
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    grid = figure.subplots(2, len(ADVICE_AXES), squeeze=False)
    for column, axis in enumerate(axis for axis in AXES if axis.name in ADVICE_AXES):
        unit = prices.waiting_s if axis.unit == "" else 1.0
        ratio = (axis.high / axis.low) ** (1 / (NUM_PLOTTED - 1))
        values = [unit * axis.low * ratio**step for step in range(NUM_PLOTTED)]
        rows = [expect(*axis.at(situation, prices, value)) for value in values]
        for number, mode in enumerate(
            each.mode for each in sorted(rows[0], key=lambda each: each.mode.value)
        ):
            of_mode = [next(each for each in row if each.mode is mode) for row in rows]
            style = "-" if all(each.keeps_quality for each in of_mode) else ":"
            shown = [axis.scale * value for value in values]
            costs, times_ms = grid[0][column], grid[1][column]
            colour = f"C{number}"
            costs.plot(shown, [each.cost_per_1000 for each in of_mode], style, color=colour, label=mode.value)
            times_ms.plot(shown, [1000 * each.s_per_token for each in of_mode], style, color=colour)
        for crossing in crossings(situation, prices, axis):
            for axes in grid[:, column]:
                axes.axvline(axis.scale * crossing.value, color="grey", linewidth=0.8, linestyle="--")
        name = f"{axis.name}, {axis.unit}" if axis.unit else axis.name
        grid[0][column].set(xscale="log", yscale="log", ylabel="cost of 1000 tokens")
        grid[1][column].set(xscale="log", yscale="log", ylabel="ms per token", xlabel=name)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    grid[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=120)
