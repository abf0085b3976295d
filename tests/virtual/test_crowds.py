"""Invariant 1 in a crowd: 64 devices at once on an edge that evicts, shares, chunks and limits, all the time.

`python -c "from tests.virtual.crowds import run_crowd; run_crowd(SEED)"` runs a failing seed again.
"""

from __future__ import annotations

import pytest

from .crowds import NUM_DEVICES, run_crowd


@pytest.mark.parametrize("seed", range(10))
def test_a_crowd_gets_the_targets_own_texts(seed: int) -> None:
    check_crowd(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 110))
def test_more_crowds(seed: int) -> None:
    check_crowd(seed)


def check_crowd(seed: int) -> None:
    """Every text is the target's own, and the edge was as short of memory and rows as is claimed."""
    report = run_crowd(seed)
    stats = report.stats
    assert len(report.answers) > 2 * NUM_DEVICES
    assert report.temperatures == {0.0, 0.7, 1.0}
    assert report.longest_prompt > 150
    assert report.num_given_up > 0
    assert stats.num_evictions > 100
    assert stats.num_rebuilt > 100
    assert stats.num_hit > 1000
    assert stats.num_hinted > 500
    assert stats.num_unfed_hints > 100, "feeding was limited, by what rows cost"
    assert stats.num_fed_hints > stats.num_hinted
    assert (stats.num_failed, stats.num_failed_passes) == (0, 0)


def test_a_crowd_is_deterministic() -> None:
    assert run_crowd(3) == run_crowd(3)
