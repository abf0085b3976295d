"""Files that are whole or not there: what was interrupted while writing leaves the old file as it was."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError

__all__ = ["read_arrays", "read_json", "write_arrays", "write_json", "write_lines", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a scratch file, then put it in `path`'s place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    write_whole(path, lambda scratch: _write_text(scratch, json.dumps(value, indent=indent)))


def read_json(path: Path) -> dict[str, Any]:
    """The file's object; an empty one if there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; delete it to begin that part again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no object; delete it to begin that part again")
    return value


def write_lines(path: Path, lines: list[str]) -> None:
    """Lines of text, compressed."""
    packed = gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)
    write_whole(path, lambda scratch: _write_bytes(scratch, packed))


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    named: dict[str, Any] = dict(arrays)

    def write(scratch: Path) -> None:
        with scratch.open("wb") as file:
            np.savez(file, **named)

    write_whole(path, write)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}; delete it to make it again") from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
