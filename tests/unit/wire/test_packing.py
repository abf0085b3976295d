"""Lists as packed bytes, at their borders."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import WireError
from cascade.wire.packing import (
    TokenPacker,
    pack_floats,
    pack_marks,
    unpack_floats,
    unpack_marks,
)

from .wire_samples import examples

WIDTHS = [
    (1, 2),
    (300, 2),
    ((1 << 16) - 1, 2),
    (1 << 16, 2),
    ((1 << 16) + 1, 3),
    (1 << 24, 3),
    ((1 << 24) + 1, 4),
    (1 << 32, 4),
]


@pytest.mark.parametrize(("vocab_size", "width"), WIDTHS)
def test_width_follows_the_vocabulary(vocab_size: int, width: int) -> None:
    packer = TokenPacker(vocab_size)
    assert packer.width == width
    tokens = (0, vocab_size - 1, min(0x123456, vocab_size - 1), 0)
    packed = packer.pack(tokens, "x")
    assert packed == b"".join(token.to_bytes(width, "little") for token in tokens)
    assert packer.unpack(packed, "x") == tokens


@pytest.mark.parametrize(("vocab_size", "width"), WIDTHS)
def test_ids_beyond_the_vocabulary_are_refused_both_ways(vocab_size: int, width: int) -> None:
    packer = TokenPacker(vocab_size)
    for wrong in (vocab_size, vocab_size + 1, 1 << 40, -1):
        with pytest.raises(WireError, match=f"^x: must be token ids from 0 to {vocab_size - 1}$"):
            packer.pack((0, wrong), "x")
    for wrong in {vocab_size, (1 << 8 * width) - 1} - {vocab_size - 1, 1 << 8 * width}:
        with pytest.raises(WireError, match=r"^x: must be token ids"):
            packer.unpack(wrong.to_bytes(width, "little") + bytes(width), "x")


@pytest.mark.parametrize(("vocab_size", "width"), WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_any_number_of_tokens(vocab_size: int, width: int, count: int) -> None:
    packer = TokenPacker(vocab_size)
    tokens = tuple(index % vocab_size for index in range(count))
    packed = packer.pack(tokens, "x")
    assert len(packed) == width * count
    assert packer.unpack(packed, "x") == tokens
    assert packer.unpack(b"\xff\xff" + packed, "x", limit=count, start=2) == tokens
    assert packer.pack(list(tokens), "x", limit=count) == packed
    if count:
        with pytest.raises(WireError, match="at most"):
            packer.pack(tokens, "x", limit=count - 1)
        with pytest.raises(WireError, match="at most"):
            packer.unpack(packed, "x", limit=count - 1)
        with pytest.raises(WireError, match=f"tokens of {width} bytes"):
            packer.unpack(packed[:-1], "x")


@examples(100)
@given(st.lists(st.booleans(), max_size=70).map(tuple))
def test_marks(marks: tuple[bool, ...]) -> None:
    packed = pack_marks(marks)
    assert len(packed) == (len(marks) + 7) // 8
    assert unpack_marks(packed, len(marks), "x") == marks


def test_marks_have_one_spelling() -> None:
    assert pack_marks((True, False, True)) == b"\x05"
    for wrong, count in ((b"", 3), (b"\x0d", 3), (b"\x05\x00", 3), (b"\x00", 0), (b"\x05", 9)):
        with pytest.raises(WireError, match=r"^x: "):
            unpack_marks(wrong, count, "x")


@examples(100)
@given(st.lists(st.floats(-1e6, 0, width=32), max_size=20).map(tuple))
def test_floats(values: tuple[float, ...]) -> None:
    assert unpack_floats(pack_floats(values, "x"), "x") == values


def test_floats_lose_no_more_than_float32_does() -> None:
    values = (-0.1, -1e6, -1 / 3, 1e-4, -1e-30)
    once = unpack_floats(pack_floats(values, "x"), "x")
    assert once == pytest.approx(values, rel=1e-6)
    assert unpack_floats(pack_floats(once, "x"), "x") == once


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 0.01])
def test_floats_are_finite_and_sensible(wrong: float) -> None:
    with pytest.raises(WireError, match=r"^x: "):
        unpack_floats(struct.pack("<2f", -1.0, wrong), "x")
    with pytest.raises(WireError, match=r"^x: "):
        pack_floats((-1.0, wrong), "x")
    with pytest.raises(WireError, match=r"^x: "):
        unpack_floats(b"\0\0\0", "x")
