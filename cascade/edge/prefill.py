"""Who is prefilled in a pass, and how far: pure decisions over plain numbers.

A long prompt is fed in chunks, so that nobody's next token waits longer than for a step and a chunk. A
chunk is shared among all texts that lack tokens: a short prompt does not stand in line behind a long one.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["share_rows"]


def share_rows(wanted: Sequence[int], num_rows: int) -> list[int]:
    """Share rows so that the one who gets least gets as much as can be (max-min fairness).

    Nobody gets more than wanted, nothing wanted is left over while rows are, and what cannot be divided
    goes to those who stand first.
    """
    shares = [0] * len(wanted)
    by_size = sorted(range(len(wanted)), key=lambda index: (wanted[index], -index))
    for num_served, index in enumerate(by_size):
        num_left = len(by_size) - num_served
        shares[index] = min(wanted[index], num_rows // num_left)
        num_rows -= shares[index]
    return shares
