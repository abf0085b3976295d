"""The rolling hash of a prefix: 32 bits of state, of which a HINT carries 16.

Both sides keep the state after every position in a list, so the hash of any prefix is one look-up and a
rollback is a truncation. It tells chains apart that differ by accident; it is no protection against a
device that lies, which can only make its own hints useless.

`docs/wire.md` has the same in C, and test vectors.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HASH_START", "extend", "fold"]

HASH_START: Final = 0x43415343
"""The state before the first token."""


def extend(state: int, token: int) -> int:
    """The state after one more token: multiply, shift, multiply, add, in unsigned 32-bit arithmetic.

    For a given token no two states lead to the same one, and for a given state no two tokens do.
    """
    mixed = (state ^ token) * 0x9E3779B1 & 0xFFFFFFFF
    # The constant keeps token 0 from having a state that it never leaves.
    return (mixed ^ mixed >> 15) * 0x85EBCA77 + 0x7ED55D16 & 0xFFFFFFFF


def fold(state: int) -> int:
    """The 16 bits that go over the wire: the upper ones, which a multiplication mixes best."""
    return state >> 16
