"""Workers are new processes: nothing of the caller's is in them."""

from __future__ import annotations

from cascade.lab.workers import num_cores, worker_pool

CALLERS: list[str] = []


def seen() -> list[str]:
    return CALLERS


def test_a_worker_has_nothing_of_its_caller() -> None:
    CALLERS.append("a lock that a thread of the caller holds, say")
    try:
        with worker_pool(1) as pool:
            assert pool.submit(seen).result() == []
    finally:
        CALLERS.clear()
    assert num_cores() >= 1
