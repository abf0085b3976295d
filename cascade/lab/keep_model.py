"""The loop of cascade mode without its code: a few numbers per event, for sweeps over rules.

The target's pick is always token 0; the draft says 0 where it agrees and 1 where it does not. What is to be
known of a position, and whether the draft agrees there, is drawn by position and seed: all rules meet the
same text. What was guessed behind a token that is not the text's any more is dead, by the hash of all before
it, as in the real thing. Messages travel one token each, cost nothing and are never lost. `cascade bench
cascade` holds this model against the real code.

What a rule may look at is drawn for every place: the chance of agreement, from a Beta distribution, is the
draft's calibrated word. Its highest probability, margin and entropy tell that chance through noise in the
logit, of 1, 1.5 and 2. The target's side is drawn beside it: its highest probability, what it gives the
draft's token where it disagrees, and the distance of both distributions.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from .keep_rules import KeepRule, Place

__all__ = ["KeepLoop", "KeepOutcome", "run_keep"]

_MASK = (1 << 64) - 1
NUM_PLACES = 1 << 16
TIE_S = 1e-6
MIN_CHANCE = 0.012
"""Of a chain to be of use; below it nothing is drafted."""
NUM_OFFERED = 8
"""Tokens that the edge goes on alone without hearing anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLoop:
    """The circumstances."""

    rtt_s: float
    draft_step_s: float = 0.005
    pass_s: float = 0.05
    mean: float = 0.8
    concentration: float = 1.0
    max_fed_hints: int = 16
    window: int = 256
    is_driven: bool = True
    """The edge goes on alone when it has nothing to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepOutcome:
    """What came of it."""

    time_per_token_s: float
    kept_share: float
    """Decided by the device."""
    at_once_share: float
    """Of all tokens, delivered in the moment they were drafted."""
    quality: float
    """The share of the target's own picks."""
    passes_per_token: float


def run_keep(rule: KeepRule, loop: KeepLoop, num_tokens: int, seed: int = 0) -> KeepOutcome:
    """Decode so many tokens."""
    return _Run(rule, loop, num_tokens, seed).run()


class _Text:
    """Tokens, the hash after each, and which are kept."""

    def __init__(self, seed: int) -> None:
        self.tokens: list[int] = []
        self.states = [_mix(seed)]
        self.kept: list[bool] = []
        self.behind: list[bool] = []
        """Guessed while something before it was open."""

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, token: int, *, is_kept: bool, is_behind: bool = False) -> None:
        self.tokens.append(token)
        self.kept.append(is_kept)
        self.behind.append(is_behind)
        self.states.append(_mix(self.states[-1] + token + 1))

    def cut(self, length: int) -> None:
        del self.tokens[length:], self.kept[length:], self.behind[length:], self.states[length + 1 :]


