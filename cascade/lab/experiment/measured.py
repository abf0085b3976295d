"""Figures of a run out of its lines: one way to compute each, for the run and for those who check it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .settings import PriceSettings

__all__ = ["FIGURES", "figures_of", "gaps_ms", "quantile"]

Line = Mapping[str, Any]
NO_PRICES = PriceSettings()

FIGURES = {
    "ms_per_token": "time per token [ms]",
    "p95_ms_per_token": "time per token, p95 over streams [ms]",
    "p95_gap_ms": "gap between tokens, p95 [ms]",
    "first_token_ms": "time to the first token [ms]",
    "passes_per_token": "edge passes per token",
    "rows_per_token": "rows through the target per token",
    "drafted_per_token": "draft steps per token",
    "hinted_share": "share of tokens that were hinted",
    "kept_share": "share of tokens kept without asking",
    "at_once_share": "share of tokens delivered at once",
    "quality": "share of tokens that are the target's own",
    "bytes_up_per_token": "payload up per token [bytes]",
    "bytes_down_per_token": "payload down per token [bytes]",
    "bytes_per_token": "payload per token [bytes]",
    "tokens_per_s": "tokens per second, all devices",
    "edge_ms_per_token": "time of the edge's processor per token [ms]",
    "device_mj_per_token": "energy of the device per token [mJ]",
    "usd_per_mtoken": "edge and link per million tokens [USD]",
}
"""Every figure there is, as it stands on an axis."""


def figures_of(
    streams: Sequence[Line],
    tokens: Sequence[Line],
    steps: Sequence[Line],
    *,
    prices: PriceSettings = NO_PRICES,
) -> dict[str, float]:
    """All of `FIGURES`."""
    times = _times_by_stream(tokens)
    num_tokens = sum(map(len, times.values()))
    per_stream = [1000 * (t[-1] - t[0]) / (len(t) - 1) for t in times.values() if len(t) > 1]
    first = [
        1000 * (times[key][0] - stream["began_s"]) for stream in streams if (key := _key(stream)) in times
    ]
    passes = [step for step in steps if not step["who"].startswith("device-")]
    busy_s = sum(step["ended_s"] - step["began_s"] for step in passes)
    waiting_s = sum(
        times[key][-1] - stream["began_s"] for stream in streams if (key := _key(stream)) in times
    )
    last_s = max((t[-1] for t in times.values()), default=0.0)
    began_s = min((stream["began_s"] for stream in streams), default=0.0)
    up, down = (sum(stream[name] for stream in streams) for name in ("bytes_up", "bytes_down"))
    num_drafted = sum(stream["num_drafted"] for stream in streams)
    device_mj = num_drafted * prices.draft_step_mj + waiting_s * prices.waiting_mw
    device_mj += (up + down) * prices.byte_uj / 1000
    usd = busy_s / 3600 * prices.edge_usd_per_h + (up + down) / 1e9 * prices.gb_usd
    gaps = gaps_ms(tokens)

    def per_token(amount: float) -> float:
        return amount / num_tokens if num_tokens else 0.0

    figures = {
        "ms_per_token": statistics.fmean(per_stream) if per_stream else 0.0,
        "p95_ms_per_token": quantile(per_stream, 0.95),
        "p95_gap_ms": quantile(gaps, 0.95),
        "first_token_ms": statistics.fmean(first) if first else 0.0,
        "passes_per_token": per_token(len(passes)),
        "rows_per_token": per_token(sum(step["rows"] for step in passes)),
        "drafted_per_token": per_token(num_drafted),
        "hinted_share": per_token(sum(token["source"] == "hinted" for token in tokens)),
        "kept_share": per_token(sum(token["source"] == "kept" for token in tokens)),
        "at_once_share": per_token(sum(stream["num_at_once"] for stream in streams)),
        "quality": per_token(sum(token.get("is_own", True) for token in tokens)),
        "bytes_up_per_token": per_token(up),
        "bytes_down_per_token": per_token(down),
        "bytes_per_token": per_token(up + down),
        "tokens_per_s": num_tokens / (last_s - began_s) if last_s > began_s else 0.0,
        "edge_ms_per_token": per_token(1000 * busy_s),
        "device_mj_per_token": per_token(device_mj),
        "usd_per_mtoken": per_token(1e6 * usd),
    }
    return {name: round(value, 6) for name, value in figures.items()}


def gaps_ms(tokens: Iterable[Line]) -> list[float]:
    """Between neighbours of one stream."""
    return [
        1000 * (late - early)
        for times in _times_by_stream(tokens).values()
        for early, late in pairwise(times)
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _times_by_stream(tokens: Iterable[Line]) -> dict[tuple[str, int], list[float]]:
    times: dict[tuple[str, int], list[float]] = {}
    for token in tokens:
        times.setdefault(_key(token), []).append(token["time_s"])
    return times


def _key(line: Line) -> tuple[str, int]:
    return line["device"], line["stream"]
