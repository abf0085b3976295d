"""The price model: everything that has a price is counted once, and impossible prices are refused."""

from __future__ import annotations

import dataclasses
import math

import pytest

from cascade.device import Policy
from cascade.device.planning import Circumstances, make_plan
from cascade.errors import SettingsError
from cascade.prices import Objective, Prices, Usage

FREE = Prices(draft_s=0.0, waiting_s=1e-9, disputed=1e-9)
PRICED = {
    "waiting_s": "waiting_s",
    "edge_s": "edge_s",
    "num_passes": "edge_pass",
    "num_rows": "edge_row",
    "bytes_up": "megabyte_up",
    "bytes_down": "megabyte_down",
    "draft_s": "draft_s",
    "num_disputed": "disputed",
}
"""What is used -> its price."""
HERE = Circumstances(rtt_s=0.1, jitter_s=0.0, pass_s=0.05, draft_step_s=0.005, agreement=0.8)


@pytest.mark.parametrize("used", PRICED)
def test_everything_that_is_used_has_its_price(used: str) -> None:
    prices = dataclasses.replace(FREE, **{PRICED[used]: 3.0})
    amount = 2e6 if used.startswith("bytes") else 2.0
    assert prices.cost(Usage(**{used: amount})) == pytest.approx(6.0)
    everything_else = Usage(**{name: 1e3 for name in PRICED if name != used})
    assert prices.cost(everything_else) == pytest.approx(0, abs=1e-5)


def test_energy_is_what_was_measured_or_else_a_proxy() -> None:
    used = Usage(draft_s=2.0, num_drafted=100.0)
    assert Prices(draft_watts=4.0).energy_j(used) == 8.0
    assert Prices(draft_watts=4.0, draft_step_j=0.5).energy_j(used) == 50.0
    dear = dataclasses.replace(FREE, joule=0.1, draft_watts=4.0)
    assert dear.cost(used) == pytest.approx(0.8)


def test_usage_adds_up() -> None:
    one = Usage(waiting_s=1.0, num_passes=2.0)
    assert one.times(3).plus(Usage(num_passes=1.0)) == Usage(waiting_s=3.0, num_passes=7.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("edge_pass", -1.0),
        ("waiting_s", 0.0),
        ("joule", math.nan),
        ("draft_step_j", -0.1),
        ("disputed", 0),
    ],
)
def test_impossible_prices_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(SettingsError) as caught:
        Prices(**{field: value})
    assert caught.value.field == field


def test_objectives_are_prices_with_a_name() -> None:
    assert Policy.adaptive(Objective.COST) == Policy.adaptive(Objective.COST.prices)
    assert Policy.adaptive().prices == Prices()


def test_only_ratios_count() -> None:
    """Cents or euros: the same plan."""
    seconds = Prices(edge_pass=0.02, edge_row=0.001)
    cents = Prices(waiting_s=7.0, edge_pass=0.14, edge_row=0.007, draft_s=0.35, disputed=0.63)
    assert make_plan(HERE, seconds) == make_plan(HERE, cents)


def test_dear_passes_are_saved_whatever_their_price_is_called() -> None:
    free = make_plan(HERE, Prices())
    by_the_second = make_plan(HERE, Prices(edge_s=2.0))
    by_the_pass = make_plan(HERE, Prices(edge_pass=0.1))
    assert by_the_second == by_the_pass
    assert by_the_pass.passes_per_token < free.passes_per_token
    assert by_the_pass.s_per_token > free.s_per_token


def test_dear_rows_make_hints_dear() -> None:
    free = make_plan(HERE, Prices(edge_pass=0.1))
    dear = make_plan(HERE, Prices(edge_pass=0.1, edge_row=0.02))
    assert free.does_pay
    assert dear.num_gathered < free.num_gathered
    assert not make_plan(HERE, Prices(edge_row=1.0)).does_pay
