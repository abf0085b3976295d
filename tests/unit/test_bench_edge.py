"""`cascade bench edge` around its simulations: what holds, and what is found out before an hour's work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade.errors import SettingsError
from cascade.lab.bench.edge import CHEAP_ROWS, DEAR_ROWS, FULL, Point, _gain, _guess, _musts
from cascade.lab.fleet import FleetOutcome
from cascade.lab.plots import check_plot
from cascade.lab.progress import must


def outcome(num_devices: int, ms_per_token: float) -> tuple[int, FleetOutcome]:
    return num_devices, FleetOutcome(
        ms_per_token=(ms_per_token,) * num_devices,
        max_first_token_ms=100.0,
        tokens_per_s=num_devices * 1000 / ms_per_token,
        rows_per_pass=1.0,
        hinted_share=0.5,
    )


def test_the_must_is_about_cheap_rows_and_its_goal_and_nothing_may_be_worse_than_without_hints() -> None:
    good = _gain(Point(CHEAP_ROWS, 60, 1000), outcome(250, 60), outcome(100, 60))
    dear = _gain(Point(DEAR_ROWS, 60, 400), outcome(20, 60), outcome(20, 60))
    unheld = _gain(Point(CHEAP_ROWS, 40, 400), outcome(90, 40), (0, None))
    assert [one["holds"] for one in _musts([good, dear, unheld])] == [True, True, True]
    assert (good["times_devices"], unheld["times_devices"]) == (2.5, None)
    few = _gain(Point(CHEAP_ROWS, 60, 1000), outcome(239, 50), outcome(100, 60))
    worse = _gain(Point(DEAR_ROWS, 120, 400), outcome(136, 120), outcome(140, 120))
    assert [one["holds"] for one in _musts([few, worse])] == [False, True, False]


def test_the_plot_has_all_goals_and_the_must_has_long_streams() -> None:
    assert {(point.cost, point.goal_ms) for point in FULL} >= {(CHEAP_ROWS, 40), (DEAR_ROWS, 120)}
    (long,) = [point for point in FULL if point.num_tokens == 1000]
    assert (long.cost, long.goal_ms) == (CHEAP_ROWS, 60)
    assert _guess(long, False) == pytest.approx(100)


def test_where_a_picture_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    check_plot(str(tmp_path / "gain.png"))
    with pytest.raises(SettingsError, match="cannot write"):
        check_plot(str(tmp_path / "nowhere" / "gain.png"))


@pytest.mark.parametrize(
    ("bounds", "holds"),
    [
        ({"at_least": 1.0}, True),
        ({"at_least": 1.1}, False),
        ({"at_most": 1.0}, True),
        ({"at_most": 0.9}, False),
    ],
)
def test_a_must_holds_at_its_bound(bounds: dict[str, float], holds: bool) -> None:
    assert must("it", 1.0, **bounds)["holds"] is holds
