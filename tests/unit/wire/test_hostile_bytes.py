"""Any bytes give a message or a WireError, in little memory."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade.wire.codec
from cascade.errors import WireError
from cascade.wire import Codec, Commit, Hint, Message, Open, Ping

from .wire_samples import SAMPLES, VOCAB_SIZE, examples

CODEC = Codec(VOCAB_SIZE)
TERSE = (
    Hint(alias=3, generation=2, position=412, prefix_hash=0xB3C1, tokens=(318,), known=412),
    Hint(alias=3, generation=2, position=412, prefix_hash=0, tokens=(), known=405),
    Commit(alias=3, generation=2, position=412, tokens=(318, 257, 90), num_hinted=2),
    Commit(alias=3, generation=2, position=412, tokens=(318, 257), num_hinted=2),
)
CORPUS = tuple(CODEC.encode(message) for message in (*SAMPLES, *TERSE))

HEADERS = (
    *(bytes([first]) for first in (0x80, 0x8F, 0x90, 0x91, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xE0)),
    *(bytes([first]) for first in range(0xC4, 0xE0)),
    *(bytes([first]) + b"\xff\xff\xff\xff" for first in (0xC6, 0xC9, 0xDB, 0xDD, 0xDF)),
    *(bytes([first]) + b"\xff\xff" for first in (0xC5, 0xC8, 0xDA, 0xDC, 0xDE)),
    b"\xcf" + b"\xff" * 8,
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xd6\xff\0\0\0\0",  # a timestamp
    b"\x91" * 40,
    b"\x81" * 40,
)


def outcome(data: bytes, codec: Codec = CODEC) -> Message | None:
    """The message, or None for a WireError; what was understood can be said again."""
    try:
        message = codec.decode(data)
    except WireError:
        return None
    assert codec.decode(codec.encode(message)) == message
    return message


@examples(1000)
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    outcome(data)


@examples(1000)
@given(st.sampled_from(range(0x90, 0xA0)), st.integers(0, 12), st.binary(max_size=60))
def test_random_bytes_behind_a_good_beginning(header: int, number: int, rest: bytes) -> None:
    outcome(bytes([header, number]) + rest)


def anything(rng: random.Random, depth: int = 0) -> Any:
    """Some value msgpack knows, often one that has the type or the size a field wants."""
    match rng.randrange(11 if depth < 4 else 9):
        case 0:
            return rng.choice((None, True, False))
        case 1 | 2:
            return rng.randrange(300)
        case 3:
            return rng.choice((-1, 1 << 16, 1 << 32, (1 << 64) - 1, -(1 << 63), -(1 << 31)))
        case 4:
            return rng.choice((0.5, -0.5, math.nan, math.inf, -math.inf, 1e300, 1.0))
        case 5:
            return rng.choice(("", "abc", "ä" * rng.randrange(600)))
        case 6 | 7:
            return rng.randbytes(rng.choice((0, 1, 2, 3, 4, 8, 40, 600)))
        case 8:
            return msgpack.ExtType(rng.randrange(128), rng.randbytes(rng.randrange(9)))
        case 9:
            return [anything(rng, depth + 1) for _ in range(rng.randrange(5))]
        case _:
            return {rng.randrange(9): anything(rng, depth + 1) for _ in range(rng.randrange(3))}


def test_well_formed_msgpack_of_the_wrong_kind() -> None:
    rng = random.Random(4)
    for _ in range(6000):
        outcome(msgpack.packb([rng.randrange(13), *(anything(rng) for _ in range(rng.randrange(35)))]))


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Valid messages with a few things wrong."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(rng.choice(CORPUS))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(7):
                case 0 if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
                case 1 if at < len(data):
                    data[at] = rng.randrange(256)
                case 2:
                    del data[at:]
                case 3:  # splice
                    other = rng.choice(CORPUS)
                    data[at:] = other[rng.randrange(len(other)) :]
                case 4:
                    data[at:at] = rng.choice(HEADERS)
                case 5:
                    data[at : at + rng.randrange(6)] = rng.choice(HEADERS)
                case 6:
                    data[at:at] = rng.randbytes(rng.randrange(5))
        yield bytes(data)


def test_mutated_messages() -> None:
    understood = sum(outcome(data) is not None for data in mutations(1, 12_000))
    assert 500 < understood < 6_000, "the mutations are too gentle or too rough to test anything"


def test_every_truncation_and_every_flipped_bit() -> None:
    for data in CORPUS:
        for end in range(len(data)):
            assert outcome(data[:end]) is None
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            outcome(bytes(flipped))
        assert outcome(data + b"\xc0") is None
        for header in HEADERS:
            for at in range(len(data)):
                outcome(data[:at] + header + data[at + 1 :])


def test_short_and_long_messages_are_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short messages skip a look at their shape; that must change no verdict."""
    tried = list(mutations(2, 6_000))
    extras: list[list[Any]] = [[[]], [{}], [[1]], [{1: 2}], [msgpack.ExtType(1, b"")]]
    nested = [msgpack.packb([9, 5, *extra]) for extra in extras]
    short = [outcome(data) for data in (*tried, *nested)]
    monkeypatch.setattr(cascade.wire.codec, "_SHORT", -1)
    assert [outcome(data) for data in (*tried, *nested)] == short
    assert short[-len(nested) :] == [None] * len(nested)


