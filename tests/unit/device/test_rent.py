"""What a place in the ledger is worth, against every way of dividing a budget by brute force."""

from __future__ import annotations

import itertools
import random

import pytest

from cascade.device.rent import Option, Rent, best, rent_of

LOSSLESS = Option(10.0, 0.0)


def places(questions: list[list[Option]], price: float) -> float:
    return sum(best(ways, price).num_places for ways in questions)


def test_what_is_not_scarce_costs_nothing() -> None:
    questions = [[LOSSLESS, Option(4.0, 6.0)]] * 5
    assert rent_of(questions, 30.0) == Rent(0.0, 0.0)
    assert rent_of([], 0.0) == Rent(0.0, 0.0)
    assert rent_of([[Option(1.0, 60.0)]], 0.0) == Rent(0.0, 0.0)  # there is no other way


def test_places_go_where_they_save_most() -> None:
    """Alone the draft saves more on a question, cascade more on a place."""
    questions = [[LOSSLESS, Option(8.0, 5.0), Option(4.0, 60.0)] for _ in range(10)]
    rent = rent_of(questions, 100.0)
    assert places(questions, rent.price) == 50.0
    assert best(questions[0], rent.price) == Option(8.0, 5.0)
    assert rent.price == pytest.approx(4 / 55)
    assert rent.share_below == pytest.approx(50 / (10 * 55))


def test_a_part_of_equals_may_go_the_other_way() -> None:
    rent = rent_of([[LOSSLESS, Option(4.0, 60.0)]] * 10, 120.0)
    assert rent.price == pytest.approx(0.1)
    assert rent.share_below == pytest.approx(0.2)
    assert rent_of([[LOSSLESS, Option(4.0, 60.0)]] * 10, 0.0).share_below == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_no_other_division_of_as_many_places_is_cheaper(seed: int) -> None:
    dice = random.Random(seed)
    questions = [
        [LOSSLESS, *(Option(10 - dice.uniform(0, 8), dice.uniform(1, 60)) for _ in range(2))]
        for _ in range(6)
    ]
    rent = rent_of(questions, dice.uniform(0, 120))
    taken = [best(ways, rent.price) for ways in questions]
    used = sum(each.num_places for each in taken)
    cheapest = min(
        sum(each.cost for each in chosen)
        for chosen in itertools.product(*questions)
        if sum(each.num_places for each in chosen) <= used + 1e-6
    )
    assert sum(each.cost for each in taken) == pytest.approx(cheapest)
