"""What cascade mode brings, and that it follows the link: real code, fast model, rows of the bench."""

from __future__ import annotations

import pytest

from cascade.lab.bench import cascade as bench
from cascade.lab.keep_model import FixedRule, KeepLoop, LedgerRule, run_keep
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
    strict, lax = (bench._curve_row(("lenient", alpha, 1500)) for alpha in (0.02, 0.9))
    assert strict["quality"] > lax["quality"]
    assert strict["time_per_token_s"] > lax["time_per_token_s"]
    assert strict["kept_share"] == lax["kept_share"] == 0


def test_a_ledger_is_near_the_best_fixed_threshold_which_promises_nothing() -> None:
    ours = bench._curve_row(("ledger", 0.95, 4000))
    fixed = [bench._curve_row(("chance", threshold, 4000)) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert ours["quality"] >= 0.95
    assert bench._above_front([ours, *fixed]) > -0.025


def test_a_must_that_fails_is_told() -> None:
    ours = bench._real_row((0.975, 200))
    promise = bench._promise_row((2, 160))
    cloud = {"ms_per_token": 50.0}
    curves = [
        {"rule": "ledger", "kept_share": 0.5, "quality": 0.9},
        {"rule": "chance", "kept_share": 0.4, "quality": 0.9},
    ]
    musts = {each["must"]: each["holds"] for each in bench._musts([promise], ours, cloud, curves)}
    assert musts["least room by replay, tokens"]
    assert not musts["kept share at quality .975"], "a young ledger has little to spend"
