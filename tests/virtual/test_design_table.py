"""The design's table compares with ask-and-wait at its best."""

from __future__ import annotations

import pytest

from cascade.device import Policy
from cascade.lab.design_table import best_k
from cascade.lab.simulation import Setting, simulate


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
