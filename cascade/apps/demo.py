"""`cascade demo`: what hint-driven decoding is worth, as one table made by the real code in virtual time."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..lab.design_table import AGREEMENTS, POLICIES, RTTS_MS, Figure, make_table

__all__ = ["main"]

CLOUD_MS = 50.0
"""Plain cloud streaming: a pass a token, whatever the round trip."""
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
        f"Milliseconds per token at the device, mean of {runs} runs of {tokens} tokens in virtual time.\n"
        "A pass of the target takes 50 ms, a step of the draft 5 ms; "
        f"plain cloud streaming is at {CLOUD_MS:.0f} ms everywhere."
    )
    console.print(_time_table(figures))
    console.print(_cost_table(figures))
    _print_verdict(console, figures)
    return 0


def _time_table(figures: list[Figure]) -> Table:
    table = Table(title="time per token, ms (the design's event model in brackets)", title_justify="left")
    table.add_column("agreement")
    table.add_column("policy")
    for rtt_ms in RTTS_MS:
        table.add_column(f"R = {rtt_ms} ms", justify="right")
    for agreement in AGREEMENTS:
        for policy in POLICIES:
            cells = []
            for figure in _row(figures, agreement, policy):
                style = "green" if figure.ms_per_token < CLOUD_MS - 0.5 else ""
                k = f" k={figure.best_k}" if figure.best_k else ""
                text = f"{figure.ms_per_token:.1f} ({figure.reference_ms:.0f}){k}"
                cells.append(f"[{style}]{text}[/]" if style else text)
            table.add_row(f"{agreement:g}", policy, *cells, end_section=policy == POLICIES[-1])
    return table


def _cost_table(figures: list[Figure]) -> Table:
    table = Table(title="passes per token / payload bytes per token, both ways", title_justify="left")
    table.add_column("agreement")
    table.add_column("policy")
    for rtt_ms in RTTS_MS:
        table.add_column(f"R = {rtt_ms} ms", justify="right")
    for agreement in AGREEMENTS:
        for policy in POLICIES:
            cells = [
                f"{figure.passes_per_token:.2f} / {figure.payload_bytes_per_token:.1f}"
                for figure in _row(figures, agreement, policy)
            ]
            table.add_row(f"{agreement:g}", policy, *cells, end_section=policy == POLICIES[-1])
    return table


def _print_verdict(console: Console, figures: list[Figure]) -> None:
    slowest_ms = max(figure.ms_per_token for figure in figures if figure.policy == "hint-driven")
    console.print(
        f"Hint-driven decoding is never above {slowest_ms:.1f} ms a token: no slower than the cloud."
    )
    far = [figure for figure in figures if abs(figure.deviation) > TOLERANCE]
    worst = max(figures, key=lambda figure: abs(figure.deviation))
    console.print(
        f"{len(figures) - len(far)} of {len(figures)} figures are within {TOLERANCE:.0%} of the design's; "
        f"the farthest ({worst.policy}, agreement {worst.agreement:g}, R = {worst.rtt_ms} ms) "
        f"is {worst.deviation:+.1%} off."
    )
    for policy, bound in (("patient", 15), ("hint-driven", 24)):
        (figure,) = (f for f in _row(figures, 0.8, policy) if f.rtt_ms == 100)
        console.print(
            f"Payload at agreement 0.8, R = 100 ms, {policy}: "
            f"{figure.payload_bytes_per_token:.1f} bytes per committed token (bound {bound})."
        )


def _row(figures: list[Figure], agreement: float, policy: str) -> list[Figure]:
    return [figure for figure in figures if figure.agreement == agreement and figure.policy == policy]
