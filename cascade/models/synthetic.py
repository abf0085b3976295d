"""A seeded toy language model pair, for speed, scale and proof.

The target computes its logits from a rolling hash of *what its cache really holds*, so a cache that was
not rolled back after a rejection gives other tokens, and a test sees it. The draft agrees with the
target at a chosen rate, at every temperature: the target's logits live on one half of the vocabulary
(which half, the text decides), and a draft that is to disagree puts its own on the other half. All rows
of logits are drawn beforehand, so a step costs a hash and a look-up: whole laboratories run on this pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ContextExceeded
from ..settings import check_int, check_number
from .base import Feed, Promise
from .hashed import HashedSequence

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BetaAgreement", "SyntheticDraft", "SyntheticTarget"]

_MASK64 = (1 << 64) - 1
_NEVER = np.float32(-1e4)
"""The logit of a token on the wrong half: no temperature in use brings it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaAgreement:
    """Chances of agreement that vary from token to token, drawn from Beta(mean * c, (1 - mean) * c)."""

    mean: float
    concentration: float
    sharpness: float = 1.0
    """The draft promises these chances, their logits times this: 1 is honest, more is too sure of itself."""

    def __post_init__(self) -> None:
        check_number("sharpness", self.sharpness, low=0)
        check_number("mean", self.mean, low=1e-6, high=1 - 1e-6)
        check_number("concentration", self.concentration, low=1e-3)


class SyntheticTarget:
    """A language model that is a hash function."""

    def __init__(
        self,
        *,
        seed: int = 0,
        vocab_size: int = 64,
        context_length: int = 1 << 20,
        eos_ids: frozenset[int] = frozenset(),
    ) -> None:
        check_int("vocab_size", vocab_size, low=4)
        check_int("context_length", context_length, low=1)
        self.seed = seed
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.eos_ids = eos_ids
        self.vocab_fingerprint = hashlib.sha256(b"synthetic %d" % vocab_size).hexdigest()[:16]
        self.numerics = f"synthetic-{seed}-{vocab_size}"
        self._start = _mix64(seed * 2 + 1)
        self._bank = self._make_bank(np.random.default_rng(seed))

    def new_sequence(self) -> HashedSequence:
        return HashedSequence([self._start])

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        num_rows = len(self._bank) // 2
        return _take(self._bank, [state % num_rows for state in self._extend(feeds)])

    def _make_bank(self, dice: np.random.Generator) -> NDArray[np.float32]:
        """Rows of logits, of which the hash of the text picks one; then the same on the wrong halves."""
        num_rows = max(64, min(4096, (1 << 19) // self.vocab_size))
        logits = dice.uniform(0, 8, (num_rows, self.vocab_size)).astype(
            np.float32
        )  # peaked, as real ones are
        is_even = np.arange(self.vocab_size) % 2 == 0
        takes_even = dice.random(num_rows) < 0.5
        is_right = is_even == takes_even[:, None]
        return np.concatenate([np.where(is_right, logits, _NEVER), np.where(is_right, _NEVER, logits)])

    def _extend(self, feeds: Sequence[Feed]) -> list[int]:
        wanted: list[int] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, HashedSequence)
            states = sequence.states
            if len(states) - 1 + len(feed.tokens) > self.context_length:
                raise ContextExceeded(len(states) - 1 + len(feed.tokens), self.context_length)
            state = states[-1]
            for token in feed.tokens:
                state = _mix64(state + token + 1)
                states.append(state)
            if feed.num_logits:
                wanted += states[-feed.num_logits :]
        return wanted


class SyntheticDraft:
    """A draft that agrees with a synthetic target at a chosen rate, or with chances drawn from a Beta.

    With chances that differ it says for each guess how sure it is; a draft of one rate says nothing.

    `rotation` turns all its dice by a part of a full turn. Runs whose rotations are spread evenly are each
    as random as any, and together they agree at the chosen rate almost exactly: their mean settles with
    far fewer tokens than that of runs with seeds of their own.
    """

    def __init__(
        self,
        target: SyntheticTarget,
        *,
        agreement: float | BetaAgreement,
        seed: int = 1,
        rotation: float = 0.0,
    ) -> None:
        check_number("rotation", rotation, low=0, high=1)
        if not isinstance(agreement, BetaAgreement):
            check_number("agreement", agreement, low=0, high=1)
        self._target = target
        self._agreement = agreement
        self._salt = _mix64(seed * 2 + 12345)
        self._rotation = int(rotation * 2**64)
        self.vocab_size = target.vocab_size
        self.context_length = target.context_length
        self.eos_ids = target.eos_ids
        self.vocab_fingerprint = target.vocab_fingerprint
        self.numerics = f"{target.numerics}-draft-{seed}"
        if isinstance(agreement, BetaAgreement):
            draws = np.random.default_rng(seed).beta(
                agreement.mean * agreement.concentration,
                (1 - agreement.mean) * agreement.concentration,
                size=1 << 16,
            )
            self._chances: list[float] | None = [float(chance) for chance in draws]
        else:
            self._chances = None

    def new_sequence(self) -> HashedSequence:
        return self._target.new_sequence()

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        bank = self._target._bank
        num_rows = len(bank) // 2
        rows = [
            state % num_rows + (0 if self.agrees(state) else num_rows)
            for state in self._target._extend(feeds)
        ]
        for feed in feeds:
            assert isinstance(feed.sequence, HashedSequence)
            feed.sequence.promise = self._promise(feed.sequence.states[-1])
        return _take(bank, rows)

    def agrees(self, state: int) -> bool:
        """Does it pick what the target picks after this cache state?"""
        return self._coin(state) < self.chance(state)

    def _promise(self, state: int) -> Promise:
        if not isinstance(self._agreement, BetaAgreement):
            return None
        chance, sharpness = self.chance(state), self._agreement.sharpness
        kept, broken = chance**sharpness, (1 - chance) ** sharpness
        return kept / (kept + broken) if kept + broken else 0.5

    def chance(self, state: int) -> float:
        """The chance that draft and target agree after this cache state."""
        if self._chances is None:
            assert isinstance(self._agreement, float | int)
            return self._agreement
        return self._chances[_mix64(state ^ self._salt) & 0xFFFF]

    def _coin(self, state: int) -> float:
        return ((_mix64(state + self._salt) + self._rotation) & _MASK64) / 2.0**64


def _take(bank: NDArray[np.float32], rows: list[int]) -> NDArray[np.float32]:
    if len(rows) == 1:  # a view: what drafting does all day
        return bank[rows[0] : rows[0] + 1]
    return bank[rows]


def _mix64(value: int) -> int:
    """The finaliser of splitmix64."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)
