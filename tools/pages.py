"""Pages that a program writes: they are up to date, are brought up to date, or are said not to be."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["keep_up_to_date"]


def keep_up_to_date(page: Path, fresh: str) -> int:
    """An exit code: 1 where the page is out of date and `--write` was not asked for."""
    if page.is_file() and page.read_text(encoding="utf-8") == fresh:
        return 0
    if "--write" in sys.argv[1:]:
        page.write_text(fresh, encoding="utf-8")
        print(f"{page.name}: brought up to date")
        return 0
    print(f"docs/{page.name} is out of date; `make docs` rewrites it", file=sys.stderr)
    return 1
