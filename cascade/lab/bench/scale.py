"""A thousand devices on eight edges in virtual time, and a fluid model that is asked for more.

The real code runs, edge by edge, each in a process; texts are long, and what happens before the start has
settled does not count. The fluid model (`cascade/lab/fluid.py`) is asked for the same and held against it,
and then for crowds that no simulation carries: what they get, what edges and brokers they need.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..experiment import crowd
from ..experiment.effort import Effort
from ..experiment.reading import flat
from ..experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point, PolicySettings
from ..experiment.trial import run_edge
from ..fluid import Crowd, Flow, devices_on_broker, devices_within, flow, knee
from ..progress import must
from ._campaign import Campaign, Work

__all__ = ["run"]

EDGES = 8
DEVICES = (100, 300, 1000)
QUICK_DEVICES = (100,)
POLICIES = ("cloud", "hint-driven", "adaptive")
MODELS = ModelSettings(pass_ms=50, row_ms=0.1, draft_step_ms=5, agreement=0.8)
RTT_MS = 50.0
SETTLED_S, SECONDS, QUICK_SECONDS = 2.0, 10.0, 5.0
ELSEWHERE = tuple(itertools.product((0.6, 0.9), (0.0, 150.0), (0.1, 0.5), (16, 64)))
"""Agreement, round trip and cost of a row in milliseconds, devices of one edge."""
ENDLESS = 100_000
"""Tokens of a text: none ends while it is measured."""
CROWDS = (1_000, 3_000, 10_000, 30_000, 100_000)
GOALS_MS = (30, 40, 55, 60, 80, 100)
CROWD = 10_000
BROKERS = {"mosquitto": 6_600, "amqtt": 3_600}
"""Messages a second, bursts at QoS 0 on a machine of two cores. Declared: put in what yours can do."""
MOST_ERROR = 0.10
MOST_MINUTES, MOST_GIB = 10.0, 8.0

Row = dict[str, Any]


def run(
    *, quick: bool = False, plot: str | None = None, jobs: int | None = None, resume: str | None = None
) -> dict[str, Any]:
    """Measure; `quick` takes a hundred devices, and fewer seconds of theirs. `plot`: a picture goes there."""
    if plot is not None:
        from ..plots import check_plot

        check_plot(plot)
    began_s = time.monotonic()
    seconds = QUICK_SECONDS if quick else SECONDS
    campaign = Campaign("devices on edges", jobs=jobs, resume=resume)
    works = [
        Work(measure_edge, (devices, policy, edge, seconds))
        for devices in (QUICK_DEVICES if quick else DEVICES)
        for policy in POLICIES
        for edge in range(EDGES)
    ]
    others = [] if quick else [Work(measure_elsewhere, (*place, seconds)) for place in ELSEWHERE]
    parts = campaign.run([*works, *others])
    parts, elsewhere = parts[: len(works)], parts[len(works) :]
    minutes = (time.monotonic() - began_s) / 60
    runs = [(works[at], parts[at : at + EDGES]) for at in range(0, len(parts), EDGES)]
    real = [_together(*run) for run in runs]
    errors = [_errors(row) for row in real]
    peak_gib = max(part["effort"]["peak_bytes"] for part in parts) / 2**30
    figures: dict[str, Any] = {
        "musts": _musts(errors, elsewhere, minutes, peak_gib),
        "edges": EDGES,
        "virtual_seconds": seconds,
        "real": real,
        "fluid_less_real": errors,
        "elsewhere": elsewhere,
        "effort": [_effort(*run) for run in runs],
        "fluid": [_asked(devices, policy) for policy in POLICIES[:2] for devices in CROWDS],
        "held_by_one_edge": [_held(goal_ms) for goal_ms in GOALS_MS],
        "saturation": _saturation(),
    }
    if plot is not None:
        from ..scale_plot import plot_scale

        plot_scale(figures, crowds={policy: crowd_of(policy) for policy in POLICIES[:2]}, path=plot)
    return figures


def point_of(
    devices: int,
    policy: str,
    seconds: float,
    *,
    edges: int = EDGES,
    models: ModelSettings = MODELS,
    rtt_ms: float = RTT_MS,
) -> Point:
    """What is run, in the words of an experiment."""
    return Point(
        models=models,
        link=LinkSettings(rtt_ms=rtt_ms),
        load=LoadSettings(
            devices=devices, edges=edges, tokens=ENDLESS, seconds=seconds, arrivals_s=1.0, arrival="random"
        ),
        policy=PolicySettings(name=policy),
    )


def crowd_of(policy: str) -> Crowd:
    """The same to the fluid model, for which an adaptive device is one that drafts as it can."""
    return crowd.crowd_of(flat(point_of(1000, policy, SECONDS)))


def measure_edge(devices: int, policy: str, edge: int, seconds: float) -> Row:
    """One edge with its part of the devices: sums over what comes after the start has settled."""
    # Writing down every message takes time of its own: one edge of them all speaks for the others.
    records = "all" if edge == 0 else "none"
    outcome = run_edge(point_of(devices, policy, seconds), 0, edge, records=records)
    lines, effort = outcome.lines, outcome.effort
    passes = [step for step in lines["steps"] if not step["who"].startswith("device-")]
    passes = [step for step in passes if step["began_s"] >= SETTLED_S and step["ended_s"] <= seconds]
    said = [message for message in lines["messages"] if SETTLED_S <= message["sent_s"] < seconds]
    return {
        "devices": len(range(edge, devices, EDGES)),
        "tokens": sum(token["time_s"] >= SETTLED_S for token in lines["tokens"]),
        "passes": len(passes),
        "rows": sum(step["rows"] for step in passes),
        "messages": len(said) if records == "all" else None,
        "effort": asdict(effort),
    }


def measure_elsewhere(agreement: float, rtt_ms: float, row_ms: float, devices: int, seconds: float) -> Row:
    """One edge of another kind, and how far off the fluid model is there."""
    models = ModelSettings(
        pass_ms=MODELS.pass_ms, row_ms=row_ms, draft_step_ms=MODELS.draft_step_ms, agreement=agreement
    )
    point = point_of(devices, "hint-driven", seconds, edges=1, models=models, rtt_ms=rtt_ms)
    lines = run_edge(point, 0, 0, records="none").lines
    tokens = sum(token["time_s"] >= SETTLED_S for token in lines["tokens"])
    ms_per_token = 1000 * devices * (seconds - SETTLED_S) / tokens
    told_ms = 1000 * flow(crowd.crowd_of(flat(point)), devices).s_per_token
    return {
        "agreement": agreement,
        "rtt_ms": rtt_ms,
        "row_ms": row_ms,
        "devices": devices,
        "ms_per_token": round(ms_per_token, 2),
        "fluid_ms_per_token": round(told_ms, 2),
        "error": round(told_ms / ms_per_token - 1, 4),
    }


def _together(work: Work, parts: Sequence[Row]) -> Row:
    """A row of the table: all edges of one run."""
    devices, policy, _, seconds = work.arguments
    window_s = seconds - SETTLED_S
    tokens, passes, rows = (sum(part[name] for part in parts) for name in ("tokens", "passes", "rows"))
    spoken = parts[0]
    measured = {
        "rows_per_pass": rows / passes,
        "ms_per_token": 1000 * devices * window_s / tokens,
        "tokens_per_s": tokens / window_s,
        "passes_per_s": passes / window_s,
        "messages_per_s": spoken["messages"] / spoken["devices"] * devices / window_s,
    }
    return {
        "devices": devices,
        "policy": policy,
        **{name: round(value, 3) for name, value in measured.items()},
    }


def _errors(row: Row) -> Row:
    """What the fluid model says beyond the real code, as a part of that."""
    told = _told(flow(crowd_of(row["policy"]), row["devices"] / EDGES), EDGES)
    errors = {name: round(value / row[name] - 1, 4) for name, value in told.items()}
    return {"devices": row["devices"], "policy": row["policy"], **errors}


def _effort(work: Work, parts: Sequence[Row]) -> Row:
    """Of the edges whose messages were not written down."""
    devices, policy, *_ = work.arguments
    effort = Effort.of_all(Effort(**part["effort"]) for part in parts if part["messages"] is None)
    return {
        "devices": devices,
        "policy": policy,
        "events": effort.num_events,
        "events_per_s_of_cpu": round(effort.events_per_s),
        "cpu_us_per_token": round(effort.us_per_token, 1),
        "peak_mib": round(effort.peak_bytes / 2**20),
    }


def _told(model: Flow, edges: int) -> dict[str, float]:
    """What the fluid model says of so many edges like this one."""
    return {
        "ms_per_token": 1000 * model.s_per_token,
        "tokens_per_s": edges * model.tokens_per_s,
        "passes_per_s": edges * model.passes_per_s,
        "messages_per_s": edges * model.messages_per_s,
    }


def _asked(devices: int, policy: str) -> Row:
    model = flow(crowd_of(policy), devices / EDGES)
    told = {name: round(value, 1) for name, value in _told(model, EDGES).items()}
    return {"devices": devices, "edges": EDGES, "policy": policy, **told}


def _held(goal_ms: float) -> Row:
    """Of the mean time per token, with hints and without."""
    plain, hinted = (devices_within(crowd_of(policy), goal_ms / 1000) for policy in POLICIES[:2])
    return {
        "goal_ms": goal_ms,
        "devices_plain": plain,
        "devices_hinted": hinted,
        "times": round(hinted / plain, 2) if plain else None,
        f"edges_for_{CROWD}_hinted": -(-CROWD // hinted) if hinted else None,
    }


def _saturation() -> list[Row]:
    """How many devices one edge takes, and a broker that all edges share."""
    found: list[Row] = []
    for policy in POLICIES[:2]:
        kind = crowd_of(policy)
        devices = knee(kind)
        model = flow(kind, devices)
        found.append(
            {
                "what": "one edge",
                "policy": policy,
                "devices": devices,
                "ms_per_token": round(1000 * model.s_per_token, 1),
            }
        )
        for broker, limit in BROKERS.items():
            devices = devices_on_broker(kind, limit, EDGES)
            found.append(
                {
                    "what": f"{broker}: {limit:,} messages a second, {EDGES} edges",
                    "policy": policy,
                    "devices": devices,
                    "ms_per_token": round(1000 * flow(kind, devices / EDGES).s_per_token, 1),
                }
            )
    return found


def _musts(errors: Sequence[Row], elsewhere: Sequence[Row], minutes: float, peak_gib: float) -> list[Row]:
    rows = [
        must(
            f"fluid model off by, at {row['devices']} devices, {row['policy']} (at most)",
            max(abs(row[name]) for name in ("ms_per_token", "tokens_per_s", "passes_per_s")),
            at_most=MOST_ERROR,
        )
        for row in errors
    ]
    if elsewhere:
        worst = max(abs(row["error"]) for row in elsewhere)
        rows.append(must("fluid model off by, at worst elsewhere (at most)", worst, at_most=MOST_ERROR))
    return [
        *rows,
        must("minutes for all of it (at most)", minutes, at_most=MOST_MINUTES),
        must("GiB of the largest process (at most)", peak_gib, at_most=MOST_GIB),
    ]
