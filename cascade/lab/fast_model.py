"""The loop of device, link and edge without any of their code: a few numbers per event.

For sweeps over thousands of fixed policies, where the real code would take days. Hints travel one by one,
as soon as they are drafted, and their bytes cost nothing; so a fixed policy is a little better off here
than in the real code. `tests/virtual/test_scheduler.py` holds this model against that.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["FastOutcome", "FixedPolicy", "Loop", "agreeing", "run_fast"]

_NONE = 1 << 60
"""A position that no text reaches."""
TIE_S = 1e-6
"""Either way takes so much longer: a hint that is ready when a pass begins comes too late for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPolicy:
    """What does not change while a text is decoded."""

    window: int
    """Tokens drafted beyond the last commit known, at most. 0: no drafting."""
    max_fed_hints: int
    """That one pass takes."""
    patience_s: float
    """How long the edge waits for hints before it drives alone."""
    first_batch: int = 1
    """Guesses that travel together when the edge stands waiting for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The circumstances."""

    rtt_s: float
    draft_step_s: float
    pass_s: float
    """Of one row."""
    row_s: float = 0.0
    """What each further row adds to a pass."""
    hints_s: tuple[float, ...] = ()
    """Instead, where costs are no line: what 0, 1, 2, ... hints add to a pass; as many as it may be fed."""
    jitter_s: float = 0.0
    """Mean of an exponential delay on top of either way; order is kept."""

    def pass_of_s(self, num_hints: int) -> float:
        """What a pass takes that is fed so many."""
        extra_s = self.hints_s[num_hints] if self.hints_s else self.row_s * num_hints
        return self.pass_s + extra_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FastOutcome:
    """What came of it."""

    time_per_token_s: float
    passes_per_token: float
    rows_per_token: float
    drafted_per_token: float


def agreeing(agreement: float, num_tokens: int, seed: int) -> list[bool]:
    """Does the draft, given the true text before, agree at each position? Common to all policies."""
    dice = random.Random(seed)
    return [dice.random() < agreement for _ in range(num_tokens)]


def run_fast(
    policy: FixedPolicy, loop: Loop, coins: Sequence[bool], num_tokens: int, seed: int = 0
) -> FastOutcome:
    """Decode `num_tokens` tokens."""
    way_s, step_s, window = loop.rtt_s / 2 + TIE_S, loop.draft_step_s, policy.window
    pass_of_s = [loop.pass_of_s(num_hints) for num_hints in range(policy.max_fed_hints + 1)]
    up_s, down_s = _jitter(loop.jitter_s, 2 * seed), _jitter(loop.jitter_s, 2 * seed + 1)
    # The device: `known` committed tokens, guesses up to `end`, the first wrong one at `wrong`.
    known = end = 0
    wrong = _NONE
    step_end_s = math.inf if window == 0 else step_s
    is_step_valid = True
    num_drafted = 0
    unsent: list[tuple[int, int]] = []
    is_first = False
    # Under way: hints as (arrival, position, first wrong position of their chain), commits as
    # (arrival, head).
    hints: deque[tuple[float, int, int]] = deque()
    commits: deque[tuple[float, int]] = deque()
    last_up_s = last_down_s = 0.0
    # The edge: `head` committed tokens, usable hints up to `chain_end`.
    head = chain_end = 0
    chain_wrong = _NONE
    now_s = way_s
    first_s = 0.0
    num_passes = num_rows = 0
    may_wait = False
    while head < num_tokens:
        wait_until_s = now_s + policy.patience_s if may_wait else now_s
        while True:
            # Advance the device until all that arrives by now has been sent, or a hint is under way.
            horizon_s = wait_until_s - way_s
            while True:
                if commits and commits[0][0] <= step_end_s:
                    at_s, told = commits[0]
                    if at_s > horizon_s:
                        break
                    commits.popleft()
                    known = told
                    if wrong < told or end < told:
                        end, wrong, is_step_valid = told, _NONE, False
                        unsent.clear()
                        is_first = policy.first_batch > 1
                    if step_end_s == math.inf and end - known < window and end < num_tokens:
                        step_end_s, is_step_valid = at_s + step_s, True
                elif step_end_s <= horizon_s:
                    at_s = step_end_s
                    num_drafted += 1
                    if is_step_valid:
                        if wrong == _NONE and not coins[end]:
                            wrong = end
                        unsent.append((end, wrong))
                        end += 1
                        if not is_first or len(unsent) >= policy.first_batch:
                            is_first = False
                            last_up_s = max(last_up_s, at_s + way_s + next(up_s))
                            hints.extend((last_up_s, *guess) for guess in unsent)
                            unsent.clear()
                    is_step_valid = True
                    may_go_on = end - known < window and end < num_tokens
                    step_end_s = at_s + step_s if may_go_on else math.inf
                else:
                    break
                if hints and hints[-1][0] <= wait_until_s and hints[-1][0] >= now_s:
                    break  # the edge may go on before the device does
            while hints and hints[0][0] <= now_s:
                _, position, its_wrong = hints.popleft()
                if its_wrong >= head and position == max(chain_end, head):
                    chain_end = position + 1
                    if its_wrong != _NONE:
                        chain_wrong = its_wrong
            chain_end = max(chain_end, head)
            if chain_end > head or now_s >= wait_until_s:
                break
            now_s = min(hints[0][0], wait_until_s) if hints else wait_until_s
        num_fed = min(policy.max_fed_hints, chain_end - head, num_tokens - head - 1)
        now_s += pass_of_s[num_fed]
        num_passes += 1
        num_rows += num_fed + 1
        head += min(num_fed, chain_wrong - head) + 1
        if chain_wrong < head:
            chain_end, chain_wrong = head, _NONE
        last_down_s = max(last_down_s, now_s + way_s + next(down_s))
        commits.append((last_down_s, head))
        if not may_wait:
            may_wait, first_s, first_head = True, last_down_s, head
    return FastOutcome(
        time_per_token_s=(last_down_s - first_s) / max(1, head - first_head),
        passes_per_token=num_passes / head,
        rows_per_token=num_rows / head,
        drafted_per_token=num_drafted / head,
    )


def _jitter(mean_s: float, seed: int) -> Iterator[float]:
    if not mean_s:
        return itertools.repeat(0.0)
    dice = random.Random(seed)
    return iter(lambda: dice.expovariate(1 / mean_s), None)
