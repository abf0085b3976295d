"""The books: what may be kept, what is on file, and what a crash costs."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.device import ledger as ledger_module
from cascade.device.ledger import WRITTEN_AHEAD, Ledger, ledger_path
from cascade.errors import SettingsError


def deliver(ledger: Ledger, count: int, *, quality: float = 0.9) -> None:
    for _ in range(count):
        ledger.book(quality).note_delivered()


def test_nothing_is_kept_on_credit() -> None:
    book = Ledger().book(0.9)
    num_kept = 0
    for _ in range(1000):
        if book.may_keep:
            book.keep()
            num_kept += 1
        book.note_delivered()
        assert book.exposure <= 0.1 * book.num_delivered + 1e-9
    assert num_kept == 99  # at the last token there was room for 99 with 999 delivered


def test_verdicts_make_room() -> None:
    ledger = Ledger()
    deliver(ledger, 20)
    book = ledger.book(0.9)
    book.keep()
    book.keep()
    assert not book.may_keep
    book.audit(is_own=True)
    assert book.may_keep
    book.audit(is_own=False)
    assert (book.num_disputed, book.num_open) == (1, 0)
    book.keep()
    book.release(1)
    assert book.exposure == 1
    book.keep()
    book.give_up(1)
    assert (book.num_disputed, book.may_keep) == (2, False)


def test_lossless_tokens_are_credit_for_every_promise() -> None:
    ledger = Ledger()
    assert not ledger.book(0.9).may_keep
    ledger.note_lossless(40)
    assert ledger.book(0.9).may_keep
    assert ledger.book(0.975).may_keep
    assert not ledger.book(0.99).may_keep
    assert ledger.book(0.9).account.least_quality == 1


async def test_books_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ledger.json"
    ledger = Ledger(path)
    await ledger.open()
    ledger.note_lossless(1000)
    deliver(ledger, 500)
    book = ledger.book(0.9)
    book.keep()
    book.audit(is_own=False)
    await ledger.close()
    again = Ledger(path)
    await again.open()
    assert again.num_lossless == 1000
    assert again.book(0.9).account == book.account
    await again.close()
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


async def test_a_crash_never_forgets_what_was_kept(tmp_path: Path) -> None:
    """Whenever the process dies, the file admits at least what was true then."""
    path = tmp_path / "ledger.json"
    ledger = Ledger(path)
    await ledger.open()
    deliver(ledger, 10_000)
    book = ledger.book(0.9)
    num_writes, last, most, number = 0, "", 0, 0
    while number < 300:
        if not book.may_keep:
            await asyncio.sleep(0.001)  # the file has to go ahead
            continue
        book.keep()
        most = max(most, book.exposure)
        number += 1
        on_file = json.loads(path.read_text())
        assert book.exposure <= on_file["books"]["0.9"]["disputed"] <= most + WRITTEN_AHEAD
        assert on_file["books"]["0.9"]["delivered"] <= book.num_delivered
        if number % 3:
            book.audit(is_own=number % 5 == 0)
        num_writes += path.read_text() != last
        last = path.read_text()
    assert num_writes < 30, "a file is not written at every token"
    await ledger.close()
    assert json.loads(path.read_text())["books"]["0.9"]["disputed"] == book.exposure


async def test_what_is_kept_during_a_write_is_not_taken_for_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger(path)
    await ledger.open()
    deliver(ledger, 10_000)
    book = ledger.book(0.9)
    write = ledger_module._write

    def slow_write(path: Path, text: str) -> None:
        write(path, text)
        book.num_open += 7  # meanwhile, on the loop

    monkeypatch.setattr(ledger_module, "_write", slow_write)
    ledger.write_soon()
    for _ in range(30_000):
        if book.written:
            break
        await asyncio.sleep(0.001)
    monkeypatch.undo()
    assert json.loads(path.read_text())["books"]["0.9"]["disputed"] == book.written
    await ledger.close()


async def test_nothing_is_kept_while_the_file_cannot_be_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "folder" / "ledger.json")
    await ledger.open()
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").write_text("in the way")
    deliver(ledger, 1000)
    assert not ledger.book(0.9).may_keep
    await asyncio.sleep(0.05)
    assert not ledger.book(0.9).may_keep
    (tmp_path / "folder").unlink()
    await ledger.close()
    assert (tmp_path / "folder" / "ledger.json").exists()


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").mkdir()
    with pytest.raises(SettingsError, match=r"ledger\.json cannot be read"):
        await Ledger(tmp_path / "ledger.json").open()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"version": 2, "lossless": 0, "books": {}}',
        '{"version": 1, "lossless": -1, "books": {}}',
        '{"version": 1, "lossless": 0, "books": {"0.9": {"delivered": 1.5, "disputed": 0}}}',
        '{"version": 1, "lossless": 0, "books": {"most": {"delivered": 1, "disputed": 0}}}',
        '{"version": 1, "lossless": 0, "books": []}',
    ],
)
async def test_a_spoilt_file_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="move it away"):
        await Ledger(path).open()
    assert path.read_text() == content


def test_every_identity_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_DATA", str(tmp_path))
    names = {ledger_path(name) for name in ("kettle-7", "a/b", "../../etc", "a%2fb", "", "ä", "%")}
    assert len(names) == 7
    assert {path.parent for path in names} == {tmp_path / "ledgers"}


def test_what_is_on_file_can_be_read_by_people() -> None:
    ledger = Ledger()
    deliver(ledger, 40)
    content = json.loads(ledger.text(ahead=3))
    book = {"delivered": 40, "disputed": 3, "provisional": 0}
    assert content == {"version": 1, "lossless": 0, "books": {"0.9": book}}


async def test_one_device_at_a_time_spends_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    first, second = Ledger(path), Ledger(path)
    await first.open()
    deliver(first, 100)
    await second.open()
    assert "another device" in second.problem
    deliver(second, 1000)
    assert not second.book(0.9).may_keep
    await second.close()
    await first.close()
    third = Ledger(path)
    await third.open()
    assert third.problem == ""
    assert third.book(0.9).num_delivered == 100, "the second one has written nothing"
    await third.close()


HOLDER = """
import asyncio, os, sys
from pathlib import Path
from cascade.device.ledger import Ledger

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    await ledger.open()
    print(ledger.problem or "held", flush=True)
    sys.stdin.readline()
    os._exit(1)  # a crash: nobody closes anything

asyncio.run(main())
"""


def test_a_process_that_dies_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        assert "another device" in asyncio.run(problem_with(path))
    assert other.returncode == 1
    assert asyncio.run(problem_with(path)) == ""


async def problem_with(path: Path) -> str:
    ledger = Ledger(path)
    await ledger.open()
    await ledger.close()
    return ledger.problem


async def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    ledger = Ledger(tmp_path / "file" / "ledger.json")
    await ledger.open()
    assert "cannot be made" in ledger.problem
    ledger.note_lossless(1000)
    assert not ledger.book(0.9).may_keep
    await ledger.close()


async def test_a_ledger_that_cannot_be_written_ends_no_device(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "ledgers"
    ledger = Ledger(folder / "device.json")
    await ledger.open()
    shutil.rmtree(folder)
    folder.write_text("in the way")
    ledger.note_lossless(3)
    await ledger.close()
    assert "cannot be written" in caplog.text
