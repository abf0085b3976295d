"""The page for people who are stuck quotes errors as the code says them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from .pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "…"
SHELL = "command not found"
MIN_LETTERS = 8
"""Of a quotation between two gaps, to be one."""


@cache
def said() -> list[str]:
    """Every text in the sources; `…` stands for what is put in."""
    found = [(ROOT / "Makefile").read_text(encoding="utf-8")]
    paths = [path for folder in ("cascade", "brokers") for path in (ROOT / folder).rglob("*.py")]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def is_said(quotation: str) -> bool:
    """Its pieces stand in one text, in this order; a field's name in front is put there by the error."""
    pieces = [piece.strip() for piece in quotation.split(GAP) if len(piece.strip()) >= MIN_LETTERS]
    assert pieces, quotation
    pattern = re.compile(".*".join(re.escape(piece) for piece in pieces), re.DOTALL)
    return any(pattern.search(text) for text in said())


def quotations() -> list[str]:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [line[2:].split(" | ")[0].partition(", with `")[0] for line in rows]
    quoted: list[str] = []
    for cell in cells:
        quoted += [text.strip("`") for text in re.split(r"`, `", cell)]
    return [re.sub(r"^(?:url|tokenizer): ", "", text) for text in quoted if SHELL not in text]


@pytest.mark.parametrize("quotation", quotations())
def test_the_code_says_so(quotation: str) -> None:
    assert is_said(quotation)


def test_a_message_that_nobody_says_would_be_seen() -> None:
    assert len(quotations()) > 15
    assert not is_said("cannot find …; have you lost it?")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages: list[Path] = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "guides").glob("*.md")]
    names = [path.relative_to(ROOT / "docs").as_posix() for path in pages if path.name != "README.md"]
    assert [name for name in names if f"({name})" not in index] == []
