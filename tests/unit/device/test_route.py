"""Which edge is dialled next."""

from __future__ import annotations

import random

from cascade.device.route import ReconnectSettings, Route
from cascade.errors import RefusedError
from cascade.links.base import Link


async def first() -> Link:
    raise NotImplementedError


async def second() -> Link:
    raise NotImplementedError


async def third() -> Link:
    raise NotImplementedError


def route() -> Route:
    settings = ReconnectSettings(first_s=1.0, ceiling_s=8.0)
    return Route([first, second, third], settings=settings, random_source=random.Random(1))


def test_edges_are_tried_in_turn() -> None:
    way = route()
    dialled = []
    for _ in range(7):
        dialled.append(way.current)
        way.move_on()
    assert dialled == [first, second, third, first, second, third, first]


def test_waits_grow_to_a_ceiling_and_begin_anew_with_an_edge_that_serves() -> None:
    for number in range(200):
        way = Route(
            [first],
            settings=ReconnectSettings(first_s=1.0, ceiling_s=8.0),
            random_source=random.Random(number),
        )
        waits_s = [way.move_on() for _ in range(6)]
        assert all(wait_s <= ceiling_s for wait_s, ceiling_s in zip(waits_s, (2, 4, 8, 8, 8, 8), strict=True))
        way.stay()
        assert way.move_on() <= 2
    assert max(way.move_on() for _ in range(100)) > 7


def test_days_without_an_edge_do_not_break_the_waiting() -> None:
    way = route()
    assert all(way.move_on() <= 8 for _ in range(20_000))


def test_an_edge_that_refused_is_not_dialled_again() -> None:
    way = route()
    way.move_on()
    way.strike_out(RefusedError("model", "another"))
    assert way.current is third
    way.strike_out(RefusedError("model", "yet another"))
    assert way.current is first
    way.move_on()
    assert way.current is first
    way.strike_out(RefusedError("version", "2"))
    assert way.num_edges == 0
    assert way.refusal is not None
    assert way.refusal.code == "version"
