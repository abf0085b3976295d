"""Kinds of fields: which values a field may hold, on the way out and on the way in.

A kind looks at the value msgpack sees (tokens as packed bytes, enums as integers), so one check serves
both directions: what is encoded can be decoded. No reason repeats the value: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["U8", "U16", "U32", "U64", "Kind", "blob", "number", "optional", "text", "whole"]

U8: Final = (1 << 8) - 1
U16: Final = (1 << 16) - 1
U32: Final = (1 << 32) - 1
U64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A test for values and, for people, what passes it."""

    accepts: Callable[[Any], bool]
    says: str


def whole(low: int, high: int) -> Kind:
    """An integer in [low, high]; a boolean is none."""
    # `type(...) is int` and not isinstance: bool is a subclass of int.
    return Kind(lambda value: type(value) is int and low <= value <= high, f"integer from {low} to {high}")


def number(low: float, high: float) -> Kind:
    """A float or integer in [low, high]; NaN and infinities fail the comparison."""
    return Kind(
        lambda value: type(value) in (float, int) and low <= value <= high, f"number from {low:g} to {high:g}"
    )


def text(high: int) -> Kind:
    """A string of at most `high` bytes of UTF-8."""

    def accepts(value: Any) -> bool:
        if type(value) is not str or len(value) > high:
            return False
        try:
            return value.isascii() or len(value.encode()) <= high
        except UnicodeEncodeError:  # a lone surrogate
            return False

    return Kind(accepts, f"text of at most {high} bytes")


def blob(low: int, high: int | None, says: str) -> Kind:
    """Bytes, `low` to `high` of them; without `high` their owner checks the length."""
    if high is None:
        return Kind(lambda value: type(value) is bytes, says)
    return Kind(lambda value: type(value) is bytes and low <= len(value) <= high, says)


def optional(kind: Kind) -> Kind:
    """The same, or nil."""
    accepts = kind.accepts
    return Kind(lambda value: value is None or accepts(value), f"{kind.says}, or nil")
