"""Hint-driven decoding against its rivals in virtual time: the design's table, by the real code.

Virtual time, so the figures are exact and the same everywhere; only how long it takes to get them differs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ..design_plot import plot_design
from ..design_table import make_table
from ..plots import check_plot

__all__ = ["run"]


def run(*, quick: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Every cell: milliseconds, passes and payload bytes per token, and how far the design's figure is."""
    if plot is not None:
        check_plot(plot)
    runs, tokens = (5, 400) if quick else (10, 3000)
    figures = make_table(num_runs=runs, num_tokens=tokens)
    rows = [{**dataclasses.asdict(figure), "deviation": round(figure.deviation, 4)} for figure in figures]
    if plot is not None:
        plot_design(rows, plot)
    return {"runs": runs, "tokens": tokens, "cells": rows}
