"""Engines on Ray beside one in this process: the way's cost, the gain of four, and what kills are felt as.

All on this machine and in real time, with synthetic engines whose passes take declared time, so that many
fit. The cost of the way is the time per token where each token is decoded only when the last one was
acknowledged: it has a commit's way down and an acknowledgement's way up, thus is more than a commit ever
waits. The gain is at equal work for each replica: sixteen texts at one, sixty-four at four. For the kills
Ray runs as a cluster of several nodes, and every text is compared with what the target says alone.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from ..progress import must
from ..replicas import Ordeal, Toll, endure, engine_of, here, on_ray, token_s, tokens_per_s

__all__ = ["run"]

PASS_S = 0.02
MUST_OVERHEAD_MS = 5.0
TEXTS_PER_REPLICA = 16
NUM_REPLICAS = 4
LOADED_PASS_S, LOADED_ROW_S = 0.05, 0.0005
MUST_GAIN = 3.6
MUST_JAIN = 0.95


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure; `quick` takes fewer tokens, and one kill, over two nodes."""
    num_tokens, within_s = (100, 3.0) if quick else (500, 15.0)
    ordeal = Ordeal(num_texts=16, num_replicas=2, num_nodes=2, num_kills=1) if quick else Ordeal()
    ways = asyncio.run(_ways(num_tokens))
    rates = asyncio.run(_rates(within_s))
    toll = asyncio.run(endure(ordeal))
    overhead_ms = max(way["overhead_ms"] for way in ways)
    gain = rates[-1]["tokens_per_s"] / rates[1]["tokens_per_s"]
    pause_ms = _percentile_ms(toll.pauses_s, 95)
    return {
        "musts": [
            must(
                "a token's way to the front and back, p50 in ms (at most)",
                overhead_ms,
                at_most=MUST_OVERHEAD_MS,
            ),
            must("tokens a second of four replicas over those of one (at least)", gain, at_least=MUST_GAIN),
            must("texts that a kill changed (at most)", toll.num_wrong, at_most=0),
            must(
                "evenness of the load before each kill, worst (at least)", min(toll.jain), at_least=MUST_JAIN
            ),
        ],
        "overhead": ways,
        "throughput": rates,
        "kills": _kills(ordeal, toll) | {"pause_p95_ms": pause_ms},
    }


async def _ways(num_tokens: int) -> list[dict[str, Any]]:
    """The same engine in this process, and in one on Ray."""
    rows = []
    new_engine = engine_of(PASS_S, run_ahead=1)
    for num_texts in (1, TEXTS_PER_REPLICA):
        async with here(new_engine) as engine:
            alone_s = await token_s(engine, num_tokens, num_texts)
        async with on_ray(new_engine, 1) as (replicated, _):
            await token_s(replicated, 20, num_texts)  # the first ones find cold caches
            there_s = await token_s(replicated, num_tokens, num_texts)
        rows.append(
            {
                "texts": num_texts,
                "here_ms": round(alone_s * 1000, 2),
                "on_ray_ms": round(there_s * 1000, 2),
                "overhead_ms": round((there_s - alone_s) * 1000, 2),
            }
        )
    return rows


async def _rates(within_s: float) -> list[dict[str, Any]]:
    new_engine = engine_of(LOADED_PASS_S, row_s=LOADED_ROW_S)
    async with here(new_engine) as engine:
        rows = [_rate("here", 1, await tokens_per_s(engine, TEXTS_PER_REPLICA, within_s))]
    for num_replicas in (1, NUM_REPLICAS):
        async with on_ray(new_engine, num_replicas) as (replicated, _):
            rate = await tokens_per_s(replicated, TEXTS_PER_REPLICA * num_replicas, within_s)
        rows.append(_rate("on Ray", num_replicas, rate))
    return rows


def _rate(where: str, num_engines: int, rate: float) -> dict[str, Any]:
    return {
        "where": where,
        "engines": num_engines,
        "texts": TEXTS_PER_REPLICA * num_engines,
        "tokens_per_s": round(rate, 1),
    }


def _kills(ordeal: Ordeal, toll: Toll) -> dict[str, Any]:
    return {
        "nodes": ordeal.num_nodes,
        "replicas": ordeal.num_replicas,
        "texts_at_a_time": ordeal.num_texts,
        "texts": toll.num_texts,
        "wrong_texts": toll.num_wrong,
        "actors_killed": toll.num_actors_killed,
        "nodes_killed": toll.num_nodes_killed,
        "texts_moved": len(toll.pauses_s),
        "pause_p50_ms": _percentile_ms(toll.pauses_s, 50),
        "pause_max_ms": _percentile_ms(toll.pauses_s, 100),
        "recovery_p50_s": round(statistics.median(toll.recovery_s), 2),
        "recovery_max_s": round(max(toll.recovery_s), 2),
        "jain_min": round(min(toll.jain), 4),
    }


def _percentile_ms(values_s: list[float], percent: int) -> float:
    ordered = sorted(values_s)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000, 1)
