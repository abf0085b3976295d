"""Where the end of a text stood before: an index over its tokens that grows and is rolled back cheaply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Repeat", "RepeatIndex"]

ORDERS = (8, 4, 2, 1)
"""How many last tokens are looked up, longest first. Long ones find the right place among many that look
alike (the same key in every record of a log), short ones find a place at all."""
MAX_PLACES = 8
"""Places compared for one order, latest first: a blank line has hundreds, and the work must be bounded."""
MAX_LENGTH = 48
"""Longer matches than this promise no more."""
BYTES_PER_TOKEN = 300
"""Two lists, and a chain and a table entry for each order: what CPython takes, measured."""

_BASE = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_POWERS = tuple(pow(_BASE, order, 1 << 64) for order in ORDERS)


class Repeat(NamedTuple):
    """The last `length` tokens stood here before, and `token` came next."""

    length: int
    token: int
    num_places: int
    """Places looked at, this one included, after which `token` came; 0 if after one of them it did not."""


class RepeatIndex:
    """A text, and for its last n tokens the earlier places of the same n tokens.

    As in LZ77: a table leads from the hash of n tokens to the last place where they ended, a chain from each
    place to the one before it. Extending costs a few look-ups a token. Truncating costs the same for each
    token dropped, and the index is then what it would be had these tokens never come.
    """

    __slots__ = ("_chains", "_heads", "_sums", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        """Not to be changed from outside."""
        self._sums = [0]
        """Polynomial hashes of all prefixes: the hash of any stretch is a difference of two."""
        self._heads: tuple[dict[int, int], ...] = tuple({} for _ in ORDERS)
        """Hash of n tokens -> where they ended last; a place is the number of tokens up to it."""
        self._chains: tuple[list[int], ...] = tuple([0] for _ in ORDERS)
        """Place -> the place before it with the same hash; 0 for none."""

    def __len__(self) -> int:
        return len(self.tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        sums = self._sums
        for token in tokens:
            self.tokens.append(token)
            sums.append((sums[-1] * _BASE + token + 1) & _MASK)
            end = len(self.tokens)
            for number, order in enumerate(ORDERS):
                chain = self._chains[number]
                if end < order:
                    chain.append(0)
                else:
                    key, heads = self._key(number, end), self._heads[number]
                    chain.append(heads.get(key, 0))
                    heads[key] = end

    def truncate(self, length: int) -> None:
        for end in range(len(self.tokens), length, -1):
            for number, order in enumerate(ORDERS):
                before = self._chains[number].pop()
                if before:
                    self._heads[number][self._key(number, end)] = before
                elif end >= order:
                    del self._heads[number][self._key(number, end)]
        del self.tokens[length:]
        del self._sums[length + 1 :]

    def copy(self) -> RepeatIndex:
        twin = RepeatIndex()
        twin.tokens = self.tokens.copy()
        twin._sums = self._sums.copy()
        twin._heads = tuple(heads.copy() for heads in self._heads)
        twin._chains = tuple(chain.copy() for chain in self._chains)
        return twin

    def longest(self) -> Repeat | None:
        """The longest match of the text's end that the places looked at offer; of equals the latest."""
        tokens, end = self.tokens, len(self.tokens)
        for number, order in enumerate(ORDERS):
            chain = self._chains[number]
            found = num_places = length = 0
            is_split = False
            place = chain[end]
            for _ in range(MAX_PLACES):
                if not place:
                    break
                shared = self._shared(place)
                if shared >= order:  # hashes collide: a place counts by what it holds
                    num_places += 1
                    is_split |= found > 0 and tokens[place] != tokens[found]
                    if shared > length:
                        length, found = shared, place
                place = chain[place]
            if found:
                return Repeat(length, tokens[found], 0 if is_split else num_places)
        return None

    def _key(self, number: int, end: int) -> int:
        """The hash of the tokens that end at `end`."""
        return (self._sums[end] - self._sums[end - ORDERS[number]] * _POWERS[number]) & _MASK

    def _shared(self, place: int) -> int:
        """How many tokens before `place` are those before the text's end."""
        tokens = self.tokens
        gap = len(tokens) - place
        length = 0
        for at in range(place - 1, max(-1, place - 1 - MAX_LENGTH), -1):
            if tokens[at] != tokens[at + gap]:
                break
            length += 1
        return length
