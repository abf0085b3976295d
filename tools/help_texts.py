"""The reference of the command line, docs/commands.md, is what the commands print.

python tools/help_texts.py            exit code 1 where the reference is out of date
python tools/help_texts.py --write    bring it up to date
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from pages import keep_up_to_date
from typer.testing import CliRunner

from cascade.cli import app

REFERENCE = Path(__file__).parent.parent / "docs" / "commands.md"
INTRODUCTION = """\
# The command line

What each command prints with `--help`, written by `make docs`.
"""
WIDTH = 100
"""Columns; fixed, so that the text does not depend on the terminal."""


def help_text(*command: str) -> str:
    """What `cascade COMMAND --help` prints."""
    runner = CliRunner(env={"COLUMNS": str(WIDTH)})
    result = runner.invoke(
        app, [*command, "--help"], prog_name="cascade", terminal_width=WIDTH, catch_exceptions=False
    )
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines()) + "\n"


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and group, a group before its own."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                yield from walk(child, (*path, name))

    return walk(typer.main.get_command(app), ())


def reference() -> str:
    parts = [INTRODUCTION]
    for path in commands():
        name = " ".join(("cascade", *path))
        parts.append(f"{'#' * (len(path) + 1 + (not path))} {name}\n\n```text\n{help_text(*path)}```\n")
    return "\n".join(parts)


def main() -> int:
    return keep_up_to_date(REFERENCE, reference())


if __name__ == "__main__":
    raise SystemExit(main())
