"""Help texts in README.md are what the command prints, between markers.

    python tools/help_texts.py            exit code 1 where the README is out of date
    python tools/help_texts.py --write    bring it up to date

A marker is `<!-- help: cascade bench -->`, and `<!-- /help -->` ends it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from typer.testing import CliRunner

from cascade.cli import app

README = Path(__file__).parent.parent / "README.md"
SECTION = re.compile(r"(<!-- help: cascade(?P<command>[\w -]*?) -->\n).*?(<!-- /help -->)", re.DOTALL)
WIDTH = 88
"""Columns; fixed, so that the text does not depend on the terminal."""


def help_text(*command: str) -> str:
    """What `cascade COMMAND --help` prints."""
    runner = CliRunner(env={"COLUMNS": str(WIDTH)})
    result = runner.invoke(
        app, [*command, "--help"], prog_name="cascade", terminal_width=WIDTH, catch_exceptions=False
    )
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines()) + "\n"


def updated(readme: str) -> str:
    """The README's text with every help text as it is now."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}```text\n{help_text(*match['command'].split())}```\n{match[3]}"

    return SECTION.sub(fill, readme)


def main() -> int:
    readme = README.read_text(encoding="utf-8")
    fresh = updated(readme)
    if fresh == readme:
        return 0
    if "--write" in sys.argv[1:]:
        README.write_text(fresh, encoding="utf-8")
        print("README.md: help texts brought up to date")
        return 0
    print("README.md: help texts are out of date; `make docs` rewrites them", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
