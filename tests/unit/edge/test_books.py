"""Who runs and who waits at an edge, and what everybody is charged for."""

from __future__ import annotations

import asyncio

import pytest

from cascade.edge import EdgeSettings, Quota
from cascade.edge.accounts import Account, Accounts
from cascade.edge.books import Books
from cascade.edge.counters import Counters
from cascade.edge.engine import BatchEngine
from cascade.edge.interface import Committed
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import SyntheticTarget
from cascade.wire import ErrorCode

from ...helpers import in_virtual_time

RATE = 10.0


class House:
    """An edge's books, and two identities."""

    def __init__(self, **settings: float) -> None:
        self.settings = EdgeSettings(**settings)  # type: ignore[arg-type]
        self.counters = Counters()
        engine = BatchEngine(SyntheticTarget(), PacedRunner(constant_cost(0.01)), self.settings)
        self.books = Books(engine, self.settings, self.counters)
        accounts = Accounts(Quota(tokens_per_s=RATE, burst_s=10.0), None, self.counters)
        now_s = asyncio.get_running_loop().time()
        self.ann, self.bob = (accounts.of(name, now_s) for name in ("ann", "bob"))

    def begin(self, key: str, account: Account, num_tokens: int = 1) -> None:
        self.books.run(key, account)
        self.books.begin_wait(key, account, num_tokens)


@in_virtual_time
async def test_the_oldest_wait_is_that_of_an_identity_that_has_nothing_yet() -> None:
    house = House()
    house.begin("first", house.ann)
    await asyncio.sleep(1)
    house.begin("second", house.ann)
    await asyncio.sleep(1)
    house.begin("third", house.bob)
    await asyncio.sleep(1)
    load = house.books.load()
    assert (load.num_running, load.num_waiting, load.oldest_wait_s) == (3, 3, 3.0)
    house.books.end_wait("first")
    load = house.books.load()
    assert (load.num_running, load.num_waiting, load.oldest_wait_s) == (3, 2, 1.0), "ann waits for herself"
    house.books.stop("first")
    assert house.books.load().oldest_wait_s == 2.0, "she is served no more"
    for key in ("second", "third"):
        house.books.stop(key)
    assert house.books.load().oldest_wait_s == 0.0


@in_virtual_time
async def test_nothing_runs_when_the_last_one_stops() -> None:
    house = House()
    house.begin("first", house.ann)
    house.books.run("first", house.ann)
    house.begin("second", house.ann)
    assert house.ann.num_running == 2, "one key counts once"
    house.books.stop("first")
    house.books.stop("first")
    assert house.ann.num_running == 1
    assert not house.books.nothing_runs.is_set()
    house.books.stop("second")
    assert house.books.nothing_runs.is_set()


@in_virtual_time
async def test_hinted_tokens_were_charged_when_they_came() -> None:
    house = House()
    house.books.count(house.ann, Committed((1,) * 150, num_hinted=150))
    assert house.ann.work_wait_s(0.0) == 0.0
    house.books.count(house.ann, Committed((1,) * 150, num_hinted=40))
    assert house.ann.work_wait_s(0.0) == pytest.approx(1.0), "110 of its own, and 100 were saved up"
    assert house.ann.held_until_s == pytest.approx(1.0)
    assert (house.counters.num_accepted, house.counters.num_driven) == (190, 110)
    assert (house.ann.usage.num_tokens, house.ann.usage.num_hinted) == (300, 190)
    assert house.bob.usage.num_tokens == 0


@in_virtual_time
async def test_whoever_owes_work_is_refused_until_it_is_worked_off() -> None:
    house = House()
    house.begin("first", house.ann, num_tokens=120)
    house.books.end_wait("first")
    refusal = house.books.admit(house.ann, 4)
    assert refusal is not None
    assert refusal.code is ErrorCode.LIMIT
    assert refusal.retry_after_s == pytest.approx(2.0)
    assert house.books.admit(house.bob, 4) is None
    assert house.counters.refused == {"limit": 1}
    assert (house.ann.usage.num_refused, house.ann.usage.num_prompt_tokens) == (1, 120)
    await asyncio.sleep(2.1)
    assert house.books.admit(house.ann, 4) is None


@in_virtual_time
async def test_an_edge_that_goes_down_lets_nobody_in() -> None:
    house = House()
    house.books.is_draining = True
    refusal = house.books.admit(house.ann, 4)
    assert refusal is not None
    assert refusal.code is ErrorCode.DRAINING
