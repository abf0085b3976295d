"""What a pass decides where the device has decided some of it already: pure maths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Decided", "decide"]


@dataclass(frozen=True, slots=True)
class Decided:
    """What one pass adds to a text."""

    tokens: list[int]
    num_hinted: int
    """The device had them all the same: kept tokens, and guesses that were confirmed."""
    is_own: list[bool]
    """Which of the tokens are our own pick."""


def decide(
    chain: Sequence[int], is_kept: Sequence[bool], picks: Sequence[int], *, goes_on: bool = True
) -> Decided:
    """Row i judges token i of the chain; a row behind the chain's end is a token of our own, if it `goes_on`.

    A kept token stands, and our pick is the verdict on it. A guess stands if it is our pick; if not, our pick
    takes its place, and the rest of the chain is dead.
    """
    tokens: list[int] = []
    is_own: list[bool] = []
    for index, pick in enumerate(picks):
        if index == len(chain):
            if goes_on:
                tokens.append(pick)
                is_own.append(True)
            return Decided(tokens, index, is_own)
        token = chain[index]
        if token != pick and not is_kept[index]:
            tokens.append(pick)
            is_own.append(True)
            return Decided(tokens, index, is_own)
        tokens.append(token)
        is_own.append(token == pick)
    return Decided(tokens, len(tokens), is_own)
