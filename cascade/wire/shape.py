"""Looks over the bytes of a message before anything is built from them.

A message is one flat msgpack array of at most `MAX_FIELDS` nils, booleans, numbers, strings and byte strings.
Checking that here, in one short pass over the headers, bounds the memory a hostile message can claim: msgpack
would otherwise build a megabyte of nested one-element arrays, at 64 bytes apiece.
"""

from __future__ import annotations

from typing import Final

from ..errors import WireError

__all__ = ["MAX_FIELDS", "check_shape"]

MAX_FIELDS: Final = 32

_ARRAY16: Final = 0xDC


def _total_size(header: int) -> int:
    """Bytes of the field that starts with `header`; 0 where a length follows; -1 where it is forbidden."""
    if header <= 0x7F or header >= 0xE0 or header in (0xC0, 0xC2, 0xC3):  # fixint, nil, false, true
        return 1
    if 0xA0 <= header <= 0xBF:  # fixstr
        return 1 + (header & 0x1F)
    if 0xC4 <= header <= 0xC6 or 0xD9 <= header <= 0xDB:  # bin, str with a length of 1, 2 or 4 bytes
        return 0
    # float32, float64, then unsigned and signed integers of 1, 2, 4 and 8 bytes
    sizes = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    return sizes.get(header, -1)  # arrays, maps, extensions


_TOTAL_SIZE: Final = tuple(_total_size(header) for header in range(256))
_LENGTH_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}


def first_field(data: bytes) -> int:
    """Where the first field starts; refuses what is no array."""
    if not data:
        raise WireError("empty: no message has no bytes")
    if data[0] & 0xF0 == 0x90:
        return 1
    if data[0] == _ARRAY16:
        return 3
    raise WireError("not a message: the first byte is no header of a short array")


def check_shape(data: bytes, start: int, name: str) -> None:
    """Refuse `data` unless it is exactly one flat array of plain fields."""
    count = data[0] & 0x0F if start == 1 else int.from_bytes(data[1:3], "big")
    if count > MAX_FIELDS:
        raise WireError(f"{name}: more than {MAX_FIELDS} fields")
    at = start
    try:
        for _ in range(count):
            header = data[at]
            size = _TOTAL_SIZE[header]
            if size > 0:
                at += size
            elif size == 0:
                begin = at + 1
                end = begin + _LENGTH_BYTES[header]
                at = end + int.from_bytes(data[begin:end], "big")
            else:
                raise WireError(f"{name}: a field is an array, a map or an extension")
    except IndexError:
        raise WireError(f"{name}: cut short") from None
    if at != len(data):
        raise WireError(f"{name}: cut short" if at > len(data) else f"{name}: bytes after the end")
