"""Virtual time against real time: the same paced runs on the laboratory's clock, and over a real TCP proxy.

Recorded real text with declared costs, so both clocks see the same texts, guesses and steps; what differs is
that one sleeps, over real sockets, on this machine, and the other does not.
"""

from __future__ import annotations

import itertools
import statistics
from typing import Any

from ..experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point, PolicySettings
from ..experiment.trial import run_trial
from ..progress import must, say

__all__ = ["run"]

ROUND_TRIPS_MS = (20.0, 100.0, 200.0)
POLICIES = (
    PolicySettings(name="cloud"),
    PolicySettings(name="ask-and-wait", k=4),
    PolicySettings(name="hint-driven", patience_rtts=1, patience_ms=10),
    PolicySettings(name="adaptive"),
)
MODELS = ModelSettings(kind="paced", pass_ms=35, row_ms=1.2, draft_step_ms=6)
MOST = 0.1
"""That time per token in virtual time may differ from real time."""


def run(*, quick: bool = False) -> dict[str, Any]:
    """Milliseconds per token of twelve settings by both clocks: four minutes, half a minute if quick."""
    num_texts, num_tokens = (1, 32) if quick else (3, 120)
    rows: list[dict[str, Any]] = []
    for rtt_ms, policy in itertools.product(ROUND_TRIPS_MS, POLICIES):
        load = LoadSettings(tokens=num_tokens)
        point = Point(models=MODELS, link=LinkSettings(rtt_ms=rtt_ms), load=load, policy=policy)
        virtual_ms, real_ms = (_ms_per_token(point, clock, num_texts) for clock in ("virtual", "real"))
        row = {
            "rtt_ms": rtt_ms,
            "policy": policy.label,
            "virtual_ms_per_token": round(virtual_ms, 3),
            "real_ms_per_token": round(real_ms, 3),
            "virtual_by_real": round(virtual_ms / real_ms, 4),
        }
        rows.append(row)
        say(f"R = {rtt_ms:g} ms, {policy.label}: {virtual_ms:.1f} ms a token, in real time {real_ms:.1f}")
    worst = max(abs(row["virtual_by_real"] - 1) for row in rows)
    return {
        "musts": [must("time per token, virtual off real, worst of twelve", worst, at_most=MOST)],
        "texts": num_texts,
        "tokens": num_tokens,
        "settings": rows,
    }


def _ms_per_token(point: Point, clock: str, num_texts: int) -> float:
    """Mean over texts: a seed takes the next of the recording."""
    runs = [run_trial(point, seed, clock=clock, records="tokens") for seed in range(num_texts)]
    return statistics.fmean(one.figures["ms_per_token"] for one in runs)
