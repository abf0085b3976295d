"""What goes into a pass: the rule against brute force, and one behaviour at a time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cascade.edge.pacing import MAX_HOLD, NEVER_S, Candidate, PassPlan, plan_pass
from cascade.edge.shares import Standing
from cascade.measure import CostCurve

EQUAL = Standing(10.0, False)
NOW_S = 100.0


def curve_of(cost_s: Callable[[int], float]) -> CostCurve:
    """A curve that knows every width of a small pass."""
    curve = CostCurve()
    for rows in (*range(1, 40), 60, 100, 200, 500, 1000, 2000):
        for _ in range(15):
            curve.add(rows, cost_s(rows))
    return curve


FLAT = curve_of(lambda rows: 0.05)
CHEAP = curve_of(lambda rows: 0.05 + 0.0001 * rows)
DEAR = curve_of(lambda rows: 0.01 + 0.02 * rows)


def one(owner: str = "me", **fields: Any) -> Candidate:
    return Candidate(owner=owner, **({"waiting_since_s": NOW_S} | fields))


def owners(count: int, **fields: Any) -> list[Candidate]:
    return [one(f"device-{number}", **fields) for number in range(count)]


def plan(candidates: Sequence[Candidate], curve: CostCurve, **options: Any) -> PassPlan:
    standing = {candidate.owner: EQUAL for candidate in candidates}
    plain: dict[str, Any] = {"standing": standing, "now_s": NOW_S, "max_fed_hints": 16}
    return plan_pass(candidates, curve, **(plain | options))


# Feeding


def test_nobody_is_there() -> None:
    assert plan([], FLAT) == PassPlan(fed={}, begin_at_s=NEVER_S, row_price=0.0)


def test_alone_on_an_idle_edge_all_hints_are_fed() -> None:
    assert plan([one(num_hints=9)], FLAT).fed == {0: 9}
    assert plan([one(num_hints=9)], CostCurve()).fed == {0: 9}, "nothing measured yet"
    assert plan([one(num_hints=40)], FLAT).fed == {0: 16}
    assert plan([one(num_hints=9)], CHEAP).fed == {0: 9}


@pytest.mark.parametrize("seed", range(40))
def test_no_other_choice_of_hints_brings_more_per_second(seed: int) -> None:
    """Every way to feed four texts, for curves of any shape."""
    dice = random.Random(seed)
    steps = [dice.choice((0.0, 0.0, 0.002, 0.01, 0.03)) for _ in range(40)]
    curve = curve_of(lambda rows: 0.02 + sum(steps[:rows]) if rows < 40 else 0.02 + sum(steps) * rows / 39)
    candidates = [
        one(f"device-{number}", num_hints=dice.randrange(5), agreement=dice.random()) for number in range(4)
    ]

    def brought(fed: Sequence[int]) -> float:
        tokens = sum(
            sum(candidate.agreement**number for number in range(width + 1))
            for candidate, width in zip(candidates, fed, strict=True)
        )
        return tokens / curve.seconds(len(candidates) + sum(fed))

    fed = plan(candidates, curve).fed
    best = max(map(brought, itertools.product(*(range(one.num_hints + 1) for one in candidates))))
    assert brought([fed[index] for index in range(4)]) == pytest.approx(best)


def test_the_dearer_the_rows_the_fewer_hints() -> None:
    widths = []
    for per_row_s in (0.0, 0.0001, 0.0005, 0.002, 0.01, 0.1):
        curve = curve_of(lambda rows, per_row_s=per_row_s: 0.05 + per_row_s * rows)  # type: ignore[misc]
        fed = plan(owners(20, num_hints=16), curve).fed
        assert len(set(fed.values())) <= 2, "equal devices are fed alike"
        widths.append(sum(fed.values()))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == 20 * 16
    assert widths[-1] == 0


def test_likely_hints_come_before_unlikely_ones() -> None:
    curve = curve_of(lambda rows: 0.05 + 0.004 * rows)
    fed = plan([one("good", num_hints=16, agreement=0.9), one("bad", num_hints=16, agreement=0.4)], curve).fed
    assert fed[0] > 2 * fed[1]


def test_hints_that_are_never_right_are_not_fed() -> None:
    assert plan([one(num_hints=9, agreement=0.0)], CHEAP).fed == {0: 0}


# Waiting


def test_a_wish_to_wait_is_granted_on_an_idle_edge_and_no_longer() -> None:
    waiting = one(patience_s=0.5, waiting_since_s=NOW_S - 0.2)
    assert plan([waiting], FLAT) == PassPlan(fed={}, begin_at_s=NOW_S + 0.3, row_price=0.0)
    assert plan([waiting], FLAT, now_s=NOW_S + 0.3).fed == {0: 0}
    assert plan([one(patience_s=0.5, num_hints=1)], FLAT).fed == {0: 1}


def test_a_text_that_waits_lets_passes_of_others_go_by() -> None:
    assert plan([one("a"), one("b", patience_s=0.5)], CHEAP).fed == {0: 0}


def test_waiting_never_breaks_the_goal() -> None:
    """Even a single token must be there in time: what is left after a pass may be waited for."""
    waiting = one(patience_s=0.5, waiting_since_s=NOW_S, goal_s_per_token=0.08)
    assert plan([waiting], FLAT).begin_at_s == pytest.approx(NOW_S + 0.03)
    assert plan([one(patience_s=0.5, goal_s_per_token=0.04)], FLAT).fed == {0: 0}


def test_waiting_for_hints_that_would_not_be_fed_is_in_vain() -> None:
    candidates = [*owners(20), one("patient", patience_s=5.0)]
    assert 20 in plan(candidates, DEAR).fed
    assert 20 not in plan(candidates, CHEAP).fed


# Holding a pass back


def late(count: int, in_s: float) -> list[Candidate]:
    """Half have hints, half expect them soon."""
    return [
        *owners(count, num_hints=4),
        *(one(f"late-{number}", hints_at_s=NOW_S + in_s) for number in range(count)),
    ]


def test_a_pass_waits_for_hints_that_are_almost_there() -> None:
    assert plan(late(20, 0.002), CHEAP, may_hold=True).begin_at_s == pytest.approx(NOW_S + 0.002)


def test_and_not_for_those_that_are_far() -> None:
    assert plan(late(20, 0.030), CHEAP, may_hold=True).begin_at_s == NOW_S
    assert plan(late(20, -0.001), CHEAP, may_hold=True).begin_at_s == NOW_S, "they should have come by now"


def test_and_not_for_more_where_some_are_there() -> None:
    candidates = owners(20, num_hints=4, hints_at_s=NOW_S + 0.002)
    assert plan(candidates, CHEAP, may_hold=True).begin_at_s == NOW_S


def test_and_not_while_the_engine_has_room() -> None:
    assert plan(late(20, 0.002), CHEAP, may_hold=False).begin_at_s == NOW_S
    assert plan([one(hints_at_s=NOW_S + 0.001)], CHEAP, may_hold=True).begin_at_s == NOW_S


def test_and_not_where_rows_dominate() -> None:
    assert plan(late(20, 0.002), DEAR, may_hold=True).begin_at_s == NOW_S


def test_and_not_for_one_among_many() -> None:
    candidates = [*owners(20, num_hints=4), one("late", hints_at_s=NOW_S + 0.004)]
    assert plan(candidates, CHEAP, may_hold=True).begin_at_s == NOW_S


@pytest.mark.parametrize("seed", range(20))
def test_a_pass_is_never_held_back_for_long(seed: int) -> None:
    dice = random.Random(seed)
    candidates = [one(f"{number}", hints_at_s=NOW_S + 0.05 * dice.random()) for number in range(30)]
    assert plan(candidates, CHEAP, may_hold=True).begin_at_s <= NOW_S + MAX_HOLD * CHEAP.seconds(30) + 1e-9


# Fairness


def standing(**rates: float) -> dict[str, Standing]:
    return {owner: Standing(rate, False) for owner, rate in rates.items()}


def test_every_owner_has_a_text_in_every_pass_and_it_is_the_one_that_waits_longest() -> None:
    candidates = [
        *(one("greedy", waiting_since_s=NOW_S - number) for number in range(50)),
        *owners(10, waiting_since_s=NOW_S),
    ]
    fed = plan(candidates, DEAR).fed
    assert all(50 + number in fed for number in range(10))
    greedy = [index for index in fed if index < 50]
    assert sorted(greedy) == list(range(50 - len(greedy), 50)), "those that wait longest"
    assert 1 <= len(greedy) < 8


def test_many_texts_of_one_owner_ride_along_where_rows_are_free() -> None:
    assert len(plan([*(one("greedy") for _ in range(50)), *owners(10)], FLAT).fed) == 60


def test_the_more_an_owner_was_given_the_fewer_of_its_texts_take_part() -> None:
    curve = curve_of(lambda rows: 0.05 + 0.0005 * rows)
    candidates = [*(one("greedy") for _ in range(100)), *owners(15)]
    taking_part = []
    for rate in (10.0, 50.0, 200.0, 1000.0):
        rates = standing(greedy=rate) | {f"device-{number}": EQUAL for number in range(15)}
        fed = plan(candidates, curve, standing=rates).fed
        assert all(100 + number in fed for number in range(15))
        taking_part.append(sum(index < 100 for index in fed))
    assert taking_part == sorted(taking_part, reverse=True)
    assert taking_part[0] > 50
    assert taking_part[-1] == 1


def test_the_fairer_the_less_an_owner_gains_by_many_texts() -> None:
    candidates = [*(one("greedy") for _ in range(64)), *owners(15)]
    rates = standing(greedy=12.0) | {f"device-{number}": EQUAL for number in range(15)}
    taking_part = [
        sum(index < 64 for index in plan(candidates, CHEAP, standing=rates, fairness=fairness).fed)
        for fairness in (1.0, 2.0, 4.0, 8.0, 16.0)
    ]
    assert taking_part == sorted(taking_part, reverse=True)
    assert taking_part[0] > 20
    assert taking_part[-1] < 20
    alone = [one("greedy") for _ in range(64)]
    assert len(plan(alone, CHEAP, fairness=16.0).fed) == 64, "alone it takes nothing from anybody"


def test_who_was_given_less_is_fed_more() -> None:
    curve = curve_of(lambda rows: 0.05 + 0.005 * rows)
    candidates = [one("a", num_hints=16), one("b", num_hints=16)]
    fed = plan(candidates, curve, standing=standing(a=10.0, b=20.0)).fed
    assert fed[0] > fed[1]


def test_who_is_late_is_fed_more_and_by_more_than_its_share() -> None:
    curve = curve_of(lambda rows: 0.05 + 0.005 * rows)
    rates = standing(a=9.0, b=11.0)
    without = plan([one("a", num_hints=16), one("b", num_hints=16)], curve, standing=rates).fed
    candidates = [one(owner, num_hints=16, goal_s_per_token=0.08) for owner in ("a", "b")]
    fed = plan(candidates, curve, standing=rates).fed
    assert fed[0] - fed[1] > without[0] - without[1]


def test_a_prompt_is_prefilled_at_once_unless_its_owner_is_in_debt() -> None:
    candidates = [one("long", num_rows=256), *owners(10)]
    assert 0 in plan(candidates, CHEAP).fed
    rates = {candidate.owner: EQUAL for candidate in candidates} | {"long": Standing(100.0, True)}
    assert 0 not in plan(candidates, CHEAP, standing=rates).fed
    assert 0 in plan(candidates, FLAT, standing=rates).fed, "it costs nobody anything"
    assert plan([one("long", num_rows=256)], CHEAP, standing=rates).fed == {0: 0}, "nobody else is there"


def test_a_prompt_in_debt_does_not_keep_its_owners_other_texts_out() -> None:
    candidates = [one("long", num_rows=256, waiting_since_s=0.0), one("long"), *owners(10)]
    rates = {candidate.owner: EQUAL for candidate in candidates} | {"long": Standing(100.0, True)}
    fed = plan(candidates, CHEAP, standing=rates).fed
    assert 0 not in fed
    assert 1 in fed
