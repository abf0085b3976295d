"""Cascade mode: is the promise kept under faults, what does it bring, and how do other rules compare?

Virtual time. The promise and our own figures are those of the real code, replayed token by token; the curves
of rules come from a fast model (`lab/keep_model.py`) that is held against the real code beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from ..keep_model import EdgeRule, FixedRule, KeepLoop, KeepOutcome, KeepRule, LedgerRule, Place, run_keep
from ..kept import KeptSetting, simulate_kept
from ..promise import PromiseRun, keep_promise

__all__ = ["run"]

QUALITIES = (0.9, 0.95, 0.975, 0.99)
RTT_S, PASS_S = 0.1, 0.05
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
VALIDATED = ((0.02, 0.1), (0.1, 0.05), (0.1, 0.2), (0.2, 0.2))
"""(round trip in seconds, fixed threshold of doubt)."""

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def run(*, quick: bool = False, real: bool = False, plot: str | None = None) -> dict[str, Any]:
    """Every must with its bound, and the figures behind it; `plot`: a picture of the curves goes there.

    A quick look has young ledgers, in which there is little to spend: less is kept than in the long run.
    `real`: the real pair in real time instead.
    """
    if real:
        from ._cascade_real import measure

        return measure(quick=quick)
    num_runs, num_run_tokens = (4, 300) if quick else (100, 2000)
    num_tokens, num_model_tokens = (1200, 1200) if quick else (20_000, 20_000)
    points = _points()[:: 6 if quick else 1]
    with ProcessPoolExecutor() as pool:
        promises = _all(pool, _promise_row, [(seed, num_run_tokens) for seed in range(num_runs)])
        ours = _all(pool, _real_row, [(quality, num_tokens) for quality in QUALITIES])
        others = _all(pool, _compared_row, [(True, 200), (False, num_tokens // 4)])
        validation = _all(pool, _validation_row, [(*point, num_model_tokens // 4) for point in VALIDATED])
        curves = _all(pool, _curve_row, [(*point, num_model_tokens) for point in points])
    if plot is not None:
        _plot(curves, ours, plot)
    cloud, lossless = others
    at = next(row for row in ours if row["promised"] == 0.975)
    return {
        "musts": _musts(promises, at, cloud, curves),
        "promise": [_summary(quality, promises) for quality in QUALITIES],
        "ours": ours,
        "cloud": cloud,
        "lossless": lossless,
        "validation": validation,
        "curves": curves,
    }


def _musts(
    promises: Sequence[PromiseRun],
    at: dict[str, Any],
    cloud: dict[str, Any],
    curves: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    found = [
        ("least room in any ledger, tokens", min(run.worst_ledger_margin for run in promises), 0.0),
        ("least room by replay, tokens", min(run.worst_margin for run in promises), 0.0),
        ("wrong tokens unknown to the ledger (negative)", -sum(run.num_unaccounted for run in promises), 0),
        ("wrong tokens nobody kept (negative)", -sum(run.num_strangers for run in promises), 0),
        ("kept share at quality .975", at["kept_share"], 0.6),
        ("quality by replay at .975", at["quality"], 0.975),
        ("times as fast as cloud streaming", cloud["ms_per_token"] / at["ms_per_token"], 1.5),
        ("quality above the front of other rules at equal kept share, worst", _above_front(curves), -0.002),
    ]
    return [
        {"must": name, "figure": round(figure, 4), "at_least": bound, "holds": figure >= bound - 1e-9}
        for name, figure, bound in found
    ]


def _above_front(curves: Sequence[dict[str, Any]]) -> float:
    """How much more agreement than the best other rule that keeps as much, where that is least."""
    others = [row for row in curves if row["rule"] != "ledger" and row["kept_share"] > 0]
    worst = 1.0
    for ours in (row for row in curves if row["rule"] == "ledger"):
        rivals = (_quality_at(others, rule, ours["kept_share"]) for rule in {row["rule"] for row in others})
        worst = min(worst, ours["quality"] - max(rivals))
    return worst


def _quality_at(rows: Sequence[dict[str, Any]], rule: str, kept_share: float) -> float:
    """Of one rule, between its points; 0 where it cannot keep so much."""
    points = sorted((row["kept_share"], row["quality"]) for row in rows if row["rule"] == rule)
    for (low, better), (high, worse) in itertools.pairwise(points):
        if low <= kept_share <= high:
            return float(better + (worse - better) * (kept_share - low) / max(high - low, 1e-12))
    return 0.0


# One row each


def _promise_row(job: tuple[int, int]) -> PromiseRun:
    seed, num_tokens = job
    return keep_promise(seed, quality=QUALITIES[seed % len(QUALITIES)], num_tokens=num_tokens)


def _summary(quality: float, promises: Sequence[PromiseRun]) -> dict[str, Any]:
    runs = [run for run in promises if run.quality == quality]
    num_tokens = sum(run.num_tokens for run in runs)
    return {
        "quality": quality,
        "runs": len(runs),
        "tokens": num_tokens,
        "kept_share": sum(run.num_kept for run in runs) / num_tokens,
        "given": 1 - sum(run.num_wrong for run in runs) / num_tokens,
        "least_room": min(run.worst_margin for run in runs),
        "restarts": sum(run.num_restarts for run in runs),
        "reopens": sum(run.num_reopens for run in runs),
        "lost_messages": sum(run.num_lost for run in runs),
    }


def _real_row(job: tuple[float, int]) -> dict[str, Any]:
    quality, num_tokens = job
    found = simulate_kept(KeptSetting(quality=quality, num_tokens=num_tokens))
    account = found.summary.account
    assert account is not None
    return {
        "promised": quality,
        "tokens": num_tokens,
        "ms_per_token": found.summary.time_per_token_s * 1000,
        "kept_share": found.kept_share,
        "at_once_share": found.at_once_share,
        "quality": found.quality,
        "by_the_ledger": account.least_quality,
        "passes_per_token": found.passes_per_token,
        "bytes_per_token": (found.summary.bytes_up + found.summary.bytes_down) / num_tokens,
    }


def _compared_row(job: tuple[bool, int]) -> dict[str, Any]:
    is_plain, num_tokens = job
    found = simulate_kept(KeptSetting(quality=1.0, num_tokens=num_tokens, is_plain=is_plain))
    return {
        "ms_per_token": found.summary.time_per_token_s * 1000,
        "passes_per_token": found.passes_per_token,
        "bytes_per_token": (found.summary.bytes_up + found.summary.bytes_down) / num_tokens,
    }


def _validation_row(job: tuple[float, float, int]) -> dict[str, Any]:
    """A fixed threshold with all the room that it wants, in the model and in the real code."""
    rtt_s, doubt, num_tokens = job
    real = simulate_kept(KeptSetting(quality=0.5, threshold=doubt, num_tokens=num_tokens, rtt_s=rtt_s))
    rule = FixedRule(_chance, 1 - doubt)
    model = run_keep(rule, KeepLoop(rtt_s=rtt_s, pass_s=PASS_S), num_tokens)
    return {
        "rtt_ms": rtt_s * 1000,
        "doubt": doubt,
        "real_ms": real.summary.time_per_token_s * 1000,
        "model_ms": model.time_per_token_s * 1000,
        "real_kept": real.kept_share,
        "model_kept": model.kept_share,
        "real_quality": real.quality,
        "model_quality": model.quality,
    }


def _curve_row(job: tuple[str, float, int]) -> dict[str, Any]:
    name, setting, num_tokens = job
    found: KeepOutcome = run_keep(_rule(name, setting), KeepLoop(rtt_s=RTT_S, pass_s=PASS_S), num_tokens)
    return {"rule": name, "setting": setting, **asdict(found)}


# The rules


def _chance(place: Place) -> float:
    return place.chance


def _max_prob(place: Place) -> float:
    return place.max_prob


def _margin(place: Place) -> float:
    return place.margin


def _entropy(place: Place) -> float:
    return place.entropy


SIGNALS: dict[str, Callable[[Place], float]] = {
    "chance": _chance,
    "max-probability": _max_prob,
    "margin": _margin,
    "entropy": _entropy,
}


def _lenient(place: Place, alpha: float) -> bool:
    return place.ratio >= 1 - alpha


def _chow(place: Place, alpha: float) -> bool:
    return place.max_prob >= 1 - alpha


def _diff(place: Place, alpha: float) -> bool:
    return place.max_prob >= place.target_max - alpha


def _opt(place: Place, alpha: float) -> bool:
    return place.max_prob >= place.target_max - alpha * place.distance


EDGE_RULES: dict[str, Callable[[Place, float], bool]] = {
    "lenient": _lenient,
    "Chow": _chow,
    "Diff": _diff,
    "OPT": _opt,
}


def _points() -> list[tuple[str, float]]:
    ours = [("ledger", quality) for quality in (0.85, 0.9, 0.95, 0.975, 0.99)]
    fixed = [(name, threshold) for name in SIGNALS for threshold in THRESHOLDS]
    return [*ours, *fixed, *((name, alpha) for name in EDGE_RULES for alpha in ALPHAS)]


def _rule(name: str, setting: float) -> KeepRule:
    if name == "ledger":
        return LedgerRule(setting, stall_s=RTT_S + PASS_S)
    if name in SIGNALS:
        return FixedRule(SIGNALS[name], setting)
    return EdgeRule(EDGE_RULES[name], setting)


def _all(pool: ProcessPoolExecutor, work: Callable[[Job], Answer], jobs: Iterable[Job]) -> list[Answer]:
    return list(pool.map(work, jobs))


def _plot(curves: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    kept, fast = figure.subplots(1, 2)
    for rule in dict.fromkeys(row["rule"] for row in curves):
        rows = sorted((row for row in curves if row["rule"] == rule), key=lambda row: row["quality"])
        style = "o-" if rule == "ledger" else ".--" if rule in SIGNALS else "x:"
        quality = [row["quality"] for row in rows]
        fast.plot(quality, [row["time_per_token_s"] * 1000 for row in rows], style, label=rule)
        if rule not in EDGE_RULES:
            kept.plot(quality, [row["kept_share"] for row in rows], style, label=rule)
    kept.plot([row["quality"] for row in ours], [row["kept_share"] for row in ours], "k*", label="real code")
    fast.plot(
        [row["quality"] for row in ours], [row["ms_per_token"] for row in ours], "k*", label="real code"
    )
    kept.set(xlabel="agreement with the target", ylabel="kept without asking", xlim=(0.8, 1))
    fast.set(xlabel="agreement with the target", ylabel="ms per token", xlim=(0.8, 1))
    for axes in (kept, fast):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
