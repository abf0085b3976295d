"""What is kept: the threshold, and what moves it."""

from __future__ import annotations

import random

import pytest

from cascade.device.escalation import (
    BEHIND,
    LONGEST_RUN,
    RESERVE,
    SHORTEST_RUN,
    Escalation,
    Place,
    allowance,
    appetite,
    corrected,
    longest_run,
    strain,
    threshold,
)
from cascade.prices import Prices


def shown(doubts: list[float]) -> list[Place]:
    """Nothing before these was open."""
    return [Place(doubt, doubt) for doubt in doubts]


def test_the_threshold_spends_the_allowance_and_no_more() -> None:
    dice = random.Random(1)
    doubts = [1 - dice.betavariate(0.8, 0.2) for _ in range(5000)]
    for allowed in (0.0, 0.01, 0.025, 0.05, 0.1):
        limit = threshold(shown(doubts), allowed)
        spent = sum(doubt for doubt in doubts if doubt <= limit) / len(doubts)
        assert spent <= allowed + 1e-12
        assert spent > allowed - 0.001
    assert threshold(shown(doubts), 1.0) == 1.0
    assert threshold([], 0.1) == 1.0


def test_most_tokens_are_kept_by_keeping_the_surest() -> None:
    doubts = [0.0, 0.01, 0.02, 0.5, 0.9]
    assert threshold(shown(doubts), 0.03 / 5) == 0.02
    assert threshold(shown(doubts), 0.02 / 5) == 0.01


def test_behind_an_open_guess_a_token_must_be_surer() -> None:
    assert strain(0.1, is_behind=False) == 0.1
    assert strain(0.1, is_behind=True) == BEHIND * 0.1
    assert strain(0.9, is_behind=True) == 1.0
    doubts = [0.02, 0.04, 0.08, 0.16]
    behind = [Place(strain(doubt, is_behind=True), doubt) for doubt in doubts]
    allowed = 0.15 / 8
    limit = threshold([*shown(doubts), *behind], allowed)
    kept = [place for place in (*shown(doubts), *behind) if place.strain <= limit]
    assert kept == [*shown(doubts[:3]), behind[0]], "what it takes behind guesses is not there for the others"


def test_a_limit_for_all_places_keeps_less_at_once() -> None:
    dice = random.Random(4)
    doubts = [1 - dice.betavariate(0.8, 0.2) for _ in range(4000)]
    first, second = shown(doubts[:2000]), shown(doubts[2000:])
    harder = [Place(strain(place.doubt, is_behind=True), place.doubt) for place in second]
    assert threshold([*first, *harder], 0.025) > 1.2 * threshold([*first, *second], 0.025)


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
    even = allowance(0.975, balance=RESERVE, appetite=1.0)
    assert even == pytest.approx(0.025)
    assert allowance(0.975, balance=100.0, appetite=1.0) > even > allowance(0.975, balance=0.0, appetite=1.0)
    assert allowance(0.975, balance=-500.0, appetite=1.0) == 0
    assert allowance(0.975, balance=100.0, appetite=0.0) == 0


def steered(quality: float = 0.95, *, stall_s: float = 0.2, balance: float = RESERVE) -> Escalation:
    escalation = Escalation(quality)
    dice = random.Random(2)
    for _ in range(600):
        escalation.note_verdict(1 - dice.betavariate(0.8, 0.2), was_behind=False, was_kept=False, is_own=True)
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
        escalation.note_verdict(0.02, was_behind=False, was_kept=True, is_own=False)
    escalation.steer(stall_s=0.2, balance=RESERVE)
    assert escalation.threshold < before / 4
    for _ in range(300):
        escalation.note_verdict(0.02, was_behind=False, was_kept=True, is_own=True)
        escalation.steer(stall_s=0.2, balance=RESERVE)
    assert escalation.threshold > before / 2


def test_verdicts_as_expected_are_no_surprise() -> None:
    escalation, dice = steered(), random.Random(3)
    before = escalation.threshold
    lowest = before
    for _ in range(500):
        doubt = 1 - dice.betavariate(0.8, 0.2)
        is_own = dice.random() >= doubt
        was_kept = doubt <= escalation.threshold
        escalation.note_verdict(doubt, was_behind=False, was_kept=was_kept, is_own=is_own)
        escalation.steer(stall_s=0.2, balance=RESERVE)
        lowest = min(lowest, escalation.threshold)
    assert lowest > before / 8
    assert escalation.threshold > before / 3


def test_what_is_kept() -> None:
    escalation = steered()
    limit = escalation.threshold
    for is_behind, doubt in ((False, limit), (True, limit / BEHIND)):
        assert escalation.wants_to_keep(0.99 * doubt, is_behind=is_behind, num_unaudited=0)
        assert not escalation.wants_to_keep(1.01 * doubt, is_behind=is_behind, num_unaudited=0)
    assert not escalation.wants_to_keep(0.0, is_behind=False, num_unaudited=LONGEST_RUN)


def test_a_fixed_threshold_is_the_same_everywhere() -> None:
    escalation = Escalation(0.9, fixed_threshold=0.2)
    escalation.steer(stall_s=0.2, balance=0.0)
    for is_behind in (False, True):
        assert escalation.wants_to_keep(0.2, is_behind=is_behind, num_unaudited=0)
        assert not escalation.wants_to_keep(0.21, is_behind=is_behind, num_unaudited=0)
    assert not escalation.wants_to_keep(0.0, is_behind=False, num_unaudited=LONGEST_RUN)
    assert not escalation.is_waiting_worth
    assert not Escalation(0.9, fixed_threshold=0.0).wants_to_keep(0.0, is_behind=False, num_unaudited=0)


def test_who_shows_most_tokens_at_once_waits_for_verdicts() -> None:
    assert steered(0.95).is_waiting_worth
    assert not steered(0.9999, balance=0.0).is_waiting_worth, "hardly anything is kept"
    assert not steered(stall_s=0.03).is_waiting_worth, "nothing is kept where asking costs nothing"
