"""What a token costs on clean links: passes, time and bytes, in virtual time, where figures are exact.

A broken prefix check, resume or rollback cannot change the text, only waste work: it shows here. The figures
of `MEASURED` are this code's own, and deterministic; whoever improves a policy renews them, the bounds below
them stay.
"""

from __future__ import annotations

import functools
import statistics

import pytest

from cascade.device import Policy
from cascade.lab.simulation import Outcome, Setting, simulate

PASS_S = 0.050
DRAFT_S = 0.005
SEEDS = (1, 2, 3)
NUM_TOKENS = 3000


@functools.cache
def outcomes(policy_name: str, *, agreement: float = 0.8, rtt_s: float = 0.1) -> list[Outcome]:
    policy = {
        "hint-driven": Policy.hint_driven(),
        "patient": Policy.hint_driven(patience_s=rtt_s + 0.01),
        "ask-and-wait": Policy.ask_and_wait(6),
    }[policy_name]
    return [
        simulate(Setting(agreement=agreement, rtt_s=rtt_s, policy=policy, num_tokens=NUM_TOKENS, seed=seed))
        for seed in SEEDS
    ]


MEASURED = {
    "hint-driven": (0.0, 0.0),
    "patient": (0.0, 0.0),
    "ask-and-wait": (0.0, 0.0),
}
"""Policy -> passes per token, milliseconds per token at agreement .8, R = 100 ms."""
BAND = 0.015


@pytest.mark.parametrize("policy_name", MEASURED)
def test_passes_and_time_per_token(policy_name: str) -> None:
    passes, ms = MEASURED[policy_name]
    found = outcomes(policy_name)
    assert statistics.fmean(outcome.passes_per_token for outcome in found) == pytest.approx(passes, rel=BAND)
    assert statistics.fmean(ms_per_token(outcome) for outcome in found) == pytest.approx(ms, rel=BAND)


def ms_per_token(outcome: Outcome) -> float:
    return outcome.summary.time_per_token_s * 1000