MEGABYTE = 1 << 20


def tree(depth: int) -> bytes:
    return b"\x9f" + tree(depth - 1) * 15 if depth else b"\xc0"


HOSTILE = {
    "array32 of 2^32-1": b"\xdd\xff\xff\xff\xff",
    "array16 of 2^16-1": b"\xdc\xff\xff\x09" + bytes(MEGABYTE - 4),
    "bin32 of 2^32-1": b"\x92\x09\xc6\xff\xff\xff\xff",
    "str32 of 2^32-1": b"\x92\x09\xdb\xff\xff\xff\xff",
    "inner array32 of 2^32-1": b"\x92\x09\xdd\xff\xff\xff\xff",
    "map32 of 2^32-1": b"\x92\x09\xdf\xff\xff\xff\xff",
    "ext32 of 2^32-1": b"\x92\x09\xc9\xff\xff\xff\xff\x01",
    "tokens of 2^32-1": b"\x95\x04\x03\x02\x05\xc6\xff\xff\xff\xff" + bytes(1000),
    "deep": b"\x92\x09" + b"\x91" * (MEGABYTE - 2),
    "deep maps": b"\x92\x09" + b"\x81\x01" * (MEGABYTE // 2 - 1),
    "deep where a new field may be": b"\x93\x09\x05" + b"\x91" * (MEGABYTE - 4) + b"\x05",
    "deep at the start": b"\x91" * MEGABYTE,
    "bushy": b"\x93\x09\x05" + tree(5),
    "short, deep": b"\x93\x09\x05" + b"\x91" * 500 + b"\x05",
    "wide": b"\x9f\x09" + (b"\x9f" + b"\xa3abc" * 15) * 14,
    "many tokens in a hint": b"\x95\x04\x03\x02\x05\xc5\xff\xfe" + bytes(0xFFFE),
    "half a token": b"\x96\x06\x03\x02\x05\xc6\x00\x0f\xff\xff" + bytes(0xFFFFF),
    "no utf-8": b"\x93\x08\xda\x03\xff" + b"\xff" * 0x3FF + b"\x05",
    "over the limit": bytes(8 * MEGABYTE),
}


def peak_bytes(data: bytes) -> tuple[int, Message | None]:
    tracemalloc.start()
    try:
        try:
            message: Message | None = CODEC.decode(data)
        except WireError:
            message = None
        return tracemalloc.get_traced_memory()[1], message
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_claim_little_memory(name: str) -> None:
    data = HOSTILE[name]
    peak, message = peak_bytes(data)
    assert message is None
    # msgpack copies a byte string of known length before its content is judged.
    assert peak < 64_000 + min(len(data), MEGABYTE)
    assert peak < 64_000 or name in ("half a token", "many tokens in a hint")


def test_a_large_message_claims_memory_in_proportion() -> None:
    rng = random.Random(3)
    tokens = tuple(rng.randrange(VOCAB_SIZE) for _ in range(1 << 18))
    message = Open(
        session=b"s",
        alias=0,
        generation=0,
        tokens=tokens,
        prompt_length=1,
        max_new_tokens=1,
        temperature=0.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=0,
        stop_ids=(),
        patience_s=0.0,
    )
    data = CODEC.encode(message)
    peak, decoded = peak_bytes(data)
    assert decoded == message
    assert peak < 24 * len(data)


@pytest.mark.parametrize("thing", [None, "text", 5, bytearray(b"\x92\x09\x05"), memoryview(b"\x92\x09\x05")])
def test_only_bytes_are_decoded(thing: Any) -> None:
    with pytest.raises(WireError, match="instead of bytes"):
        CODEC.decode(thing)


def test_the_number_of_fields_is_limited() -> None:
    assert outcome(msgpack.packb([9, 5] + [0] * 30)) == Ping(nonce=5)
    for extra in ([0] * 31, [0] * 5000):
        with pytest.raises(WireError, match=r"^PING: more than 32 fields$"):
            CODEC.decode(msgpack.packb([9, 5, *extra]))


def test_the_type_is_a_small_integer() -> None:
    assert outcome(b"\x92\x09\x05") == Ping(nonce=5)
    for header in (
        b"\xcc\x09",
        b"\xd0\x09",
        b"\xcb" + bytes.fromhex("4022000000000000"),
        b"\xa1\x09",
        b"\xc3",
    ):
        assert outcome(b"\x92" + header + b"\x05") is None
    assert outcome(b"\xdc\x00\x02\x09\x05") == Ping(nonce=5)
    assert outcome(b"\xdd\x00\x00\x00\x02\x09\x05") is None
