"""What is kept: the threshold, and what moves it."""

from __future__ import annotations

import random

import pytest

from cascade.device.escalation import (
    LONGEST_RUN,
    SHORTEST_RUN,
    Escalation,
    allowance,
    appetite,
    corrected,
    longest_run,
    threshold,
)
from cascade.prices import Prices


def test_the_threshold_spends_the_allowance_and_no_more() -> None:
    dice = random.Random(1)
    doubts = [1 - dice.betavariate(0.8, 0.2) for _ in range(5000)]
    for allowed in (0.0, 0.01, 0.025, 0.05, 0.1):
        limit = threshold(doubts, allowed)
        spent = sum(doubt for doubt in doubts if doubt <= limit) / len(doubts)
        assert spent <= allowed + 1e-12
        assert spent > allowed - 0.001
    assert threshold(doubts, 1.0) == 1.0
    assert threshold([], 0.1) == 1.0


def test_most_tokens_are_kept_by_keeping_the_surest() -> None:
    doubts = [0.0, 0.01, 0.02, 0.5, 0.9]
    assert threshold(doubts, 0.03 / 5) == 0.02
    assert threshold(doubts, 0.02 / 5) == 0.01


def test_appetite_grows_with_what_a_correction_costs() -> None:
    hungers = [appetite(stall_s) for stall_s in (0.0, 0.02, 0.06, 0.07, 0.1, 0.12, 0.155, 1.0)]
    assert hungers == sorted(hungers)
    assert hungers[:3] == pytest.approx([0, 0, 0])
    assert hungers[5:] == pytest.approx([1, 1, 1])
    runs = [longest_run(hunger) for hunger in hungers]
    assert runs == sorted(runs)
    assert (runs[0], runs[-1]) == (SHORTEST_RUN, LONGEST_RUN)


def test_a_metered_link_and_dear_passes_make_a_correction_dear() -> None:
    near = corrected(0.002, 0.02)
    hungers = [
        appetite(prices.in_waiting_s(near), disputed_s=prices.disputed_s)
        for prices in (
            Prices(),
            Prices(megabyte_up=4000.0),
            Prices(edge_pass=0.2),
            Prices(edge_s=50.0),
            Prices(disputed=0.01),
        )
    ]
    assert hungers[0] == 0
    assert min(hungers[1:]) > 0.5


def test_what_was_saved_is_spent_and_debts_are_paid() -> None:
    even = allowance(0.975, balance=6.0, appetite=1.0)
    assert even == pytest.approx(0.025)
    assert allowance(0.975, balance=100.0, appetite=1.0) > even > allowance(0.975, balance=0.0, appetite=1.0)
    assert allowance(0.975, balance=-500.0, appetite=1.0) == 0
    assert allowance(0.975, balance=100.0, appetite=0.0) == 0


def steered(quality: float = 0.95, *, stall_s: float = 0.2, balance: float = 6.0) -> Escalation:
    escalation = Escalation(quality)
    dice = random.Random(2)
    for _ in range(600):
        escalation.note_verdict(1 - dice.betavariate(0.8, 0.2), was_kept=False, is_own=True)
    for _ in range(40):
        escalation.steer(stall_s=stall_s, balance=balance)
    return escalation


def test_a_fast_link_verifies_everything_and_a_slow_one_spends_the_budget() -> None:
    assert steered(stall_s=0.03).threshold == 0
    thresholds = [steered(stall_s=stall_s).threshold for stall_s in (0.07, 0.09, 0.2)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] > 0


def test_a_surprise_brings_the_threshold_down_at_once_and_time_brings_it_back() -> None:
    escalation = steered()
    before = escalation.threshold
    for _ in range(4):
        escalation.note_verdict(0.02, was_kept=True, is_own=False)
    escalation.steer(stall_s=0.2, balance=6.0)
    assert escalation.threshold < before / 4
    for _ in range(300):
        escalation.note_verdict(0.02, was_kept=True, is_own=True)
        escalation.steer(stall_s=0.2, balance=6.0)
    assert escalation.threshold > before / 2


def test_verdicts_as_expected_are_no_surprise() -> None:
    escalation, dice = steered(), random.Random(3)
    before = escalation.threshold
    lowest = before
    for _ in range(500):
        doubt = 1 - dice.betavariate(0.8, 0.2)
        is_own = dice.random() >= doubt
        escalation.note_verdict(doubt, was_kept=doubt <= escalation.threshold, is_own=is_own)
        escalation.steer(stall_s=0.2, balance=6.0)
        lowest = min(lowest, escalation.threshold)
    assert lowest > before / 8
    assert escalation.threshold > before / 3


def test_what_is_kept() -> None:
    escalation = Escalation(0.9, fixed_threshold=0.2)
    escalation.steer(stall_s=0.2, balance=0.0)
    assert escalation.wants_to_keep(0.2, survival=1.0, num_unaudited=0)
    assert not escalation.wants_to_keep(0.21, survival=1.0, num_unaudited=0)
    assert not escalation.wants_to_keep(0.0, survival=0.05, num_unaudited=0)
    assert not escalation.wants_to_keep(0.0, survival=1.0, num_unaudited=LONGEST_RUN)
