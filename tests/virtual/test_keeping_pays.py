"""What cascade mode brings, and that it follows the link: real code, fast model, rows of the bench."""

from __future__ import annotations

import pytest

from cascade.lab.bench import cascade as bench
from cascade.lab.keep_bound import Questions, most_at_once, most_kept
from cascade.lab.keep_model import KeepLoop, run_keep
from cascade.lab.keep_rules import FixedRule, LedgerRule
from cascade.lab.kept import KeptOutcome, KeptSetting, simulate_kept

NUM_TOKENS = 500


def kept(**settings: float) -> KeptOutcome:
    plain: dict[str, float] = {"quality": 0.9, "num_tokens": NUM_TOKENS}
    return simulate_kept(KeptSetting(**(plain | settings)))  # type: ignore[arg-type]


def test_a_fast_idle_edge_verifies_everything_and_a_far_one_is_spared() -> None:
    near = kept(rtt_s=0.004, pass_s=0.02)
    assert near.summary.num_kept == 0
    assert near.quality == 1
    far = kept(rtt_s=0.1)
    assert far.kept_share > 0.4
    assert far.at_once_share > 0.3
    assert far.quality >= 0.9


def test_a_fast_edge_that_is_busy_is_as_good_as_far() -> None:
    assert kept(rtt_s=0.004, pass_s=0.15).kept_share > 0.4


def test_more_is_kept_where_less_is_promised() -> None:
    shares = [kept(quality=quality).kept_share for quality in (0.99, 0.95, 0.8)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1] / 2


def test_behind_a_question_that_has_gone_out_nothing_is_drafted() -> None:
    ours = kept()
    fixed = kept(threshold=0.35, quality=0.5)
    assert fixed.kept_share == pytest.approx(ours.kept_share, abs=0.1)
    assert ours.at_once_share > fixed.at_once_share + 0.05
    assert ours.summary.num_drafted < 0.8 * fixed.summary.num_drafted


def test_the_fast_model_does_as_the_real_code() -> None:
    real = kept(quality=0.9)
    model = run_keep(LedgerRule(0.9, stall_s=0.15), KeepLoop(rtt_s=0.1), NUM_TOKENS)
    assert model.time_per_token_s == pytest.approx(real.summary.time_per_token_s, rel=0.15)
    assert model.kept_share == pytest.approx(real.kept_share, abs=0.12)


def test_going_on_alone_pays_where_the_edge_is_far() -> None:
    rule = FixedRule(lambda place: place.chance, 0.8)
    driven = run_keep(rule, KeepLoop(rtt_s=0.1), 3000)
    asked = run_keep(rule, KeepLoop(rtt_s=0.1, is_driven=False), 3000)
    assert driven.time_per_token_s < 0.95 * asked.time_per_token_s
    assert driven.passes_per_token > asked.passes_per_token


def test_rules_at_the_edge_trade_agreement_for_time() -> None:
    strict, lax = (bench._curve_row("lenient", alpha, 1500) for alpha in (0.02, 0.9))
    assert strict["quality"] > lax["quality"]
    assert strict["time_per_token_s"] > lax["time_per_token_s"]
    assert strict["kept_share"] == lax["kept_share"] == 0


def test_a_ledger_shows_more_at_once_than_fixed_thresholds_of_the_same_agreement() -> None:
    ours = bench._curve_row("ledger", 0.95, 4000)
    fixed = [bench._curve_row("chance", threshold, 4000) for threshold in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    assert ours["quality"] >= 0.95
    assert bench._above_front([ours, *fixed], "at_once_share") > 0
    assert bench._above_front([ours, *fixed], "kept_share") > -0.025, "those promise nothing"


def test_a_fixed_threshold_within_the_same_ledger_shows_less_at_once() -> None:
    ours = bench._ledger_row(0.95, 4000)
    legal = [bench._legal_row("chance", threshold, 0.95, 4000) for threshold in (0.5, 0.6, 0.7, 0.8)]
    assert min(row["quality"] for row in legal) >= 0.95
    rival = bench._best_legal(ours, legal)
    assert rival["at_once_by_rival"] > 1.1
    assert rival["kept_by_rival"] > 0.95


def test_no_rule_exceeds_the_bounds() -> None:
    driving = Questions(is_under_way=True)
    for threshold in (0.6, 0.8):
        found = run_keep(FixedRule(lambda place: place.chance, threshold), KeepLoop(rtt_s=0.1), 4000)
        room = 0.02  # 4,000 tokens say no more
        assert found.kept_share <= most_kept(found.quality) + room
        assert found.at_once_share <= most_at_once(found.quality, found.time_per_token_s, driving) + room
    shares = [most_at_once(0.975, limit_s, driving) for limit_s in (0.03, 0.035, 0.05)]
    assert shares == sorted(shares)
    assert shares[0] > most_at_once(0.975, 0.03, Questions()), "an edge that only answers helps less"
    assert most_at_once(0.9, 0.03, Questions()) > most_at_once(0.99, 0.03, Questions())


def test_a_must_that_fails_is_told() -> None:
    ours = bench._real_row(0.975, 200)
    cloud = {"ms_per_token": 50.0}
    curves = [
        {"rule": "ledger", "kept_share": 0.5, "at_once_share": 0.3, "quality": 0.9},
        {"rule": "chance", "kept_share": 0.4, "at_once_share": 0.2, "quality": 0.95},
        {"rule": "chance", "kept_share": 0.6, "at_once_share": 0.4, "quality": 0.92},
    ]
    rivals = [{"at_once_by_rival": 1.2, "kept_by_rival": 0.5}]
    musts = {each["must"]: each for each in bench._musts(ours, cloud, curves, rivals)}
    assert not musts["kept share at quality .975"]["holds"], "a young ledger has little to spend"
    front = musts["quality above the front of all other rules where as much is shown at once, worst"]
    assert (front["figure"], front["holds"]) == (-0.035, False)
    assert musts["shown at once, by the best fixed threshold in the same ledger, worst"]["holds"]
    assert not musts["kept, by the best fixed threshold in the same ledger, worst"]["holds"]
