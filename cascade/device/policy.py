"""How a stream is decoded: what the device guesses, when it says so, and how long the edge waits for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..prices import Objective, Prices
from ..settings import check_int, check_number
from .planning import Circumstances

__all__ = ["Policy", "Rule"]

MAX_WINDOW = 256
FOREVER_S = 3600.0
"""Patience of a session that the edge is never to drive alone."""

Rule: TypeAlias = "Callable[[Circumstances], Policy]"
"""A policy in code: what was measured goes in, how to go on comes out. Called in the event loop, so quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Use one of the constructors; the fields are theirs."""

    window: int
    """Tokens drafted beyond the last commit known, at most. 0: no drafting."""
    patience_s: float
    """How long the edge waits for hints before it drives alone."""
    waits_for_verdict: bool = False
    """Draft `window` tokens, ask, and stand still until the verdict: the classic scheme, as a baseline."""
    min_chance: float = 0.0
    """Drafting stops where the chance that a token will be used falls below this: it costs energy."""

    min_sent_chance: float = 0.0
    """A guess less likely than this to be used is kept back: its bytes are not worth it yet."""
    min_hope: float = 0.0
    """A message of hints waits until it carries this many tokens that are expected to be used."""
    num_gathered: int = 1
    """Guesses that go up together when the edge stands waiting for the first."""
    prices: Prices | None = None
    """Everything else follows the circumstances, so that it costs least at these. None: nothing does."""
    rule: Rule | None = None
    """Asked again and again how to go on, instead of ours."""

    def __post_init__(self) -> None:
        check_number("min_sent_chance", self.min_sent_chance, low=0, high=1)
        check_number("min_hope", self.min_hope, low=0)
        check_int("window", self.window, low=0, high=4096)
        check_int("num_gathered", self.num_gathered, low=1)
        check_number("patience_s", self.patience_s, low=0)
        check_number("min_chance", self.min_chance, low=0, high=1)

    @classmethod
    def cloud(cls) -> Policy:
        """Plain streaming: the edge alone, token by token."""
        return cls(window=0, patience_s=0)

    @classmethod
    def ask_and_wait(cls, num_tokens: int) -> Policy:
        """Send `num_tokens` guesses, wait for the verdict, guess again."""
        check_int("num_tokens", num_tokens, low=1)
        return cls(window=num_tokens, patience_s=FOREVER_S, waits_for_verdict=True)

    @classmethod
    def adaptive(cls, objective: Objective | Prices = Objective.LATENCY) -> Policy:
        """Draft ahead as far as it pays, given this link, this load and this draft; what an app wants."""
        prices = objective.prices if isinstance(objective, Objective) else objective
        first = cls.hint_driven()
        return dataclasses.replace(first, window=MAX_WINDOW, prices=prices)

    @classmethod
    def by(cls, rule: Rule) -> Policy:
        """Decide yourself: every few commits `rule` is given what was measured, and what it returns holds.

        It returns what `hint_driven` or `cloud` make. Until something is measured, it is as `hint_driven()`.
        """
        return dataclasses.replace(cls.hint_driven(), rule=rule)

    @classmethod
    def hint_driven(cls, *, patience_s: float = 0.0, window: int = 64) -> Policy:
        """Draft ahead and stream hints; nobody waits by rule.

        Without patience speed is the aim, and even a long shot is worth two bytes. Who is patient saves
        the edge's passes and the link's bytes, so only likely guesses travel, in fewer messages.
        """
        check_int("window", window, low=1)
        if patience_s == 0:
            return cls(window=window, patience_s=0, min_chance=0.03, min_sent_chance=0.03, min_hope=0.25)
        return cls(window=window, patience_s=patience_s, min_chance=0.05, min_sent_chance=0.07, min_hope=0.6)