class _Run:
    def __init__(self, rule: KeepRule, loop: KeepLoop, num_tokens: int, seed: int) -> None:
        self.rule, self.loop, self.num_tokens = rule, loop, num_tokens
        self.places, self.salt = _places(loop.mean, loop.concentration), _mix(seed)
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.num_events = 0
        self.now_s = 0.0
        self.way_s = loop.rtt_s / 2 + TIE_S
        # The device
        self.text = _Text(seed)
        self.head = self.num_seen = self.generation = 0
        self.num_rollbacks = 0
        self.is_drafting = False
        self.asked_s = self.heard_s = 0.0
        self.first_s = self.last_s = 0.0
        self.num_kept = self.num_at_once = self.num_wrong = 0
        # The edge
        self.truth = _Text(seed)
        self.edge_head = self.edge_generation = self.num_offered = self.num_passes = 0
        self.is_passing = False

    def run(self) -> KeepOutcome:
        self._draft_on()
        self._begin_pass()
        while self.num_seen < self.num_tokens:
            self.now_s, _, handle, facts = heapq.heappop(self.events)
            handle(*facts)
        return KeepOutcome(
            time_per_token_s=(self.last_s - self.first_s) / (self.num_seen - 1),
            kept_share=self.num_kept / self.num_seen,
            at_once_share=self.num_at_once / self.num_seen,
            quality=1 - self.num_wrong / self.num_seen,
            passes_per_token=self.num_passes / self.num_seen,
        )

    def _at(self, delay_s: float, handle: Callable[..., None], *facts: object) -> None:
        self.num_events += 1
        heapq.heappush(self.events, (self.now_s + delay_s, self.num_events, handle, facts))

    def _place(self, position: int) -> Place:
        return self.places[_mix(self.salt + position) % NUM_PLACES]

    def _agrees(self, position: int) -> bool:
        return _mix(self.salt + position) / 2.0**64 < self._place(position).chance

    # The device

    def _survival(self) -> float:
        survival = 1.0
        for position in range(max(self.num_seen, self.head), len(self.text)):
            if not self.text.kept[position]:
                survival *= self._place(position).chance
        return survival

    @property
    def _is_asked(self) -> bool:
        """About the first open guess: it has gone out."""
        return self.num_seen < len(self.text) and self.now_s >= self.asked_s

    def _next_send_s(self) -> float:
        """Guesses are gathered until the last moment that makes the edge's next pass."""
        since_s = self.now_s - self.heard_s + self.loop.rtt_s
        return self.now_s - since_s + math.ceil(since_s / self.loop.pass_s - TIE_S) * self.loop.pass_s

    def _draft_on(self) -> None:
        can = len(self.text) - self.head < self.loop.window and self._survival() >= MIN_CHANCE
        if not self.is_drafting and can and not (self._is_asked and self.rule.is_waiting):
            self.is_drafting = True
            self._at(self.loop.draft_step_s, self._drafted, self.num_rollbacks)

    def _drafted(self, num_rollbacks: int) -> None:
        self.is_drafting = False
        if num_rollbacks == self.num_rollbacks:
            position, state = len(self.text), self.text.states[-1]
            place, token = self._place(position), int(not self._agrees(position))
            is_behind = self.num_seen < position
            num_unaudited = max(0, self.num_seen - self.head)
            is_kept = self.rule.keeps(place, is_behind=is_behind, num_unaudited=num_unaudited)
            self._at(self.way_s, self._arrived, self.generation, position, state, token, is_kept)
            self.text.add(token, is_kept=is_kept, is_behind=is_behind)
            if not is_kept and not is_behind:
                self.asked_s = self._next_send_s()
            self._see(is_at_once=True)
        self._draft_on()

    def _see(self, *, is_at_once: bool = False) -> None:
        text = self.text
        while self.num_seen < len(text) and (self.num_seen < self.head or text.kept[self.num_seen]):
            is_kept, is_settled = text.kept[self.num_seen], self.num_seen < self.head
            self.num_kept += is_kept
            self.num_at_once += is_at_once and not is_settled
            self.num_wrong += text.tokens[self.num_seen]
            self.rule.note_delivered()
            self.last_s = self.now_s
            self.first_s = self.first_s or self.now_s
            self.num_seen += 1

    def _committed(self, generation: int, start: int, tokens: list[int]) -> None:
        if generation == self.generation:
            self.heard_s = self.now_s
            self._settle(start, tokens)
            self._see()
        self._draft_on()

    def _settle(self, start: int, tokens: list[int]) -> None:
        text = self.text
        for position, token in enumerate(tokens, start=start):
            is_guessed = position < len(text)
            if is_guessed and text.tokens[position] != token and position < self.num_seen:
                self.generation += 1
                chain = list(zip(text.tokens[position:], text.kept[position:], strict=True))
                self._at(self.way_s, self._overruled, self.generation, position, chain)
                return
            place = self._place(position) if is_guessed else None
            is_same = is_guessed and text.tokens[position] == token
            was_kept, was_behind = is_same and text.kept[position], is_guessed and text.behind[position]
            if not is_same:
                self.rule.note_dead(sum(text.kept[position:]))
                text.cut(position)
                text.add(token, is_kept=False)
                self.num_rollbacks += 1
            self.rule.note_verdict(place, was_behind=was_behind, was_kept=was_kept, is_own=token == 0)
            self.head = position + 1

    # The edge

    def _arrived(self, generation: int, position: int, state: int, token: int, is_kept: bool) -> None:
        truth = self.truth
        if generation == self.edge_generation and position == len(truth) and truth.states[position] == state:
            truth.add(token, is_kept=is_kept)
            self.num_offered = 0
        self._begin_pass()

    def _overruled(self, generation: int, position: int, chain: list[tuple[int, bool]]) -> None:
        self.edge_generation, self.edge_head, self.num_offered = generation, position, 0
        self.truth.cut(position)
        for token, is_kept in chain:
            self.truth.add(token, is_kept=is_kept)
        self._begin_pass()

    def _begin_pass(self) -> None:
        num_fed = min(len(self.truth) - self.edge_head, self.loop.max_fed_hints)
        may_go_on = self.loop.is_driven and self.num_offered < NUM_OFFERED
        if not self.is_passing and (num_fed or may_go_on):
            self.is_passing = True
            self.num_passes += 1
            self._at(self.loop.pass_s, self._passed, self.edge_generation, num_fed)

    def _passed(self, generation: int, num_fed: int) -> None:
        self.is_passing = False
        if generation == self.edge_generation:
            start = self.edge_head
            tokens = self._judge(num_fed)
            self.edge_head += len(tokens)
            self._at(self.way_s, self._committed, generation, start, tokens)
        self._begin_pass()

    def _judge(self, num_fed: int) -> list[int]:
        truth, tokens = self.truth, list[int]()
        for position in range(self.edge_head, self.edge_head + num_fed + 1):
            is_judged = position < len(truth)
            if is_judged:
                place = self._place(position)
                stands = truth.tokens[position] == 0 or truth.kept[position] or self.rule.accepts(place)
                if stands:
                    tokens.append(truth.tokens[position])
                    continue
            if is_judged or (self.loop.is_driven and self.num_offered < NUM_OFFERED):
                truth.cut(position)
                truth.add(0, is_kept=False)
                tokens.append(0)
                self.num_offered += 1
            return tokens
        return tokens


@cache
def _places(mean: float, concentration: float) -> list[Place]:
    dice = np.random.default_rng(1)
    chance = dice.beta(mean * concentration, (1 - mean) * concentration, NUM_PLACES)
    logit = np.log(np.clip(chance, 1e-9, 1)) - np.log(np.clip(1 - chance, 1e-9, 1))

    def blurred(noise: float) -> list[float]:
        return [float(x) for x in 1 / (1 + np.exp(-(logit + dice.normal(0, noise, NUM_PLACES))))]

    columns = [
        [float(x) for x in chance],
        blurred(1.0),
        blurred(1.5),
        blurred(2.0),
        [float(x) for x in dice.beta(4, 1, NUM_PLACES)],
        [float(x) for x in dice.beta(1 + 2 * chance, 2)],
        [float(x) for x in np.clip(1 - chance + dice.normal(0, 0.1, NUM_PLACES), 0, 1)],
    ]
    return [Place(*row) for row in zip(*columns, strict=True)]


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
