"""The books of cascade mode: what an account was promised, and what it was given.

For every quality that an account has asked for, at every token delivered:

    disputed + not yet audited <= (1 - quality) * (delivered at this quality + delivered losslessly)

*Disputed* tokens are known not to be the target's own pick; kept tokens that nobody has audited yet count
as if all of them were disputed. So a token may be kept only while there is room for the worst it can be.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import SettingsError
from ..events import Account
from .file_lock import FileLock

__all__ = ["Book", "Ledger", "ledger_path"]

log = logging.getLogger(__name__)

VERSION: Final = 1
WRITTEN_AHEAD: Final = 32
"""What is written leaves room for so many tokens more: a crash costs an account these, and a file need not be
written at every token."""
ROUNDING: Final = 1e-9
RETRY_S: Final = 5.0


class Ledger:
    """One account's books. With a path they outlive the device, and a process that dies: what is on file is
    always ahead of what was kept.

    One device at a time spends from a file. Others may go on without: they read it, keep nothing and write
    nothing, and `problem` says why.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.num_lossless = 0
        """Delivered by streams that keep nothing."""
        self.problem = ""
        """Why nothing may be kept; empty where something may."""
        self._path = path
        self._lock = None if path is None else FileLock(path)
        self._books: dict[float, Book] = {}
        self._wake = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on_file(self) -> bool:
        return self._path is not None

    def book(self, quality: float) -> Book:
        """The one for this promise."""
        if quality not in self._books:
            self._books[quality] = Book(self, quality)
        return self._books[quality]

    def note_lossless(self, num_tokens: int) -> None:
        """Lossless tokens are credit for every promise."""
        self.num_lossless += num_tokens

    async def open(self) -> None:
        """Read what is on file, and keep the file ahead of the books from now on."""
        if self._path is not None and self._lock is not None and self._task is None:
            problem = await asyncio.to_thread(self._lock.acquire)
            self.problem = problem and f"{self._path}: {problem}"
            try:
                text = await asyncio.to_thread(_read, self._path)
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError("ledger", f"{self._path} cannot be read: {error}") from error
            if text is not None:
                self._take(text, self._path)
            if self.problem:
                log.warning("nothing can be kept: %s", self.problem)
                return
            self._task = asyncio.create_task(self._stay_ahead(self._path), name="ledger")

    async def close(self) -> None:
        """Put the books on file as they are."""
        task, self._task = self._task, None
        if task is not None and self._path is not None:
            self._is_closing = True
            self._wake.set()
            await asyncio.gather(task, return_exceptions=True)
            try:
                await asyncio.to_thread(_write, self._path, self.text(ahead=0))
            except OSError as error:  # what is on file is on the safe side
                log.warning("the ledger cannot be written: %s", error)
        if self._lock is not None:
            self._lock.release()

    def write_soon(self) -> None:
        """The books come near to what is on file."""
        self._wake.set()

    def text(self, *, ahead: int) -> str:
        """What goes on file: with room for so many tokens more."""
        books = {
            repr(book.quality): {
                "delivered": book.num_delivered,
                "disputed": book.exposure + ahead,
                "provisional": book.num_provisional,
            }
            for book in self._books.values()
        }
        return json.dumps({"version": VERSION, "lossless": self.num_lossless, "books": books})

    async def _stay_ahead(self, path: Path) -> None:
        while True:
            await self._wake.wait()
            if self._is_closing:
                return
            self._wake.clear()
            written = {book: book.exposure + WRITTEN_AHEAD for book in self._books.values()}
            try:
                await asyncio.to_thread(_write, path, self.text(ahead=WRITTEN_AHEAD))
            except OSError as error:
                log.warning("the ledger cannot be written, so nothing is kept: %s", error)
                await asyncio.sleep(RETRY_S)
                self._wake.set()
                continue
            for book, exposure in written.items():
                book.written = exposure

    def _take(self, text: str, path: Path) -> None:
        try:
            content = json.loads(text)
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']!r}")
            self.num_lossless = _count(content["lossless"])
            for quality, figures in content["books"].items():
                book = self.book(float(quality))
                book.num_delivered = _count(figures["delivered"])
                book.num_disputed = book.written = _count(figures["disputed"])
                book.num_provisional = _count(figures.get("provisional", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{path} is no ledger that this version reads ({error}); move it away to begin another"
            raise SettingsError("ledger", reason) from error


@dataclass(slots=True, eq=False)
class Book:
    """One promise."""

    ledger: Ledger
    quality: float
    num_delivered: int = 0
    num_disputed: int = 0
    """Known not to be the target's own pick, or never to be audited any more."""
    num_open: int = 0
    """Kept and not audited; those too that wait, undelivered, behind a guess."""
    num_provisional: int = 0
    """Delivered for want of an edge and not audited: in no sum of this book."""
    written: int = 0
    """Of `exposure`, what is on file."""

    @property
    def exposure(self) -> int:
        """The most that can turn out to be disputed."""
        return self.num_disputed + self.num_open

    @property
    def balance(self) -> float:
        """How many tokens more may turn out to be disputed."""
        return (1 - self.quality) * (self.num_delivered + self.ledger.num_lossless) - self.exposure

    @property
    def account(self) -> Account:
        """As an app sees it."""
        return Account(
            quality=self.quality,
            num_delivered=self.num_delivered,
            num_lossless=self.ledger.num_lossless,
            num_disputed=self.num_disputed,
            num_unaudited=self.num_open,
            num_provisional=self.num_provisional,
        )

    @property
    def may_keep(self) -> bool:
        """Is there room for one token more, on file too?"""
        if self.balance < 1 - ROUNDING:
            return False
        if not self.ledger.is_on_file:
            return True
        if self.exposure > self.written - WRITTEN_AHEAD // 2:
            self.ledger.write_soon()
        return self.exposure < self.written

    def keep(self) -> None:
        """One token more that may turn out to be disputed."""
        self.num_open += 1

    def reserve(self, num_tokens: int) -> bool:
        """Room for so many tokens that nobody will audit, all of them at once, if there is so much."""
        if self.balance < num_tokens - ROUNDING:
            return False
        self.num_open += num_tokens
        self.ledger.write_soon()
        return True

    @property
    def is_covered(self) -> bool:
        """What is on file has room for all that is kept."""
        return not self.ledger.is_on_file or self.exposure <= self.written

    def audit(self, *, is_own: bool) -> None:
        """The verdict on a kept token."""
        self.num_open -= 1
        self.num_disputed += not is_own

    def release(self, num_tokens: int) -> None:
        """Kept, and dead before anybody saw them."""
        self.num_open -= num_tokens

    def give_up(self, num_tokens: int) -> None:
        """No verdict on these will come any more: they count as disputed for ever."""
        self.num_open -= num_tokens
        self.num_disputed += num_tokens

    def dispute(self) -> None:
        """Delivered, not the target's pick, and never kept."""
        self.num_disputed += 1

    def note_delivered(self) -> None:
        """Within the promise. In the book of quality 1 that is a lossless token."""
        if self.quality == 1:
            self.ledger.note_lossless(1)
        else:
            self.num_delivered += 1

    def note_provisional(self) -> None:
        """Delivered for want of an edge."""
        self.num_provisional += 1

    def withdraw(self, num_tokens: int) -> None:
        """Provisional, and taken back."""
        self.num_provisional -= num_tokens

    def audit_provisional(self, *, is_own: bool) -> None:
        """The verdict on a provisional token: only now it enters the book, which it may overdraw."""
        self.num_provisional -= 1
        if is_own:
            self.note_delivered()
        else:
            self.num_delivered += 1
            self.num_disputed += 1
            if self.exposure > self.written:
                self.ledger.write_soon()


def ledger_path(identity: str) -> Path:
    """Where an account's ledger is: CASCADE_DATA, else XDG_DATA_HOME/cascade, else ~/.local/share/cascade."""
    chosen = os.environ.get("CASCADE_DATA")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        base = os.environ.get("XDG_DATA_HOME")
        folder = (Path(base).expanduser() if base else Path.home() / ".local" / "share") / "cascade"
    name = "".join(char if char.isalnum() or char in "-_" else f"%{ord(char):x}" for char in identity)
    return folder / "ledgers" / f"{name or '%'}.json"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write(path: Path, text: str) -> None:
    """As a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
