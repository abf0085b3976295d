"""Many small jobs of one benchmark, over processes: with the time left, and resumed where they broke off."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import SettingsError
from ..workers import worker_pool

__all__ = ["Campaign", "Work"]

TELL_EVERY_S = 30.0
"""On a terminal the time left is shown after every job; in a log this often."""
SOURCES = Path(__file__).parents[2]

Figures = dict[str, Any]


class Work(NamedTuple):
    """`function(*arguments)`, to be called in another process; both can be named in a file."""

    function: Callable[..., Figures]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        return f"{self.function.__name__}{self.arguments}"


class Campaign:
    """Runs jobs; what each brought is kept in a file, if there is to be one, and not run again."""

    def __init__(self, title: str, *, jobs: int | None = None, resume: str | None = None) -> None:
        """`jobs`: processes, as many as there are cores if None; `resume`: the file."""
        self._title = title
        self._num_processes = jobs
        self._path = None if resume is None else Path(resume)
        self._found = {} if self._path is None else _read(self._path)

    def run(self, works: Sequence[Work]) -> list[Figures]:
        """What all of them bring, in their order; each is run once, whenever that was."""
        missing = list({work.name: work for work in works if work.name not in self._found}.values())
        progress = _Progress(self._title, num_all=len(missing), num_before=len(works) - len(missing))
        with worker_pool(self._num_processes) as pool:
            under_way = {pool.submit(work.function, *work.arguments): work for work in missing}
            try:
                while under_way:
                    finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._keep(under_way.pop(future).name, future.result())
                        progress.tell(len(missing) - len(under_way))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [self._found[work.name] for work in works]

    def _keep(self, name: str, figures: Figures) -> None:
        self._found[name] = figures
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"work": name, "figures": figures}) + "\n")


def _read(path: Path) -> dict[str, Figures]:
    """What a campaign of the same code left; a new file is begun."""
    code = _code()
    if not path.exists():
        path.write_text(json.dumps({"code": code}) + "\n", encoding="utf-8")
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    try:
        head, *rows = map(json.loads, whole.splitlines())
        theirs = head["code"]
        found = {row["work"]: row["figures"] for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError("resume", f"{path} is no campaign's file; name another one") from error
    if theirs != code:
        raise SettingsError("resume", f"{path} was written by other code; name another file, or remove it")
    if whole != text:  # it broke off in the middle of a line
        path.write_text(whole, encoding="utf-8")
    return found


def _code() -> str:
    """Of all the library's sources: figures of different code do not belong into one table."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


class _Progress:
    """Says on stderr how far it is."""

    def __init__(self, title: str, *, num_all: int, num_before: int) -> None:
        self._title = title
        self._num_all = num_all
        self._started_s = self._told_s = time.monotonic()
        if num_before:
            self._say(f"{num_before} jobs were done before, {num_all} to go\n")

    def tell(self, num_done: int) -> None:
        now_s = time.monotonic()
        is_terminal, is_over = sys.stderr.isatty(), num_done == self._num_all
        if not (is_terminal or is_over or now_s - self._told_s >= TELL_EVERY_S):
            return
        self._told_s = now_s
        spent_s = now_s - self._started_s
        left_s = spent_s / num_done * (self._num_all - num_done)
        line = f"{num_done} of {self._num_all} jobs, {spent_s / 60:.1f} min"
        line += "" if is_over else f", about {left_s / 60:.0f} min left"
        self._say(f"\r{line}   " + ("\n" if is_over else "") if is_terminal else f"{line}\n")

    def _say(self, text: str) -> None:
        start = "\r" if text.startswith("\r") else ""
        sys.stderr.write(f"{start}{self._title}: {text.removeprefix(start)}")
        sys.stderr.flush()
