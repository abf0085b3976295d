"""The promise of cascade mode holds at every token, by a replay that trusts neither device nor edge."""

from __future__ import annotations

import dataclasses

import pytest

from cascade.lab.bench import promise
from cascade.lab.promise import PromiseRun, keep_promise

NUM_RUNS = 10
QUALITIES = (0.9, 0.95, 0.975, 0.99)


@pytest.mark.parametrize("seed", range(NUM_RUNS))
def test_the_promise_holds_whatever_happens(seed: int) -> None:
    check(keep_promise(seed, quality=QUALITIES[seed % 4]))


def check(run: PromiseRun) -> None:
    assert run.worst_margin >= -1e-9, "the replay finds more wrong tokens than were promised"
    assert run.worst_ledger_margin >= -1e-9
    assert run.num_unaccounted == 0, "a wrong token that the ledger does not know"
    assert run.num_strangers == 0, "a wrong token that the device did not keep"
    assert run.num_tokens == 2000


def test_the_runs_contain_what_they_claim() -> None:
    runs = [keep_promise(seed, quality=QUALITIES[seed % 4], num_tokens=400) for seed in range(12)]
    assert sum(run.num_kept for run in runs) > 500
    assert sum(run.num_wrong for run in runs) > 50
    assert sum(run.num_restarts > 0 for run in runs) > 8
    assert sum(run.num_reopens > 0 for run in runs) > 8
    assert sum(run.num_lost > 0 for run in runs) > 4
    assert sum(run.num_shifts > 0 for run in runs) > 8
    assert sum(run.num_overruled > 0 for run in runs) > 4


@pytest.mark.parametrize("seed", range(4))
def test_a_lenient_edge_is_booked_too(seed: int) -> None:
    run = keep_promise(seed, quality=QUALITIES[seed % 2], num_tokens=800, alpha=0.5)
    assert run.worst_margin >= -1e-9
    assert run.worst_ledger_margin >= -1e-9
    assert run.num_unaccounted == 0


def test_a_promise_that_was_broken_is_told() -> None:
    held = dataclasses.asdict(keep_promise(1, quality=0.9, num_tokens=200))
    broken = held | {"worst_margin": -1.0, "num_unaccounted": 2, "num_lost": 0}
    musts = {each["must"]: each["holds"] for each in promise.musts([held, broken], [held])}
    assert not musts["least room by replay, at any token, tokens"]
    assert not musts["wrong by replay, unknown to the ledger"]
    assert musts["least room in a ledger, at any token, tokens"]
    assert musts["wrong by replay, and nobody kept them"]


def test_the_benchmark_says_what_its_runs_contained() -> None:
    found = promise.run(quick=True, jobs=1)
    assert [row["runs"] for row in found["by_quality"]] == [2, 2, 2, 2]
    assert all(each["holds"] for each in found["musts"]), found["musts"]
    assert found["lenient"]["tokens"] == 800
