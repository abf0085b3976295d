"""A file that one process at a time may use. The system lets go of it when that process dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["FileLock"]

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FileLock:
    """Beside the file, for that is replaced when it is written. It stays there, for whoever comes next."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._file: int | None = None

    def acquire(self) -> str:
        """Take it, without waiting. Why that did not succeed; empty if it did."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            return f"{self._path} cannot be made: {error}"
        try:
            _lock(file)
        except OSError:
            os.close(file)
            return "another device uses it"
        self._file = file
        return ""

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
