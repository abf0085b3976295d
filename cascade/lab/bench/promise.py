"""Is the promise of cascade mode kept at every token, whatever happens? Seeded runs, replayed by the target.

Virtual time, real device, edges and links, the synthetic pair. Each run is an account of its own: two edges
that restart, links that lose, double, reorder, break and change, topics in which the draft's word is worth
less. One process takes some nine minutes for all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..progress import must
from ..promise import keep_promise
from ._campaign import Campaign, Work

__all__ = ["run"]

QUALITIES = (0.9, 0.95, 0.975, 0.99)
LENIENCY = 0.5
"""Of the edges, in runs beside."""
CONTAINED = ("kept", "overruled", "restarts", "reopens", "lost", "shifts")


def run(*, quick: bool = False, jobs: int | None = None, resume: str | None = None) -> dict[str, Any]:
    """100 runs of 2,000 tokens, a quarter of them for each quality, and 20 with lenient edges."""
    num_strict, num_lenient, num_tokens = (8, 2, 400) if quick else (100, 20, 2000)
    works = [Work(_run, (seed, QUALITIES[seed % 4], num_tokens, 0.0)) for seed in range(num_strict)]
    works += [Work(_run, (seed, QUALITIES[seed % 4], num_tokens, LENIENCY)) for seed in range(num_lenient)]
    runs = Campaign("promise", jobs=jobs, resume=resume).run(works)
    strict, lenient = runs[:num_strict], runs[num_strict:]
    return {
        "musts": musts(strict, lenient),
        "by_quality": [_summary([each for each in strict if each["quality"] == q]) for q in QUALITIES],
        "lenient": _summary(lenient),
    }


def musts(strict: Sequence[Mapping[str, Any]], lenient: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What must hold in every run."""
    runs = [*strict, *lenient]
    return [
        must("least room in a ledger, at any token, tokens", _least(runs, "worst_ledger_margin"), at_least=0),
        must("least room by replay, at any token, tokens", _least(runs, "worst_margin"), at_least=0),
        must("wrong by replay, unknown to the ledger", _sum(runs, "num_unaccounted"), at_most=0),
        must("wrong by replay, and nobody kept them", _sum(strict, "num_strangers"), at_most=0),
        *(
            must(f"runs with some {what}", _num_with(runs, what), at_least=len(runs) // 5)
            for what in CONTAINED
        ),
    ]


def _run(seed: int, quality: float, num_tokens: int, alpha: float) -> dict[str, Any]:
    return dataclasses.asdict(keep_promise(seed, quality=quality, num_tokens=num_tokens, alpha=alpha))


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    num_tokens = _sum(runs, "num_tokens")
    return {
        "promised": min(each["quality"] for each in runs),
        "runs": len(runs),
        "tokens": num_tokens,
        "kept_share": _sum(runs, "num_kept") / num_tokens,
        "given": 1 - _sum(runs, "num_wrong") / num_tokens,
        "least_room": _least(runs, "worst_margin"),
        **{what: _sum(runs, f"num_{what}") for what in CONTAINED},
    }


def _num_with(runs: Sequence[Mapping[str, Any]], what: str) -> int:
    return sum(each[f"num_{what}"] > 0 for each in runs)


def _sum(runs: Sequence[Mapping[str, Any]], field: str) -> int:
    return int(sum(each[field] for each in runs))


def _least(runs: Sequence[Mapping[str, Any]], field: str) -> float:
    """Tokens; sums of floating-point numbers are not exact."""
    return round(float(min(each[field] for each in runs)), 9)
