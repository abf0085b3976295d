"""The picture of the design's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .plots import check_plot

__all__ = ["plot_design"]

PLAIN_MS = 50.0
"""Per token, over any link: a pass of the design's target."""


def plot_design(
    cells: Sequence[Mapping[str, Any]], path: str, *, agreement: float = 0.8, about: str = ""
) -> None:
    """Milliseconds per token over the round trip, a line a way to decode. `about` goes with an SVG."""
    check_plot(path)
    import matplotlib
    from matplotlib.figure import Figure

    lines = {
        "ask and wait, best k": ("ask-and-wait", "#D55E00", "s"),
        "hint-driven": ("hint-driven", "#009E73", "D"),
    }
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cascade", "font.size": 11}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for name, (policy, colour, mark) in lines.items():
            rows = [row for row in cells if (row["agreement"], row["policy"]) == (agreement, policy)]
            rtts = [row["rtt_ms"] for row in rows]
            times_ms = [row["ms_per_token"] for row in rows]
            axes.plot(rtts, times_ms, marker=mark, color=colour, linewidth=2)
            axes.annotate(
                name, (rtts[-1], times_ms[-1]), (8, 0), textcoords="offset points", color=colour, va="center"
            )
        axes.axhline(PLAIN_MS, color="#0072B2", linewidth=2)
        axes.annotate(
            "plain streaming",
            (rtts[-1], PLAIN_MS),
            (8, 7),
            textcoords="offset points",
            color="#0072B2",
            va="center",
        )
        axes.set(
            xlabel="round trip between device and edge, ms",
            ylabel="milliseconds per token",
            xlim=(0, 1.02 * rtts[-1]),
            ylim=(0, None),
            xticks=rtts,
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        metadata = {"Date": None, "Description": about} if path.endswith(".svg") else {}
        figure.savefig(path, dpi=120, metadata=metadata)
