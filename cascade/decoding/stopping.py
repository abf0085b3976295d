"""Where a text ends: at its first end-of-sequence token, or at its length limit.

Stop *strings* need text: the device finds them and closes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Literal

__all__ = ["Finish", "cut"]

Finish = Literal["stop", "length"]
"""Why a text ended: an end-of-sequence token, or the limit."""


def cut(
    tokens: Sequence[int], *, position: int, stop_ids: Container[int], limit: int
) -> tuple[Sequence[int], Finish | None]:
    """What remains of an agreed run that begins at `position`, and why the text ends (None: it goes on).

    The first end-of-sequence token is part of the text. `limit` is an absolute length: the smaller of prompt
    length plus wanted tokens and the model's context length. An end-of-sequence token in the last place
    counts as "stop". A text that is already at its limit keeps nothing.
    """
    room = limit - position
    if room <= 0:
        return tokens[:0], "length"
    for i, token in enumerate(tokens):
        if token in stop_ids:
            return (tokens[: i + 1], "stop") if i < room else (tokens[:room], "length")
    if len(tokens) >= room:
        return tokens[:room], "length"
    return tokens, None
