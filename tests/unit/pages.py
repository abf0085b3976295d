"""The pages that people read."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["PAGES", "ROOT", "each_page"]

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "docs", "docs/guides", "brokers", "examples")
PAGES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
