"""Which replica a text goes to: where its beginning is, else where least is to do. Pure decisions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from ...wire.text import HashedText

__all__ = ["Beginnings", "choose", "moves", "slack"]

MIN_BEGINNING = 16
"""Tokens. A shorter one is not worth a way."""
MAX_OWNERS = 4096
MAX_NOTED_PER_OWNER = 256

Home = TypeVar("Home", bound=Hashable)


def slack(loads: Sequence[int]) -> int:
    """By how many texts a replica may be ahead of another before it counts as overloaded."""
    return max(2, sum(loads) // (4 * len(loads)))


def choose(loads: Mapping[Home, int], held: Home | None) -> Home:
    """Among replicas with so many texts each, the first of equals: the one that holds the text's beginning,
    unless it is overloaded; else the least loaded."""
    least = min(loads, key=loads.__getitem__)
    if held is None or held not in loads:
        return least
    is_overloaded = loads[held] >= loads[least] + slack(list(loads.values()))
    return least if is_overloaded else held


def moves(loads: Mapping[Home, int]) -> list[tuple[Home, Home]]:
    """Texts to be moved, (from, to) each, where a replica is overloaded. Then all are made even, so that it
    does not begin again with the next text."""
    now = dict(loads)
    found: list[tuple[Home, Home]] = []
    if len(now) < 2 or max(now.values()) - min(now.values()) <= slack(list(now.values())):
        return found
    while True:
        most, least = max(now, key=now.__getitem__), min(now, key=now.__getitem__)
        if now[most] - now[least] <= 1:
            return found
        now[most] -= 1
        now[least] += 1
        found.append((most, least))


class Beginnings(Generic[Home]):
    """Where the texts of each owner were decoded, by their beginnings.

    Noted are the lengths 16, 32, 64, ... and a text's own ends: the next turn of a chat begins with all of
    the last one. Owners are told apart as in the caches themselves; the least recently noted are forgotten.
    """

    def __init__(self) -> None:
        self._noted: OrderedDict[str, OrderedDict[tuple[int, int], Home]] = OrderedDict()

    def note(self, owner: str, text: HashedText, home: Home) -> None:
        noted = self._noted.setdefault(owner, OrderedDict())
        self._noted.move_to_end(owner)
        for length in _lengths(len(text)):
            key = length, text.state_before(length)
            noted[key] = home
            noted.move_to_end(key)
        while len(noted) > MAX_NOTED_PER_OWNER:
            noted.popitem(last=False)
        while len(self._noted) > MAX_OWNERS:
            self._noted.popitem(last=False)

    def find(self, owner: str, text: HashedText) -> Home | None:
        """The home of the longest beginning that is known."""
        best, home = 0, None
        for (length, state), where in self._noted.get(owner, {}).items():
            if best < length <= len(text) and text.state_before(length) == state:
                best, home = length, where
        return home

    def forget(self, home: Home) -> None:
        """It is gone, and all that it held."""
        for noted in self._noted.values():
            for key in [key for key, where in noted.items() if where == home]:
                del noted[key]


def _lengths(length: int) -> Iterator[int]:
    each = MIN_BEGINNING
    while each < length:
        yield each
        each *= 2
    if length >= MIN_BEGINNING:
        yield length
