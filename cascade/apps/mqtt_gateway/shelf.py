"""Questions on disk until they are answered: a gateway that stops, or loses its power, goes on with them.

A file each, readable by its owner only. How many there may be is the queue's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from ...errors import SettingsError
from .questions import Question

__all__ = ["Shelf"]

log = logging.getLogger(__name__)

SUFFIX = ".question.json"


class Shelf:
    """What lies here has not been answered. Its files are named by number, in the order of asking."""

    def __init__(self, folder: Path | None) -> None:
        """Without a folder nothing is kept."""
        self._folder = folder
        self._next = 0

    async def load(self) -> list[tuple[int, Question]]:
        """What was left, oldest first; what cannot be read is left alone. Raises `SettingsError`."""
        return [] if self._folder is None else await asyncio.to_thread(self._load, self._folder)

    async def keep(self, question: Question) -> int:
        """Returns its number. A disk that fails costs the safety, not the answer."""
        self._next += 1
        number = self._next
        if self._folder is not None:
            try:
                await asyncio.to_thread(self._write, self._path(self._folder, number), question)
            except OSError as error:
                log.error("a question is not kept on disk: %s", error.strerror)
        return number

    async def drop(self, number: int) -> None:
        """It was answered."""
        if self._folder is not None:
            try:
                await asyncio.to_thread(self._path(self._folder, number).unlink, missing_ok=True)
            except OSError as error:
                log.error("an answered question stays on disk: %s", error.strerror)

    def _load(self, folder: Path) -> list[tuple[int, Question]]:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            paths = sorted(folder.glob(f"*{SUFFIX}"))
        except OSError as error:
            raise SettingsError("queue", f"cannot use {folder}: {error.strerror}") from None
        found: list[tuple[int, Question]] = []
        for path in paths:
            try:
                number = int(path.name.removesuffix(SUFFIX))
                found.append((number, Question(**json.loads(path.read_text(encoding="utf-8")))))
            except (OSError, ValueError, TypeError) as error:
                log.error("%s is no question of ours: %s", path, type(error).__name__)
                continue
            self._next = max(self._next, number)
        return found

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"{number:010d}{SUFFIX}"

    @staticmethod
    def _write(path: Path, question: Question) -> None:
        """Whole or not at all."""
        scratch = path.with_suffix(".part")
        file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(asdict(question), stream)
        scratch.replace(path)
