"""The promise of cascade mode holds at every token, by a replay that trusts neither device nor edge."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize("seed", range(4))
def test_a_lenient_edge_is_booked_too(seed: int) -> None:
    run = keep_promise(seed, quality=QUALITIES[seed % 2], num_tokens=800, alpha=0.5)
    assert run.worst_margin >= -1e-9
    assert run.worst_ledger_margin >= -1e-9
    assert run.num_unaccounted == 0
