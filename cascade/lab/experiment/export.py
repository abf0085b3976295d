"""Records as Parquet, for questions of one's own: a file for each kind of line, and one for the runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SettingsError
from .schema import LINES
from .store import Run, Store

if TYPE_CHECKING:
    import pyarrow

__all__ = ["export_parquet"]

ROW_GROUP_RUNS = 64
"""Runs that are written together: the lines of a large campaign do not fit into memory."""


def export_parquet(folder: Path, out: Path) -> list[Path]:
    """Write `runs.parquet`, and `tokens.parquet` and so on as far as lines were kept; returns the files."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise SettingsError("export", "needs pyarrow; pip install 'cascade-edge[lab]'") from None
    runs = Store(folder).runs()
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [out / "runs.parquet"]
        parquet.write_table(pyarrow.Table.from_pylist([_run_row(run) for run in runs]), written[0])
        for kind in LINES:
            if not any((run.folder / f"{kind}.jsonl").is_file() for run in runs):
                continue
            schema = _schema(kind)
            written.append(out / f"{kind}.parquet")
            with parquet.ParquetWriter(written[-1], schema) as writer:
                for first in range(0, len(runs), ROW_GROUP_RUNS):
                    some = runs[first : first + ROW_GROUP_RUNS]
                    rows = [{"run": run.folder.name} | line for run in some for line in run.lines(kind)]
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    except OSError as error:
        raise SettingsError("out", f"cannot write to {out}: {error.strerror or error}") from None
    return written


def _schema(kind: str) -> pyarrow.Schema:
    import pyarrow

    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "yes or no": pyarrow.bool_(),
    }
    fields = [(field.name, types[field.kind]) for field in LINES[kind]]
    return pyarrow.schema([("run", pyarrow.string()), *fields])


def _run_row(run: Run) -> dict[str, Any]:
    """Settings and figures side by side; what is no plain value as JSON."""
    settings = {
        name: value if isinstance(value, str | int | float | bool) else json.dumps(value)
        for name, value in run.settings.items()
    }
    # The same setting may be written 5 at one point and 5.0 at another: a column has one type.
    numbers = {name: float(value) for name, value in settings.items() if type(value) is int}
    return {
        "run": run.folder.name,
        "seed": run.seed,
        **settings,
        **numbers,
        **run.figures,
        "digest": run.digest,
    }
