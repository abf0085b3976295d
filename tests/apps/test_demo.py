"""The demo's verdict is over the figures, whatever they are."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from cascade.apps.demo import _print_verdict
from cascade.device import Policy
from cascade.lab.design_table import REFERENCE, RTTS_MS, Figure, best_k
from cascade.lab.simulation import Setting, simulate


def table() -> list[Figure]:
    """The design's own figures, as if they had been measured."""
    return [
        Figure(
            agreement=agreement,
            policy=policy,
            rtt_ms=rtt_ms,
            ms_per_token=reference_ms,
            spread_ms=0.0,
            passes_per_token=0.5,
            payload_bytes_per_token=14.0,
            best_k=None,
            reference_ms=reference_ms,
        )
        for (agreement, policy), row in REFERENCE.items()
        for rtt_ms, reference_ms in zip(RTTS_MS, row, strict=True)
    ]


def verdict(figures: list[Figure]) -> tuple[bool, str]:
    output = io.StringIO()
    return _print_verdict(Console(file=output, width=200), figures), output.getvalue()


def test_figures_that_hold() -> None:
    is_well, text = verdict(table())
    assert is_well
    assert text.count("holds") == 4


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ms_per_token": 50.6, "reference_ms": 50.6}, "never above"),
        ({"ms_per_token": 27.0}, "farthest"),
        ({"payload_bytes_per_token": 24.5}, "hint-driven: 24.5 bytes"),
    ],
)
def test_a_broken_bound_is_said(changes: dict[str, Any], complaint: str) -> None:
    figures = [
        dataclasses.replace(figure, **changes)
        if (figure.agreement, figure.policy, figure.rtt_ms) == (0.8, "hint-driven", 100)
        else figure
        for figure in table()
    ]
    is_well, text = verdict(figures)
    assert not is_well
    (line,) = (line for line in text.splitlines() if line.startswith("BROKEN"))
    assert complaint in line


@pytest.mark.parametrize(("agreement", "rtt_ms"), [(0.8, 100), (0.6, 0)])
def test_the_formulas_best_k_beats_its_neighbours(agreement: float, rtt_ms: int) -> None:
    def ms_per_token(k: int) -> float:
        times = [
            simulate(
                Setting(
                    agreement=agreement,
                    rtt_s=rtt_ms / 1000,
                    policy=Policy.ask_and_wait(k),
                    num_tokens=600,
                    rotation=number / 5,
                )
            ).summary.time_per_token_s
            for number in range(5)
        ]
        return sum(times) / len(times)

    best = best_k(agreement, rtt_ms)
    assert ms_per_token(best) <= 1.02 * min(ms_per_token(best - 2), ms_per_token(best + 3))
