"""Lists as packed bytes: token ids, flags and log-probabilities.

One msgpack bin instead of an array: fewer bytes, a length that can be checked before anything is built, and
one C call each way.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ..errors import SettingsError, WireError
from .messages import MAX_TOKENS

__all__ = ["TokenPacker", "pack_floats", "pack_marks", "unpack_floats", "unpack_marks"]

_LOWEST_LOGPROB: Final = -1e6
_HIGHEST_LOGPROB: Final = 1e-3  # above 0 only by the rounding of a log-sum-exp
_CACHED: Final = 64  # lists up to this long find their Struct ready made
_STRUCTS: Final = {letter: [struct.Struct(f"<{n}{letter}") for n in range(_CACHED + 1)] for letter in "HI"}


class TokenPacker:
    """Packs token ids of one vocabulary: 2, 3 or 4 bytes each, little-endian."""

    __slots__ = ("_letter", "_structs", "vocab_size", "width")

    def __init__(self, vocab_size: int) -> None:
        if type(vocab_size) is not int or not 1 <= vocab_size <= 1 << 32:
            raise SettingsError("vocab_size", f"must be an integer from 1 to 2^32, not {vocab_size!r}")
        self.vocab_size = vocab_size
        self.width = 2 if vocab_size <= 1 << 16 else 3 if vocab_size <= 1 << 24 else 4
        self._letter = "H" if self.width == 2 else "I"
        self._structs = _STRUCTS[self._letter]

    def pack(self, tokens: Sequence[int], where: str, limit: int = MAX_TOKENS) -> bytes:
        """The bytes of `tokens`; `where` names the field should they be refused."""
        count = len(tokens)
        if count > limit:
            raise WireError(f"{where}: must be at most {limit} tokens")
        try:
            packed = self._struct(count).pack(*tokens)
            if count and max(tokens) >= self.vocab_size:
                raise self._refusal(where)
        except struct.error:  # negative, too large for the width, or no integer
            raise self._refusal(where) from None
        return packed if self.width != 3 else _drop_fourth(packed)

    def unpack(self, data: bytes, where: str, limit: int = MAX_TOKENS, start: int = 0) -> tuple[int, ...]:
        """The tokens in `data` from byte `start` on, checked against the vocabulary."""
        count, rest = divmod(len(data) - start, self.width)
        if rest or count > limit:  # before anything is built from it
            raise WireError(f"{where}: must be at most {limit} tokens of {self.width} bytes")
        if self.width != 3:
            tokens = self._struct(count).unpack_from(data, start)
        else:
            tokens = self._struct(count).unpack(_add_fourth(data[start:]))
        if count and max(tokens) >= self.vocab_size:
            raise self._refusal(where)
        return tokens

    def _struct(self, count: int) -> struct.Struct:
        return self._structs[count] if count <= _CACHED else struct.Struct(f"<{count}{self._letter}")

    def _refusal(self, where: str) -> WireError:
        return WireError(f"{where}: must be token ids from 0 to {self.vocab_size - 1}")


def pack_marks(marks: Sequence[bool]) -> bytes:
    """One bit each, from the lowest of the first byte on. How many there are is said elsewhere."""
    packed = bytearray((len(marks) + 7) // 8)
    for index, mark in enumerate(marks):
        if mark:
            packed[index // 8] |= 1 << index % 8
    return bytes(packed)


def unpack_marks(data: bytes, count: int, where: str) -> tuple[bool, ...]:
    """The first `count` bits. Those beyond must be 0, so that marks have one spelling."""
    if len(data) != (count + 7) // 8:
        raise WireError(f"{where}: must have one flag for each token")
    if count % 8 and data[-1] >> count % 8:
        raise WireError(f"{where}: must have zeros after the last flag")
    return tuple(bool(data[index // 8] >> index % 8 & 1) for index in range(count))


def pack_floats(values: Sequence[float], where: str) -> bytes:
    """Log-probabilities as little-endian float32."""
    if len(values) > MAX_TOKENS or not _are_logprobs(values):
        raise _logprob_refusal(where)
    return struct.pack(f"<{len(values)}f", *values)


def unpack_floats(data: bytes, where: str) -> tuple[float, ...]:
    """The log-probabilities in `data`."""
    count, rest = divmod(len(data), 4)
    if rest or count > MAX_TOKENS:
        raise _logprob_refusal(where)
    values: tuple[float, ...] = struct.unpack(f"<{count}f", data)
    if not _are_logprobs(values):
        raise _logprob_refusal(where)
    return values


def _are_logprobs(values: Sequence[float]) -> bool:
    # Both borders as float32 will have them; NaN fails every comparison.
    return all(_LOWEST_LOGPROB <= value < _HIGHEST_LOGPROB for value in values)


def _logprob_refusal(where: str) -> WireError:
    return WireError(f"{where}: must be float32 numbers from {_LOWEST_LOGPROB:g} to {_HIGHEST_LOGPROB:g}")


def _drop_fourth(packed: bytes) -> bytes:
    lanes = bytearray(packed)
    del lanes[3::4]
    return bytes(lanes)


def _add_fourth(data: bytes) -> bytearray:
    lanes = bytearray(len(data) // 3 * 4)
    for lane in range(3):
        lanes[lane::4] = data[lane::3]
    return lanes
