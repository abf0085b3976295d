"""Five minutes of traffic at the real target leave nothing behind: `cascade bench soak`."""

from __future__ import annotations

import pytest

from cascade.lab.soak import measure
from cascade.models import bundled


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_minutes_at_the_real_target_leave_nothing_behind() -> None:
    bundled.fetch("smollm2-135m")
    figures = measure()
    assert [must for must in figures["musts"] if not must["holds"]] == []
    assert figures["evictions"] > 0
    for one in figures["rounds"]:
        assert one["answers"] > 10
        assert one["links_cut"] > 0
