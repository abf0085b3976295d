"""A picture of `cascade bench scale`: the real code's points on the fluid model's lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .fluid import Crowd, devices_within, flow
from .plots import check_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_scale"]

COLOURS = {"cloud": "#0072B2", "hint-driven": "#D55E00", "adaptive": "#009E73"}
DASHES = {"cloud": "--", "hint-driven": "-", "adaptive": ":"}
MARKERS = {"cloud": "o", "hint-driven": "s", "adaptive": "D"}
PANELS = {
    "ms_per_token": "time per token [ms]",
    "tokens_per_s": "tokens a second, all devices",
    "messages_per_s": "messages a second, all devices",
}
LIMITS = ("-.", ":")


def plot_scale(figures: Mapping[str, Any], *, crowds: Mapping[str, Crowd], path: str) -> None:
    """Four panels; `crowds` are those whose lines are drawn, by policy."""
    check_plot(path)
    from matplotlib.figure import Figure

    edges = figures["edges"]
    picture = Figure(figsize=(10, 7.2), layout="constrained")
    panels = picture.subplots(2, 2).ravel()
    for axes, (name, label) in zip(panels, PANELS.items(), strict=False):
        _over_devices(axes, name, figures, crowds)
        axes.set(xlabel=f"devices on {edges} edges", ylabel=label, xscale="log")
        axes.grid(alpha=0.3)
        axes.set_yscale("log")
    _mark_knees(panels[0], figures)
    _mark_brokers(panels[2], figures)
    _held(panels[3], crowds)
    for axes in panels:
        axes.legend(fontsize=8)
    picture.suptitle("Lines: the fluid model. Markers: the real code in virtual time.", fontsize=10)
    picture.savefig(path, dpi=130)


def _over_devices(axes: Axes, name: str, figures: Mapping[str, Any], crowds: Mapping[str, Crowd]) -> None:
    edges = figures["edges"]
    most = max(row["devices"] for row in figures["fluid"])
    counts = [edges * (most / edges) ** (step / 60) for step in range(61)]
    for policy, crowd in crowds.items():
        flows = [flow(crowd, count / edges) for count in counts]
        values = {
            "ms_per_token": [1000 * one.s_per_token for one in flows],
            "tokens_per_s": [edges * one.tokens_per_s for one in flows],
            "messages_per_s": [edges * one.messages_per_s for one in flows],
        }[name]
        axes.plot(counts, values, DASHES[policy], color=COLOURS[policy], label=policy)
    for policy in COLOURS:
        rows = [row for row in figures["real"] if row["policy"] == policy]
        label = None if policy in crowds else policy
        places = [row["devices"] for row in rows]
        hollow = "none" if label else COLOURS[policy]
        axes.plot(
            places,
            [row[name] for row in rows],
            MARKERS[policy],
            color=COLOURS[policy],
            markerfacecolor=hollow,
            markersize=9 if label else 5,
            label=label,
        )


def _mark_knees(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Where an edge is saturated."""
    for row in figures["saturation"]:
        if row["what"] == "one edge":
            axes.plot(
                [row["devices"] * figures["edges"]],
                [row["ms_per_token"]],
                "*",
                color=COLOURS[row["policy"]],
                markersize=11,
                markeredgecolor="black",
                label=f"{row['policy']}: edges saturated",
            )


def _mark_brokers(axes: Axes, figures: Mapping[str, Any]) -> None:
    """What one broker takes."""
    brokers = list(dict.fromkeys(row["what"] for row in figures["saturation"] if row["what"] != "one edge"))
    for what, dash in zip(brokers, LIMITS, strict=False):
        limit = float(what.split(": ", 1)[1].split()[0].replace(",", ""))
        axes.axhline(limit, linestyle=dash, color="black", linewidth=1, label=what.rpartition(",")[0])


def _held(axes: Axes, crowds: Mapping[str, Crowd]) -> None:
    """The capacity curve of one edge."""
    goals_ms = [16 * 1.07**step for step in range(30)]
    for policy, crowd in crowds.items():
        held = [(goal_ms, devices_within(crowd, goal_ms / 1000)) for goal_ms in goals_ms]
        held = [(goal_ms, devices) for goal_ms, devices in held if devices]
        axes.plot(
            [goal_ms for goal_ms, _ in held],
            [devices for _, devices in held],
            DASHES[policy],
            color=COLOURS[policy],
            label=policy,
        )
    axes.set(xlabel="goal of the mean time per token [ms]", ylabel="devices held by one edge")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
