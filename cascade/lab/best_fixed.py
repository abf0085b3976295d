"""The best policy that does not change: found with the fast model, to be judged by the real code."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..device import Policy
from .fast_model import FixedPolicy, Loop, run_fast
from .simulation import Outcome, Setting, agreements, simulate

__all__ = ["PASS_S", "Point", "as_policy", "best_fixed", "evaluate", "fast_setting", "settings_of", "winners"]

PASS_S = 0.050
WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FED_HINTS = (1, 2, 3, 4, 6, 8, 12, 16)
NUM_SWEEP_SEEDS = 2
NUM_PLAYOFF_SEEDS = 3
SWEEP_SEED = 1000
"""Who is best is found on these seeds and after; how good it is, on others."""
MODEL_ERROR = 0.06
"""What the fast model finds worse than the best by more than this is worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Circumstances."""

    agreement: float
    rtt_ms: float
    draft_cost: float
    """Of a draft step, in passes."""
    row_cost: float = 0.0
    """Of each further row of a pass, in passes."""
    has_jitter: bool = False

    @property
    def jitter_s(self) -> float:
        """Mean delay on top of either way: a tenth of it, and a millisecond."""
        return 0.001 + 0.05 * self.rtt_ms / 1000 if self.has_jitter else 0.0

    @property
    def loop(self) -> Loop:
        return Loop(
            rtt_s=self.rtt_ms / 1000,
            draft_step_s=self.draft_cost * PASS_S,
            pass_s=PASS_S,
            row_s=self.row_cost * PASS_S,
            jitter_s=self.jitter_s,
        )


def settings_of(
    point: Point,
    policy: Policy,
    *,
    num_tokens: int,
    num_seeds: int,
    max_fed_hints: int = 16,
    first_seed: int = 0,
) -> Iterator[Setting]:
    """One for each seed; the draft's dice are rotated against each other, so that together they are fair."""
    for number in range(num_seeds):
        yield Setting(
            agreement=point.agreement,
            rtt_s=point.rtt_ms / 1000,
            policy=policy,
            num_tokens=num_tokens,
            seed=first_seed + number,
            rotation=number / num_seeds,
            draft_step_s=point.draft_cost * PASS_S,
            pass_s=PASS_S,
            row_s=point.row_cost * PASS_S,
            jitter_s=point.jitter_s,
            max_fed_hints=max_fed_hints,
        )


def evaluate(
    point: Point,
    policy: Policy,
    *,
    num_tokens: int,
    num_seeds: int,
    max_fed_hints: int = 16,
    first_seed: int = 0,
) -> list[Outcome]:
    """By the real code: the same texts and agreements for every policy."""
    settings = settings_of(
        point,
        policy,
        num_tokens=num_tokens,
        num_seeds=num_seeds,
        max_fed_hints=max_fed_hints,
        first_seed=first_seed,
    )
    return [simulate(setting) for setting in settings]


def best_fixed(point: Point, *, num_tokens: int) -> FixedPolicy:
    """The fast model's favourite; where it has several, the real code decides."""
    candidates = winners(point, num_tokens=2 * num_tokens)
    if len(candidates) == 1:
        return candidates[0]

    def real_s(fixed: FixedPolicy) -> float:
        found = evaluate(
            point,
            as_policy(fixed),
            num_tokens=num_tokens,
            num_seeds=NUM_PLAYOFF_SEEDS,
            max_fed_hints=fixed.max_fed_hints,
            first_seed=SWEEP_SEED,
        )
        return statistics.fmean(outcome.summary.time_per_token_s for outcome in found)

    return min(candidates, key=real_s)


def as_policy(fixed: FixedPolicy) -> Policy:
    """For the real code; the feeding limit is the edge's."""
    return Policy(window=fixed.window, patience_s=fixed.patience_s)


def fast_setting(setting: Setting, fixed: FixedPolicy) -> float:
    """Seconds per token of one setting by the fast model, with the agreements of the real pair."""
    loop = Loop(
        rtt_s=setting.rtt_s,
        draft_step_s=setting.draft_step_s,
        pass_s=setting.pass_s,
        row_s=setting.row_s,
        jitter_s=setting.jitter_s,
    )
    return run_fast(fixed, loop, agreements(setting), setting.num_tokens, setting.seed).time_per_token_s


def winners(point: Point, *, num_tokens: int) -> list[FixedPolicy]:
    """The best fixed policies (window, feeding limit, patience) of the fast model, best first.

    One without patience, one with less than a round trip, one with more, if it may be as good as the best:
    where the model errs, it errs between these. A search along one axis after the other, from several
    patiences on, until nothing improves.
    """
    sweep = settings_of(
        point, Policy.cloud(), num_tokens=num_tokens, num_seeds=NUM_SWEEP_SEEDS, first_seed=SWEEP_SEED
    )
    texts = [(setting.seed, agreements(setting)) for setting in sweep]
    found: dict[FixedPolicy, float] = {}

    def cost_s(policy: FixedPolicy) -> float:
        if policy not in found:
            runs = (run_fast(policy, point.loop, text, num_tokens, seed) for seed, text in texts)
            found[policy] = statistics.fmean(run.time_per_token_s for run in runs)
        return found[policy]

    for patience_s in (0.0, _patiences(point)[-1]):
        best = FixedPolicy(window=64, max_fed_hints=16, patience_s=patience_s)
        before = None
        while best != before:
            before = best
            for axis in _axes(point):
                best = min((axis(best, value) for value in _values(axis, point)), key=cost_s)
    best_of_kind: dict[bool | None, FixedPolicy] = {}
    for policy in sorted(found, key=cost_s):
        is_long = policy.patience_s > point.loop.rtt_s if policy.patience_s else None
        best_of_kind.setdefault(is_long, policy)
    best_s = min(found.values())
    return [policy for policy in best_of_kind.values() if found[policy] <= (1 + MODEL_ERROR) * best_s]


def _patiences(point: Point) -> list[float]:
    """Worth a try: none; a few draft steps or jitters, for hints all but there; a round trip and some."""
    loop = point.loop
    step_s, slack_s = loop.draft_step_s, 1e-4
    short = [slack_s + share * step_s for share in (0.5, 1, 2)]
    slack_s += 4 * loop.jitter_s
    long = [slack_s + loop.rtt_s + count * step_s for count in (1, 2, 3, 5, 8)]
    return sorted({0.0, *short, *([2 * loop.jitter_s] if loop.jitter_s else []), *long})


Axis = Callable[[FixedPolicy, float], FixedPolicy]


def _axes(point: Point) -> tuple[Axis, ...]:
    return (_with_patience, _with_window, _with_fed)


def _with_patience(policy: FixedPolicy, value: float) -> FixedPolicy:
    return FixedPolicy(window=policy.window, max_fed_hints=policy.max_fed_hints, patience_s=value)


def _with_window(policy: FixedPolicy, value: float) -> FixedPolicy:
    return FixedPolicy(window=int(value), max_fed_hints=policy.max_fed_hints, patience_s=policy.patience_s)


def _with_fed(policy: FixedPolicy, value: float) -> FixedPolicy:
    return FixedPolicy(window=policy.window, max_fed_hints=int(value), patience_s=policy.patience_s)


def _values(axis: Axis, point: Point) -> Iterable[float]:
    if axis is _with_patience:
        return _patiences(point)
    return WINDOWS if axis is _with_window else FED_HINTS
