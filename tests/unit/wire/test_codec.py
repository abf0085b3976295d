"""Every message survives its bytes, and nothing out of range gets in or out."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import wire
from cascade.errors import SettingsError, WireError
from cascade.wire import (
    MAX_HINT_TOKENS,
    Codec,
    Commit,
    Error,
    ErrorCode,
    Hello,
    Hint,
    Keep,
    Limits,
    Message,
    Move,
    Open,
    Pen,
    Ping,
    Welcome,
)
from cascade.wire.codec import LAYOUTS

from .wire_samples import SAMPLES, VOCAB_SIZE, examples, messages

CODEC = Codec(VOCAB_SIZE)
KINDS = typing.get_args(Message)
SAMPLE = {type(message): message for message in SAMPLES}


def fields_of(message: Message) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(CODEC.encode(message))
    return fields


def change(message: Message, **changes: object) -> Message:
    return dataclasses.replace(message, **changes)  # type: ignore[arg-type]


def test_there_is_a_sample_and_a_layout_for_every_message() -> None:
    assert set(SAMPLE) == set(KINDS) == {layout.record for layout in LAYOUTS.values()}


def test_public_names_exist() -> None:
    assert len(set(wire.__all__)) == len(wire.__all__)
    assert all(hasattr(wire, name) for name in wire.__all__)
    assert {kind.__name__ for kind in KINDS} <= set(wire.__all__)


@pytest.mark.parametrize("kind", KINDS)
@examples(60)
@given(data=st.data())
def test_roundtrip(kind: type[Message], data: st.DataObject) -> None:
    vocab_size = data.draw(st.sampled_from([1, 300, VOCAB_SIZE, 1 << 16, 100_000, 1 << 24, 1 << 25]))
    codec = Codec(vocab_size)
    message = data.draw(messages(vocab_size)[kind])
    encoded = codec.encode(message)
    decoded = codec.decode(encoded)
    assert type(decoded) is kind
    assert decoded == message
    assert repr(decoded) == repr(message)  # an enum is no integer, a float none either
    assert codec.encode(decoded) == encoded


@pytest.mark.parametrize("kind", [Hello, Welcome])
def test_greetings_are_read_before_the_vocabulary_is_known(kind: type[Message]) -> None:
    assert Codec(1).decode(CODEC.encode(SAMPLE[kind])) == SAMPLE[kind]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_unknown_trailing_fields_are_ignored(message: Message) -> None:
    # SAMPLES leave no field out, so whatever follows is new.
    extended = msgpack.packb([*fields_of(message), "news", 1.5, None, True, b"x" * 2000, -(1 << 62)])
    assert CODEC.decode(extended) == message
    assert CODEC.decode(msgpack.packb([*fields_of(message), -1])) == message
    with pytest.raises(WireError, match="array, a map or an extension"):
        CODEC.decode(msgpack.packb([*fields_of(message), [1]]))
    with pytest.raises(WireError, match="array, a map or an extension"):
        CODEC.decode(msgpack.packb([*fields_of(message), b"x" * 2000, {}]))


WRONG: list[Any] = [True, [], {}, 1.5e308, math.nan, -1, 1 << 63, b"x" * 5001, "x" * 5000]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_each_field_is_checked_and_named(message: Message) -> None:
    fields = fields_of(message)
    layout = LAYOUTS[fields[0]]
    for index, place in enumerate(layout.fields, start=1):
        for wrong in WRONG:
            if (place.name, wrong) == ("seed", 1 << 63):
                continue  # seeds are that large
            spoilt = [*fields[:index], wrong, *fields[index + 1 :]]
            # Byte strings are tokens, flags or numbers: wrong in themselves, or beside another field.
            named = r"\.\w+" if isinstance(wrong, bytes) else rf"\.{place.name}"
            with pytest.raises(WireError, match=rf"^{layout.name}({named})?: ") as info:
                CODEC.decode(msgpack.packb(spoilt))
            assert "xxx" not in str(info.value), "a reason must not repeat what may be secret"
        if place.default is not None:
            with pytest.raises(WireError, match=rf"^{layout.name}\.{place.name}: "):
                CODEC.decode(msgpack.packb([*fields[:index], None, *fields[index + 1 :]]))


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_only_fields_with_a_default_may_be_missing(message: Message) -> None:
    fields = fields_of(message)
    layout = LAYOUTS[fields[0]]
    for count in range(1, len(fields)):
        place = layout.fields[count - 1]
        shortened = msgpack.packb(fields[:count])
        if count < layout.num_required:
            with pytest.raises(WireError, match=rf"^{layout.name}\.{place.name}: missing"):
                CODEC.decode(shortened)
        elif message == SAMPLE[Commit] and count == layout.num_required:
            # Without its tokens this one has nothing left that depends on them.
            assert CODEC.decode(shortened) == Commit(alias=3, generation=2, position=412, tokens=())
        else:
            assert CODEC.encode(CODEC.decode(shortened)) == shortened


OUT_OF_RANGE: list[tuple[type[Message], str, object]] = [
    (Hint, "alias", 256),
    (Hint, "alias", -1),
    (Hint, "alias", True),
    (Hint, "alias", 3.0),
    (Hint, "alias", "3"),
    (Hint, "alias", None),
    (Hint, "generation", 1 << 32),
    (Hint, "position", 1 << 32),
    (Hint, "position", None),
    (Hint, "prefix_hash", 1 << 16),
    (Hint, "prefix_hash", -1),
    (Hint, "prefix_hash", True),
    (Hint, "prefix_hash", 1.0),
    (Hint, "prefix_hash", None),
    (Hint, "known", 413),
    (Hint, "known", -1),
    (Hint, "tokens", (VOCAB_SIZE,)),
    (Hint, "tokens", (-1,)),
    (Hint, "tokens", (1 << 70,)),
    (Hint, "tokens", (1.5,)),
    (Hint, "tokens", ("a",)),
    (Hint, "tokens", None),
    (Hint, "tokens", (1,) * 4097),
    (Hint, "stamp_ms", -1),
    (Hint, "stamp_ms", 1.5),
    (Commit, "num_hinted", 3),
    (Commit, "num_hinted", -1),
    (Commit, "num_hinted", True),
    (Commit, "num_hinted", 1.0),
    (Commit, "num_hinted", None),
    (Commit, "logprobs", (-1.0,)),
    (Commit, "logprobs", (float("nan"), 0.0)),
    (Commit, "logprobs", (float("-inf"), 0.0)),
    (Commit, "logprobs", (0.5, 0.0)),
    (Commit, "logprobs", ("a", "b")),
    (Commit, "verdict", (True,)),
    (Commit, "verdict", (True,) * 3),
    (Keep, "prefix_hash", 1 << 32),
    (Keep, "tokens", ()),
    (Keep, "kept", (True,)),
    (Keep, "kept", (True,) * 3),
    (Keep, "known", 413),
    (Keep, "raised", 4),
    (Keep, "pen", 2),
    (Commit, "held_ms", 1 << 32),
    (Open, "session", b""),
    (Open, "session", b"x" * 33),
    (Open, "session", "text"),
    (Open, "prompt_length", 5),
    (Open, "temperature", -0.1),
    (Open, "temperature", float("nan")),
    (Open, "temperature", float("inf")),
    (Open, "temperature", True),
    (Open, "top_p", 1.01),
    (Open, "min_p", -0.01),
    (Open, "seed", 1 << 64),
    (Open, "seed", -1),
    (Open, "stop_ids", (1,) * 257),
    (Open, "patience_s", 1e9),
    (Error, "code", 99),
    (Error, "code", 0),
    (Error, "text", "x" * 1025),
    (Error, "text", "ä" * 513),
    (Error, "text", "\ud800"),
    (Hello, "identity", "x" * 129),
    (Hello, "token", "x" * 4097),
    (Hello, "vocab_size", -1),
    (Welcome, "limits", None),
]


@pytest.mark.parametrize(("kind", "field", "value"), OUT_OF_RANGE)
def test_encode_refuses_what_decode_would(kind: type[Message], field: str, value: object) -> None:
    with pytest.raises(WireError, match=f"^{kind.__name__.upper()}"):
        CODEC.encode(change(SAMPLE[kind], **{field: value}))


def test_encode_refuses_what_is_no_message() -> None:
    for thing in (None, 5, SAMPLE[Welcome].limits):  # type: ignore[union-attr]
        with pytest.raises(WireError, match="not a message"):
            CODEC.encode(thing)  # type: ignore[arg-type]


def test_a_text_that_has_no_utf8_is_named() -> None:
    with pytest.raises(WireError, match=r"^MOVE\.edge: expected text"):
        CODEC.encode(Move(edge="\ud800", deadline_ms=1))


def test_a_codec_that_refused_goes_on_working() -> None:
    with pytest.raises(WireError):
        CODEC.encode(Ping(nonce=-1))
    assert CODEC.decode(CODEC.encode(Ping(nonce=1))) == Ping(nonce=1)


def test_numbers_may_come_as_integers() -> None:
    fields = fields_of(SAMPLE[Open])
    for index in (7, 9, 10, 13):
        fields[index] = 1
    decoded = CODEC.decode(msgpack.packb(fields))
    assert isinstance(decoded, Open)
    numbers = (decoded.temperature, decoded.top_p, decoded.min_p, decoded.patience_s)
    assert numbers == (1.0, 1.0, 1.0, 1.0)
    assert all(type(number) is float for number in numbers)


def test_message_size_is_limited_both_ways() -> None:
    data = CODEC.encode(SAMPLE[Open])
    exact, tight = Codec(VOCAB_SIZE, len(data)), Codec(VOCAB_SIZE, len(data) - 1)
    assert exact.decode(exact.encode(SAMPLE[Open])) == SAMPLE[Open]
    with pytest.raises(WireError, match="bytes, at most"):
        tight.encode(SAMPLE[Open])
    with pytest.raises(WireError, match="bytes, at most"):
        tight.decode(data)


@pytest.mark.parametrize(
    ("field", "values"),
    [("vocab_size", (0, 1 << 20)), ("max_message_bytes", (8, 0)), ("vocab_size", (True, 5))],
)
def test_codec_settings_are_checked(field: str, values: tuple[int, int]) -> None:
    with pytest.raises(SettingsError, match=field):
        Codec(*values)


# Sizes, as docs/wire.md promises them.


@pytest.mark.parametrize("position", [256, 412, 65_535])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 64, 126])
def test_sizes_in_steady_state(position: int, count: int) -> None:
    tokens = (VOCAB_SIZE - 1,) * count
    hint = Hint(
        alias=3, generation=2, position=position, prefix_hash=0xB3C1, tokens=tokens, known=position - 100
    )
    assert len(CODEC.encode(hint)) == 12 + 2 * count
    assert len(CODEC.encode(dataclasses.replace(hint, stamp_ms=65_535))) == 15 + 2 * count
    commit = Commit(alias=3, generation=2, position=position, tokens=tokens, num_hinted=count - 1)
    assert len(CODEC.encode(commit)) == 9 + 2 * count
    assert len(CODEC.encode(dataclasses.replace(commit, num_hinted=count))) == 10 + 2 * count
    keep = Keep(
        alias=3,
        generation=2,
        position=position,
        prefix_hash=1 << 31,
        tokens=tokens,
        kept=(True,) * count,
        known=position - 100,
    )
    wide = count > 125
    assert len(CODEC.encode(keep)) == 16 + wide + 2 * count + (count + 7) // 8
    acknowledgement = Hint(alias=3, generation=2, position=position, prefix_hash=0, tokens=(), known=position)
    assert len(CODEC.encode(acknowledgement)) == 7


def test_trailing_defaults_are_left_out_and_inner_ones_are_not() -> None:
    commit = Commit(alias=3, generation=2, position=412, tokens=(5,))
    assert len(fields_of(commit)) == 5
    assert fields_of(dataclasses.replace(commit, echo_ms=9))[5:] == [1, None, 9]
    assert fields_of(dataclasses.replace(commit, verdict=(True,)))[5:] == [1, b"\1"]
    assert fields_of(Error(code=ErrorCode.CLOSED, text="")) == [11, 13, ""]


@pytest.mark.parametrize("vocab_size", [300, 100_000, 1 << 25])
def test_a_guess_is_the_hash_and_then_the_tokens(vocab_size: int) -> None:
    codec = Codec(vocab_size)
    hint = Hint(alias=3, generation=2, position=412, prefix_hash=0xB3C1, tokens=(258, 7), known=405)
    data = codec.encode(hint)
    width = len(codec.encode(dataclasses.replace(hint, tokens=(258, 7, 0)))) - len(data)
    tokens = (258).to_bytes(width, "little") + (7).to_bytes(width, "little")
    fields = msgpack.unpackb(data)
    assert fields[4:] == [b"\xc1\xb3" + tokens, 7]
    for wrong in (
        b"\xc1",
        b"\xc1\xb3",
        b"\xc1\xb3\x07",
        b"\xc1\xb3" + tokens[:-1],
        b"\xc1\xb3" + tokens + b"\0",
    ):
        with pytest.raises(WireError, match=r"^HINT\.guess: must "):
            codec.decode(msgpack.packb([*fields[:4], wrong]))
    most = dataclasses.replace(hint, tokens=(299,) * MAX_HINT_TOKENS)
    assert codec.decode(codec.encode(most)) == most
    with pytest.raises(WireError, match=r"^HINT\.guess: must be at most"):
        codec.decode(msgpack.packb([*fields[:4], bytes(2 + width * (MAX_HINT_TOKENS + 1))]))


def test_what_is_kept_stands_behind_a_longer_hash() -> None:
    keep = change(SAMPLE[Keep], stamp_ms=None, patience_ms=None, raised=0, pen=Pen.EDGE, leniency=0)
    fields = fields_of(keep)
    assert fields[4:] == [b"\x42\0\xc1\xb3\x3e\1\1\1", b"\2", 7]
    for guess in (b"", b"\x42\0\xc1\xb3", b"\x42\0\xc1\xb3\x3e"):
        with pytest.raises(WireError, match=r"^KEEP\.guess: must "):
            CODEC.decode(msgpack.packb([*fields[:4], guess, b"\2"]))
    for marks in (b"", b"\4", b"\2\0"):
        with pytest.raises(WireError, match=r"^KEEP\.kept: must "):
            CODEC.decode(msgpack.packb([*fields[:5], marks]))


@pytest.mark.parametrize("prefix_hash", [0, 0xB3C1, 0xFFFF, 1 << 16])
def test_a_hint_without_tokens_carries_no_hash(prefix_hash: int) -> None:
    hint = Hint(alias=3, generation=2, position=412, prefix_hash=prefix_hash, tokens=(), known=405)
    assert fields_of(hint) == [4, 3, 2, 412, b"", 7]
    assert fields_of(dataclasses.replace(hint, stamp_ms=9)) == [4, 3, 2, 412, b"", 7, 9]
    assert CODEC.decode(CODEC.encode(hint)) == dataclasses.replace(hint, prefix_hash=0)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_commit_says_how_many_tokens_are_the_edges_own(count: int) -> None:
    commit = Commit(alias=3, generation=2, position=412, tokens=(7,) * count, step_ms=9)
    fields = fields_of(commit)
    for num_hinted in range(count + 1):
        message = dataclasses.replace(commit, num_hinted=num_hinted)
        assert fields_of(message)[5] == (count - num_hinted if count else 1)
        assert CODEC.decode(CODEC.encode(message)) == message
    for own in range(max(1, count) + 1):
        decoded = CODEC.decode(msgpack.packb([*fields[:5], own]))
        assert isinstance(decoded, Commit)
        assert decoded.num_hinted == max(0, count - own)
    for own in (max(1, count) + 1, 1 << 31):
        with pytest.raises(WireError, match=r"^COMMIT\.own: must not be above"):
            CODEC.decode(msgpack.packb([*fields[:5], own]))
    for num_hinted in (count + 1, -1):
        with pytest.raises(WireError, match=r"^COMMIT\.num_hinted: "):
            CODEC.encode(dataclasses.replace(commit, num_hinted=num_hinted))


# Records


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_records_are_keyword_only_slotted_values(message: Message) -> None:
    kind: Any = type(message)
    with pytest.raises(TypeError):
        kind(*range(len(dataclasses.fields(kind))))
    assert not hasattr(message, "__dict__")
    twin = dataclasses.replace(message)
    assert twin == message
    assert hash(twin) == hash(message)
    assert twin is not message
    assert all(message != other for other in SAMPLES if other is not message)


def test_the_token_of_hello_stays_out_of_logs() -> None:
    assert "s3cret" not in repr(SAMPLE[Hello])


def test_limits_are_a_record_too() -> None:
    limits = Limits(max_sessions=1, run_ahead=2, context_length=3, max_message_bytes=4)
    assert limits == dataclasses.replace(limits)
