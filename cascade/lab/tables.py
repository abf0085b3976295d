"""Figures as tables on the terminal, whatever their shape.

Scalars become one table of two columns, nested mappings are flattened with dots, and a list of mappings
becomes a table of its own with a column for each key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["print_report"]


def print_report(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `cascade.lab.bench.run` returned."""
    console = console or Console()
    figures = dict(_flatten(report["figures"]))
    about = ", quick" if report["quick"] else ""
    console.print(
        f"[bold]{report['benchmark']}[/bold]  ({report['machine']}, Python {report['python']}{about})"
    )
    for name, rows in figures.items():
        if _is_rows(rows):
            console.print(_table_of_rows(name, rows))
    scalars = {name: value for name, value in figures.items() if not _is_rows(value)}
    if scalars:
        console.print(_table_of_scalars(scalars))


def _flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table_of_rows(title: str, rows: list[Mapping[str, Any]]) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=title, title_justify="left")
    for column in columns:
        is_number = all(isinstance(row.get(column, 0), int | float) for row in rows)
        table.add_column(column, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_shown(row.get(column, "")) for column in columns))
    return table


def _table_of_scalars(scalars: Mapping[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in scalars.items():
        table.add_row(name, _shown(value))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return str(value)
