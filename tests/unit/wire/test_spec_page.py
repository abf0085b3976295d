"""docs/wire.md says what the code does: its tables, its examples and its hash."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cascade import wire
from cascade.errors import WireError
from cascade.wire import Codec, ErrorCode, Message, Pen
from cascade.wire.codec import LAYOUTS
from cascade.wire.hashing import HASH_START, extend, fold
from cascade.wire.layout import REQUIRED, Layout
from cascade.wire.shape import MAX_FIELDS

from .wire_samples import VOCAB_SIZE

PAGE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
CODEC = Codec(VOCAB_SIZE)
HEX_LINE = re.compile(r"^([0-9a-f]{2}(?: [0-9a-f]{2})*) *(?:;.*)?$")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def example(block: str) -> tuple[Message, bytes]:
    """The record and the bytes of one block."""
    lines = block.splitlines()
    data = [match[1] for line in lines if (match := HEX_LINE.match(line))]
    source = "\n".join(line for line in lines if not HEX_LINE.match(line))
    message: Message = eval(source, dict(vars(wire)))
    return message, bytes.fromhex(" ".join(data))


def rows(text: str) -> list[list[str]]:
    """The cells of the first table in `text`, without its head."""
    table: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            break
    return table[2:]


def section(title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no section {title}"
    return found[1]


@pytest.mark.parametrize("block", blocks("wire"), ids=lambda block: block.partition("(")[0])
def test_examples(block: str) -> None:
    message, data = example(block)
    assert CODEC.decode(data) == message
    assert CODEC.encode(message) == data


def test_every_message_has_an_example() -> None:
    shown = {type(example(block)[0]) for block in blocks("wire")}
    assert shown == {layout.record for layout in LAYOUTS.values()}


@pytest.mark.parametrize("block", blocks("wire"), ids=lambda block: block.partition("(")[0])
def test_examples_name_their_fields(block: str) -> None:
    _, data = example(block)
    layout = LAYOUTS[data[1]]
    names = re.findall(r"; (.*)$", block, re.MULTILINE)
    expected = ["type", *(place.name for place in layout.fields)]
    assert names[0] == f"array of {len(names) - 1}"
    assert names[1] == layout.name
    assert names[2:] == expected[1 : len(names) - 1]


@pytest.mark.parametrize("block", blocks("wire-accepted"))
def test_other_spellings_are_accepted(block: str) -> None:
    message, data = example(block)
    assert CODEC.decode(data) == message
    assert CODEC.encode(message) != data


REFUSED = [line for block in blocks("wire-refused") for line in block.splitlines()]


@pytest.mark.parametrize("line", REFUSED)
def test_refusals(line: str) -> None:
    data, reason = re.split(r" {2,}", line)
    with pytest.raises(WireError) as info:
        CODEC.decode(bytes.fromhex(data))
    assert str(info.value) == reason


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_field_tables(layout: Layout) -> None:
    shown = [row[:4] for row in rows(section(layout.name))]
    names = {None: "nil", 0: "0", 1: "1", b"": "none", REQUIRED: ""}
    assert shown == [
        [str(index), place.name, place.kind.says, names[place.default]]
        for index, place in enumerate(layout.fields, start=1)
    ]


def test_code_and_limit_tables() -> None:
    codes = rows(section("ERROR").split("| code | name")[1].join(["| code | name", ""]))
    assert [(int(number), name) for number, name, _ in codes] == [
        (code.value, code.name) for code in ErrorCode
    ]
    assert (Pen.EDGE, Pen.DEVICE) == (0, 1)
    limits = {
        what: int(number.split(" ")[0].strip(",").replace(",", ""))
        for what, number in rows(section("Limits"))
    }
    assert list(limits.values()) == [
        CODEC.max_message_bytes,
        MAX_FIELDS,
        wire.MAX_TOKENS,
        wire.MAX_HINT_TOKENS,
        wire.MAX_STOP_IDS,
    ]
    assert f"Version {wire.PROTOCOL_VERSION}." in PAGE


VECTORS = [
    (int(token), int(state, 16), int(sent, 16))
    for token, state, sent in rows(PAGE.split("One token after the other from the start:")[1])
]


def test_hash_vectors() -> None:
    state = HASH_START
    assert len(VECTORS) >= 10
    for token, expected, sent in VECTORS:
        state = extend(state, token)
        assert (state, fold(state)) == (expected, sent)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_hash_in_c(tmp_path: Path) -> None:
    (source,) = blocks("c")
    (tmp_path / "hash.c").write_text(source)
    library = tmp_path / "hash.so"
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, tmp_path / "hash.c"], check=True
    )
    reference = ctypes.CDLL(str(library))
    reference.cascade_hash_start.restype = reference.cascade_hash_extend.restype = ctypes.c_uint32
    reference.cascade_hash_fold.restype = ctypes.c_uint16
    state: int = reference.cascade_hash_start()
    assert state == HASH_START
    for token, expected, sent in VECTORS:
        state = reference.cascade_hash_extend(ctypes.c_uint32(state), ctypes.c_uint32(token))
        assert (state, reference.cascade_hash_fold(ctypes.c_uint32(state))) == (expected, sent)
