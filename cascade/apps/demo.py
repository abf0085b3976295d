"""`cascade demo`: what hint-driven decoding is worth, as one table made by the real code in virtual time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..lab.design_table import AGREEMENTS, POLICIES, RTTS_MS, Figure, make_table

__all__ = ["main"]

CLOUD_MS = 50.0
"""Plain cloud streaming: a pass a token, whatever the round trip."""
MOST_MS = 50.5
TOLERANCE = 0.10


def main(*, json_output: bool, runs: int, tokens: int) -> int:
    """Print the table; returns the exit code."""
    if json_output:
        figures = make_table(num_runs=runs, num_tokens=tokens)
        rows = [{**dataclasses.asdict(figure), "deviation": figure.deviation} for figure in figures]
        print(json.dumps({"runs": runs, "tokens": tokens, "figures": rows}))
        return 0
    console = Console()
    with Progress(
        TextColumn("decoding in virtual time"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} runs"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("runs", total=None)
        figures = make_table(
            num_runs=runs,
            num_tokens=tokens,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(
        f"Over links with a round trip of 0 to 400 ms, drafts that agree on a share a of the tokens; "
        f"mean of {runs} runs of {tokens} tokens in virtual time.\n"
        "A pass of the target takes 50 ms, a step of the draft 5 ms; "
        f"plain cloud streaming takes {CLOUD_MS:.0f} ms a token everywhere.",
        soft_wrap=True,
    )
    console.print(
        _table(
            "ms per token / the design's event model",
            figures,
            lambda figure: f"{figure.ms_per_token:.0f}/{figure.reference_ms:.0f}",
        )
    )
    console.print(
        _table(
            "passes per token / payload bytes per token, both ways",
            figures,
            lambda figure: f"{figure.passes_per_token:.2f}/{figure.payload_bytes_per_token:.0f}",
        )
    )
    return 0 if _print_verdict(console, figures) else 1


def _table(title: str, figures: list[Figure], cell: Callable[[Figure], str]) -> Table:
    """One row for each agreement and policy, one column for each round trip; green: faster than the cloud."""
    table = Table(title=title, title_justify="left")
    table.add_column("a", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for rtt_ms in RTTS_MS:
        table.add_column(f"{rtt_ms} ms", justify="right", no_wrap=True)
    for agreement in AGREEMENTS:
        for policy in POLICIES:
            cells = [
                f"[green]{cell(figure)}[/]" if figure.ms_per_token < CLOUD_MS - 0.5 else cell(figure)
                for figure in _row(figures, agreement, policy)
            ]
            table.add_row(f"{agreement:g}", policy, *cells, end_section=policy == POLICIES[-1])
    return table


def _print_verdict(console: Console, figures: list[Figure]) -> bool:
    """Hold the figures against what was promised; True if all is well."""
    slowest_ms = max(figure.ms_per_token for figure in figures if figure.policy == "hint-driven")
    worst = max(figures, key=lambda figure: abs(figure.deviation))
    verdicts = [
        (
            slowest_ms <= MOST_MS,
            f"hint-driven decoding is never above {slowest_ms:.1f} ms a token (bound {MOST_MS})",
        ),
        (
            abs(worst.deviation) <= TOLERANCE,
            f"the figure farthest from the design's ({worst.policy}, a = {worst.agreement:g}, "
            f"R = {worst.rtt_ms} ms) is {worst.deviation:+.1%} off (bound {TOLERANCE:.0%})",
        ),
    ]
    for policy, most_bytes in (("patient", 15), ("hint-driven", 24)):
        (figure,) = (f for f in _row(figures, 0.8, policy) if f.rtt_ms == 100)
        num_bytes = figure.payload_bytes_per_token
        text = f"payload at a = 0.8, R = 100 ms, {policy}: {num_bytes:.1f} bytes a token (bound {most_bytes})"
        verdicts.append((num_bytes <= most_bytes, text))
    for is_well, text in verdicts:
        console.print(f"[green]holds[/]   {text}" if is_well else f"[red]BROKEN[/]  {text}", soft_wrap=True)
    return all(is_well for is_well, _ in verdicts)


def _row(figures: list[Figure], agreement: float, policy: str) -> list[Figure]:
    return [figure for figure in figures if figure.agreement == agreement and figure.policy == policy]
