"""Cascade mode: what does it bring, how far is that from what can be had, and how do other rules compare?

Virtual time. Our own figures are those of the real code, replayed token by token by the target; the curves of
rules come from a fast model (`lab/keep_model.py`) that is held against the real code beside them. One process
takes some twenty minutes. Whether the promise is kept under faults is another benchmark, `promise`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..keep_bound import Questions, most_at_once, most_kept
from ..keep_model import KeepLoop, run_keep
from ..keep_rules import EdgeRule, FixedRule, KeepRule, LedgerRule, LegalRule, Place
from ..kept import KeptSetting, simulate_kept
from ..progress import must
from ._campaign import Campaign, Work

__all__ = ["run"]

QUALITIES = (0.9, 0.95, 0.975, 0.99)
RTT_S, PASS_S = 0.1, 0.05
THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
LEGAL_THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
VALIDATED = ((0.02, 0.1), (0.1, 0.05), (0.1, 0.2), (0.2, 0.2))
"""(round trip in seconds, fixed threshold of doubt)."""
SPEEDUP = 1.5
"""Over plain streaming, that is to be had."""

Row = dict[str, Any]


def run(
    *,
    quick: bool = False,
    real: bool = False,
    plot: str | None = None,
    jobs: int | None = None,
    resume: str | None = None,
) -> dict[str, Any]:
    """Every must with its bound, and the figures behind it; `plot`: a picture of the curves goes there.

    A quick look has young ledgers, in which there is little to spend: less is kept than in the long run.
    `real`: the real pair in real time instead.
    """
    if real:
        from ._cascade_real import measure

        return measure(quick=quick)
    num_tokens = 1200 if quick else 20_000
    thin = 6 if quick else 1
    legal = [
        (name, threshold, quality, num_tokens)
        for quality in QUALITIES
        for name in SIGNALS
        for threshold in LEGAL_THRESHOLDS
    ]
    parts = {
        "ours": [Work(_real_row, (quality, num_tokens)) for quality in QUALITIES],
        "compared": [Work(_compared_row, (True, 200)), Work(_compared_row, (False, num_tokens // 4))],
        "validation": [Work(_validation_row, (*point, num_tokens // 4)) for point in VALIDATED],
        "curves": [Work(_curve_row, (*point, num_tokens)) for point in _points()[::thin]],
        "in_ledgers": [Work(_ledger_row, (quality, num_tokens)) for quality in QUALITIES],
        "legal": [Work(_legal_row, point) for point in legal[::thin]],
    }
    rows = iter(
        Campaign("cascade", jobs=jobs, resume=resume).run([work for part in parts.values() for work in part])
    )
    found = {name: list(itertools.islice(rows, len(part))) for name, part in parts.items()}
    if plot is not None:
        _plot(found["curves"], found["ours"], plot)
    cloud, lossless = found.pop("compared")
    at = next(row for row in found["ours"] if row["promised"] == 0.975)
    rivals = [_best_legal(row, found["legal"]) for row in found["in_ledgers"]]
    return {
        "musts": _musts(at, cloud, found["curves"], rivals),
        "reach": _reach(at),
        "best_legal": rivals,
        "above_the_front_at_equal_kept_share": _above_front(found["curves"], "kept_share"),
        "cloud": cloud,
        "lossless": lossless,
        **found,
    }


def _musts(at: Row, cloud: Row, curves: Sequence[Row], rivals: Sequence[Row]) -> list[Row]:
    at_once, kept = (min(row[f"{share}_by_rival"] for row in rivals) for share in ("at_once", "kept"))
    speedup = cloud["ms_per_token"] / at["ms_per_token"]
    return [
        must("kept share at quality .975", at["kept_share"], at_least=0.6),
        must("shown at once at quality .975", at["at_once_share"], at_least=0.6),
        must("quality by replay at .975", at["quality"], at_least=0.975),
        must("times as fast as cloud streaming", speedup, at_least=SPEEDUP),
        must(
            "quality above the front of all other rules where as much is shown at once, worst",
            _above_front(curves, "at_once_share"),
            at_least=-0.002,
        ),
        must("shown at once, by the best fixed threshold in the same ledger, worst", at_once, at_least=1),
        must("kept, by the best fixed threshold in the same ledger, worst", kept, at_least=0.95),
    ]


def _above_front(curves: Sequence[Row], share: str) -> float:
    """How much more agreement than the best other rule with as large a share, where that is least.

    The others are fixed: they promise nothing, and the best of them is chosen when all is over.
    """
    others = [row for row in curves if row["rule"] != "ledger" and row["kept_share"] > 0]
    worst = 1.0
    for ours in (row for row in curves if row["rule"] == "ledger"):
        rivals = (_quality_at(others, rule, share, ours[share]) for rule in {row["rule"] for row in others})
        worst = min(worst, ours["quality"] - max(rivals, default=0.0))
    return worst


def _quality_at(rows: Sequence[Row], rule: str, share: str, wanted: float) -> float:
    """Of one rule, between its points; 0 where it has no such share."""
    points = sorted((row[share], row["quality"]) for row in rows if row["rule"] == rule)
    for (low, better), (high, worse) in itertools.pairwise(points):
        if low <= wanted <= high:
            return float(better + (worse - better) * (wanted - low) / max(high - low, 1e-12))
    return 0.0


def _best_legal(ours: Row, legal: Sequence[Row]) -> Row:
    """The best that fixed thresholds do in a ledger of the same promise; for either share, another one."""
    rows = [row for row in legal if row["promised"] == ours["promised"]]
    kept, at_once = (max(row[share] for row in rows) for share in ("kept_share", "at_once_share"))
    return {
        "promised": ours["promised"],
        "kept_share": kept,
        "kept_by_rival": ours["kept_share"] / kept,
        "at_once_share": at_once,
        "at_once_by_rival": ours["at_once_share"] / at_once,
    }


def _reach(at: Row) -> Row:
    """What no rule can exceed that knows chances alone, at our own pace and at the slowest allowed.

    An edge that drives is ahead of questions early in a walk, and its passes are in the way of later ones. So
    what can be had is between an edge that only answers, and one that drives and yet is never busy.
    """
    answering = Questions(rtt_s=RTT_S, pass_s=PASS_S)
    driving = dataclasses.replace(answering, is_under_way=True)
    paces_s = {"our_pace": at["ms_per_token"] / 1000, "slowest_allowed": PASS_S / SPEEDUP}
    return {
        "kept_share": most_kept(at["promised"]),
        "at_once_share": {
            pace: {
                "edge_only_answers": most_at_once(at["promised"], pace_s, answering),
                "edge_drives_and_is_never_busy": most_at_once(at["promised"], pace_s, driving),
            }
            for pace, pace_s in paces_s.items()
        },
    }


# One row each


def _real_row(quality: float, num_tokens: int) -> Row:
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


def _compared_row(is_plain: bool, num_tokens: int) -> Row:
    found = simulate_kept(KeptSetting(quality=1.0, num_tokens=num_tokens, is_plain=is_plain))
    return {
        "ms_per_token": found.summary.time_per_token_s * 1000,
        "passes_per_token": found.passes_per_token,
        "bytes_per_token": (found.summary.bytes_up + found.summary.bytes_down) / num_tokens,
    }


def _validation_row(rtt_s: float, doubt: float, num_tokens: int) -> Row:
    """A fixed threshold with all the room that it wants, in the model and in the real code."""
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


def _curve_row(name: str, setting: float, num_tokens: int) -> Row:
    return {"rule": name, "setting": setting, **_modelled(_rule(name, setting), num_tokens)}


def _ledger_row(quality: float, num_tokens: int) -> Row:
    return {"promised": quality, **_modelled(_rule("ledger", quality), num_tokens)}


def _legal_row(name: str, threshold: float, quality: float, num_tokens: int) -> Row:
    rule = LegalRule(SIGNALS[name], threshold, quality=quality)
    return {"promised": quality, "rule": name, "setting": threshold, **_modelled(rule, num_tokens)}


def _modelled(rule: KeepRule, num_tokens: int) -> Row:
    return dataclasses.asdict(run_keep(rule, KeepLoop(rtt_s=RTT_S, pass_s=PASS_S), num_tokens))


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


def _plot(curves: Sequence[Row], ours: Sequence[Row], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    kept, at_once, fast = figure.subplots(1, 3)
    for rule in dict.fromkeys(row["rule"] for row in curves):
        rows = sorted((row for row in curves if row["rule"] == rule), key=lambda row: row["quality"])
        style = "o-" if rule == "ledger" else ".--" if rule in SIGNALS else "x:"
        quality = [row["quality"] for row in rows]
        fast.plot(quality, [row["time_per_token_s"] * 1000 for row in rows], style, label=rule)
        if rule not in EDGE_RULES:
            kept.plot(quality, [row["kept_share"] for row in rows], style, label=rule)
            at_once.plot(quality, [row["at_once_share"] for row in rows], style, label=rule)
    given = [row["quality"] for row in ours]
    for axes, field in ((kept, "kept_share"), (at_once, "at_once_share"), (fast, "ms_per_token")):
        axes.plot(given, [row[field] for row in ours], "k*", label="real code")
        axes.set(xlabel="agreement with the target", xlim=(0.8, 1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    kept.set(ylabel="kept without asking")
    at_once.set(ylabel="shown as it is drafted")
    fast.set(ylabel="ms per token")
    figure.savefig(path, dpi=120)
