"""The log of an emulated link: one record for every message or packet, as JSON lines.

In virtual time the same seed gives the same log, byte for byte.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..errors import SettingsError
from .shaper import Drop

__all__ = ["OnRecord", "Record", "RecordFile"]

MAX_WAITING_RECORDS = 1 << 18
"""What a slow disk may leave in memory; more is not written, and counted."""
WRITE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What became of one message of one direction. Times are seconds since the link was made."""

    way: str
    """up or down."""
    sent_s: float
    num_bytes: int
    arrived_s: float | None = None
    drop: Drop | None = None
    stalled_s: float = 0.0
    connection: int = 0
    """Of a proxy that has many."""

    def as_json(self) -> str:
        """One line; what does not apply is left out."""
        fields: dict[str, object] = {
            "way": self.way,
            "sent_s": round(self.sent_s, 6),
            "bytes": self.num_bytes,
        }
        if self.connection:
            fields["connection"] = self.connection
        if self.arrived_s is not None:
            fields["arrived_s"] = round(self.arrived_s, 6)
        if self.drop is not None:
            fields["dropped"] = self.drop.value
        if self.stalled_s:
            fields["stalled_s"] = round(self.stalled_s, 6)
        return json.dumps(fields)


OnRecord = Callable[[Record], None]


class RecordFile:
    """Writes records to a file, off the loop; its `add` is what a link takes as `on_record`."""

    def __init__(self, path: str | Path) -> None:
        self.num_left_out = 0
        """Records that the disk was too slow for."""
        self._path = Path(path)
        self._waiting: deque[Record] = deque()
        self._file: TextIO | None = None
        self._task: asyncio.Task[None] | None = None

    def add(self, record: Record) -> None:
        if len(self._waiting) < MAX_WAITING_RECORDS:
            self._waiting.append(record)
        else:
            self.num_left_out += 1

    async def __aenter__(self) -> RecordFile:
        try:
            self._file = await asyncio.to_thread(self._path.open, "w", encoding="utf-8")
        except OSError as error:
            raise SettingsError("log", f"cannot write {self._path}: {error.strerror}") from None
        self._task = asyncio.create_task(self._write_now_and_then(), name="record-file")
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await asyncio.to_thread(self._write)
        finally:
            assert self._file is not None
            await asyncio.to_thread(self._file.close)

    async def _write_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            if self._waiting:
                await asyncio.shield(asyncio.to_thread(self._write))

    def _write(self) -> None:
        """In a thread. The loop only appends, we only take away, so nobody has to lock."""
        assert self._file is not None
        lines: list[str] = []
        while self._waiting:
            lines.append(self._waiting.popleft().as_json() + os.linesep)
        self._file.writelines(lines)
        self._file.flush()
