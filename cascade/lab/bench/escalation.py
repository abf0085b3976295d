"""Whether cascade mode follows link and load: threshold, kept share and time per token by a script.

Virtual time, real device, edge and link, the synthetic pair. The link is fast, slow, down, and fast again; on
another run the device becomes busy, so that a draft step takes longer than a pass of the edge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..follow import LINK_SCRIPT, LOAD_SCRIPT, Phase, follow, plot_followed
from ..progress import must

__all__ = ["run"]


def run(*, quick: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Both scripts by phase, the directions that they must show, and a picture if `plot` names a file."""
    share = 0.4 if quick else 1.0
    scripts = {
        "link": follow(_shortened(LINK_SCRIPT, share)),
        "device": follow(_shortened(LOAD_SCRIPT, share)),
    }
    if plot is not None:
        plot_followed(scripts, plot)
    return {"musts": directions(scripts), **scripts}


def _shortened(script: tuple[Phase, ...], share: float) -> list[Phase]:
    """An outage is as long as it is: the link must be missed."""
    return [
        phase if phase.is_down else dataclasses.replace(phase, lasts_s=share * phase.lasts_s)
        for phase in script
    ]


def directions(scripts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What has to rise and fall."""
    fast, slow, down, again = scripts["link"]["phases"]
    idle, busy, rested = scripts["device"]["phases"]
    return [
        must("fast link: kept share at most", fast["kept_share"], at_most=0.05),
        must("slow link: kept share at least", slow["kept_share"], at_least=0.5),
        must("slow link: threshold above the fast one's", slow["threshold"], at_least=0.05),
        must("link down: kept tokens that still come", down["tokens"] * down["kept_share"], at_least=1),
        must("fast again: kept share at most", again["kept_share"], at_most=0.05),
        must("fast again: ms per token, of the slow link's", _by(again, slow), at_most=1.0),
        must("idle device: kept share at least", idle["kept_share"], at_least=0.5),
        must("busy device: kept share at most", busy["kept_share"], at_most=0.1),
        must("busy device: ms per token", busy["ms_per_token"], at_most=25),
        must("rested device: kept share at least", rested["kept_share"], at_least=0.5),
        *(
            must(f"{name}: agreement by replay", found["quality"], at_least=found["promised"])
            for name, found in scripts.items()
        ),
    ]


def _by(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return float(one["ms_per_token"] / other["ms_per_token"])
