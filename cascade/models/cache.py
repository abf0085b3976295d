"""The user's cache folder: fetched and converted models live there, and nothing else does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "made_whole"]


def cache_folder() -> Path:
    """CASCADE_CACHE, else XDG_CACHE_HOME/cascade, else ~/.cache/cascade. Not created here."""
    chosen = os.environ.get("CASCADE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "cascade"


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that becomes `target` in one step if the block succeeds.

    So a folder that exists is complete, whatever was interrupted. If another process was faster,
    its result stays and ours is dropped.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
