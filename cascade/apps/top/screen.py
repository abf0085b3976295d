"""The dashboard: a table for each address, a sparkline for each figure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .figures import Figure, Report

__all__ = ["Panel", "sparkline"]

BARS = "▁▂▃▄▅▆▇█"
NUM_PAST = 40
"""Looks that a sparkline goes back."""
MAX_ROWS = 8
"""Identities shown; --json has them all."""


class Panel:
    """What is shown of one address, and what was."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._report: Report | None = None
        self._problem = ""
        self._past: dict[str, deque[float | None]] = {}

    def update(self, report: Report) -> None:
        self._report, self._problem = report, ""
        for figure in report.figures:
            self._past.setdefault(figure.key, deque(maxlen=NUM_PAST)).append(figure.value)

    def fail(self, problem: str) -> None:
        """It did not answer this time; what it said last stays."""
        self._problem = problem
        for past in self._past.values():
            past.append(None)

    def render(self) -> RenderableType:
        parts: list[RenderableType] = [self._title()]
        if self._problem:
            parts.append(Text(self._problem, style="red"))
        if self._report is not None:
            parts.append(self._figures(self._report.figures))
            if self._report.rows:
                parts.append(_rows(self._report))
        return Group(*parts, Text())

    def _title(self) -> Text:
        if self._report is None:
            return Text(self.url, style="bold")
        known = (self._report.kind, self._report.name, self._report.model, self.url)
        state = self._report.state
        style = "green" if state == "ok" and not self._problem else "red"
        return Text.assemble((" ".join(part for part in known if part), "bold"), "  ", (state, style))

    def _figures(self, figures: Iterable[Figure]) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column(style="cyan", no_wrap=True)
        for figure in figures:
            table.add_row(figure.label, _shown(figure), sparkline(self._past[figure.key]))
        return table


def sparkline(values: Iterable[float | None]) -> str:
    """From 0, or the lowest below it, to the highest; what is not known is a gap."""
    values = list(values)
    known = [value for value in values if value is not None]
    if not known or max(known) == min(known) == 0:
        return ""
    low, high = min(0.0, *known), max(known)
    steps = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[round(steps * (value - low) / ((high - low) or 1))] for value in values
    )


def _rows(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, name in enumerate(report.rows[0]):
        table.add_column(name.replace("_per_s", " a second"), justify="right" if index else "left")
    for row in report.rows[:MAX_ROWS]:
        table.add_row(*(Text(str(value)) for value in row.values()))
    if len(report.rows) > MAX_ROWS:
        table.add_row(Text(f"and {len(report.rows) - MAX_ROWS} more", style="dim"))
    return table


def _shown(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    value = figure.value
    digits = 0 if value >= 100 or value == int(value) else 1
    return f"{value:,.{digits}f} {figure.unit}".rstrip()
