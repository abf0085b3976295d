"""What is kept follows the link and the device's load, by a script."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from cascade.lab.bench import escalation


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plot = tmp_path_factory.mktemp("plot") / "escalation.png"
    found = escalation.run(quick=True, plot=str(plot))
    found["plot"] = plot
    return found


def test_link_and_load_move_what_is_kept(found: dict[str, Any]) -> None:
    fallen = [must["must"] for must in found["musts"] if not must["holds"]]
    assert fallen == []


def test_the_picture_is_drawn(found: dict[str, Any]) -> None:
    plot: Path = found["plot"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert len(found["link"]["over_time"]) >= 15


def test_a_direction_that_is_wrong_is_told(found: dict[str, Any]) -> None:
    turned = copy.deepcopy({name: found[name] for name in ("link", "device")})
    fast, slow = turned["link"]["phases"][:2]
    fast["kept_share"], slow["kept_share"] = slow["kept_share"], fast["kept_share"]
    musts = {must["must"]: must["holds"] for must in escalation.directions(turned)}
    assert not musts["slow link: kept share at least"]
    assert not musts["fast link: kept share at most"]
    turned["device"]["phases"][1]["kept_share"] = 0.5
    musts = {must["must"]: must["holds"] for must in escalation.directions(turned)}
    assert not musts["busy device: kept share at most"]
