"""Would early branches pay? A drafter with nothing else to do drafts on behind its own second choices.

Where the edge then corrects a guess to exactly that second choice, the continuation is ready, or even at the
edge: a hint that does not fit yet is kept there, and fits when the text has become what it continues. Here
the loop of device, link and edge is a few numbers per event, as in `fast_model`, without patience and without
costs for bytes: what branches could gain at best.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .fast_model import TIE_S, Loop

__all__ = ["Branching", "run_branched"]

MAX_FED_HINTS = 16
KEPT_LINES = 12
"""Of the lines that the edge could still use; older ones ended long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branching:
    """What the drafter does when its main line is long enough."""

    window: int
    """Of the main line."""
    num_positions: int = 0
    """The first so many undecided guesses get a branch. 0: no branches."""
    length: int = 0
    """Tokens of each."""
    is_sent_ahead: bool = True
    """Or kept until the correction has come."""


class _Line:
    """Guesses from `start` on, the first wrong one at `wrong`, with their arrivals at the edge."""

    __slots__ = ("arrivals_s", "start", "wrong")

    def __init__(self, start: int) -> None:
        self.start = start
        self.wrong: int | None = None
        self.arrivals_s: list[float] = []

    @property
    def end(self) -> int:
        return self.start + len(self.arrivals_s)

    def num_usable(self, head: int, now_s: float) -> int:
        if not self.start <= head < self.end or (self.wrong is not None and self.wrong < head):
            return 0
        arrivals_s = self.arrivals_s[head - self.start :]
        return next((i for i, arrival_s in enumerate(arrivals_s) if arrival_s > now_s), len(arrivals_s))


class _Drafter:
    """The device: its main line, and a branch behind each of some guesses."""

    def __init__(self, how: Branching, loop: Loop, agrees: list[bool], second_agrees: list[bool]) -> None:
        self._how, self._step_s, self._way_s = how, loop.draft_step_s, loop.rtt_s / 2 + TIE_S
        self._agrees, self._second_agrees = agrees, second_agrees
        self._known = 0
        self._main = _Line(0)
        self._branches: dict[int, _Line] = {}
        self.lines = [self._main]
        """Those that continue a text which is, or may become, the true one."""
        self.commits: list[tuple[float, int]] = []
        self.num_drafted = 0
        self._line: _Line | None = self._main
        self._step_end_s = loop.draft_step_s

    def advance(self, until_s: float) -> None:
        while True:
            if self.commits and self.commits[0][0] <= min(self._step_end_s, until_s):
                now_s, head = self.commits.pop(0)
                self._learn(now_s, head)
                if self._line is None:
                    self._begin(now_s)
            elif self._step_end_s <= until_s:
                now_s = self._step_end_s
                self._draft(now_s)
                self._begin(now_s)
            else:
                return

    def forget_before(self, head: int) -> None:
        alive = [
            line
            for line in self.lines
            if line.wrong is None or line.wrong >= head or line in self._branches.values()
        ]
        self.lines = alive[-KEPT_LINES:]

    def _learn(self, now_s: float, head: int) -> None:
        self._known = head
        is_wrong = self._main.wrong is not None and self._main.wrong < head
        if not is_wrong and self._main.end >= head:
            self._branches = {at: line for at, line in self._branches.items() if at >= head}
            return
        branch = self._branches.get(head - 1)
        if is_wrong and branch is not None and self._second_agrees[head - 1]:
            self._main = branch
            if not self._how.is_sent_ahead:
                branch.arrivals_s = [now_s + self._way_s] * len(branch.arrivals_s)
        else:
            self._main = _Line(head)
            self.lines.append(self._main)
        self._branches = {}

    def _draft(self, now_s: float) -> None:
        line = self._line
        self.num_drafted += 1
        if line is None or (line is not self._main and line not in self._branches.values()):
            return
        if line.wrong is None and not self._agrees[line.end]:
            line.wrong = line.end
        is_sent = self._how.is_sent_ahead or line is self._main
        line.arrivals_s.append(now_s + self._way_s if is_sent else math.inf)

    def _begin(self, now_s: float) -> None:
        self._line = self._next_line()
        self._step_end_s = math.inf if self._line is None else now_s + self._step_s

    def _next_line(self) -> _Line | None:
        main, how = self._main, self._how
        if main.end - self._known < how.window:
            return main
        for position in range(self._known, min(self._known + how.num_positions, main.end)):
            if position not in self._branches:
                branch = self._branches[position] = _Line(position + 1)
                if main.wrong == position and self._second_agrees[position]:
                    self.lines.append(branch)
            if self._branches[position].end - position <= how.length:
                return self._branches[position]
        return None


def run_branched(
    how: Branching, loop: Loop, *, agreement: float, second_agreement: float, num_tokens: int, seed: int
) -> tuple[float, float]:
    """Seconds per token, and tokens drafted per token.

    `second_agreement`: where the target picks another token than the draft, the chance that it is the draft's
    second choice.
    """
    num_dice = num_tokens + how.window + MAX_FED_HINTS + how.length + 1
    dice = random.Random(seed)
    agrees = [dice.random() < agreement for _ in range(num_dice)]
    second_agrees = [dice.random() < second_agreement for _ in range(num_dice)]
    drafter = _Drafter(how, loop, agrees, second_agrees)
    way_s = loop.rtt_s / 2 + TIE_S
    now_s, head = way_s, 0
    first: tuple[float, int] | None = None
    while head < num_tokens:
        drafter.advance(now_s - way_s)
        num_fed, wrong = 0, None
        for line in drafter.lines:
            num_usable = min(line.num_usable(head, now_s), MAX_FED_HINTS)
            if num_usable > num_fed:
                num_fed, wrong = num_usable, line.wrong
        now_s += loop.pass_s + loop.row_s * num_fed
        head += 1 + (num_fed if wrong is None else min(num_fed, wrong - head))
        drafter.forget_before(head)
        drafter.commits.append((now_s + way_s, head))
        first = first or (now_s, head)
    assert first is not None
    return (now_s - first[0]) / (head - first[1]), drafter.num_drafted / head
