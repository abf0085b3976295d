"""The reference of settings: up to date, whole, and nothing on it without an explanation."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import settings_page

from cascade.settings import check_int, check_number

ROOT = Path(__file__).parents[2]
ENDINGS = ("Settings", "Options", "Quota", "Conditions")


def test_it_is_up_to_date() -> None:
    assert settings_page.REFERENCE.read_text(encoding="utf-8") == settings_page.reference(), "run `make docs`"


@pytest.mark.parametrize(("module", "name", "where"), settings_page.SECTIONS)
def test_every_field_is_explained(module: str, name: str, where: str) -> None:
    kind = getattr(importlib.import_module(module), name)
    assert [each.name for each in settings_page.settings_of(kind) if not each.meaning] == []
    assert where


def test_no_settings_are_forgotten() -> None:
    listed = {(module, name) for module, name, _ in settings_page.SECTIONS}
    found = set()
    for path in (ROOT / "cascade").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith(ENDINGS):
                source = " ".join(map(ast.unparse, node.decorator_list))
                if "frozen=True" in source and not node.name.startswith("_"):
                    found.add((module, node.name))
    assert found - listed == set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One."""

    needed_s: float
    """How long.
    In two lines, with a | in it."""
    kv_bytes: int = 2 << 20
    tokens_per_s: float = 0.5
    is_on: bool = False
    first: int = 1
    """Both are checked in a loop."""
    second: int = 2
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_number("needed_s", self.needed_s, low=0, high=10)
        check_int("kv_bytes", self.kv_bytes, low=1)
        for name in ("first", "second"):
            check_int(name, getattr(self, name), high=9)


def test_what_is_read_from_the_code() -> None:
    rows = {each.name: each for each in settings_page.settings_of(Sample)}
    needed = rows["needed_s"]
    assert (needed.default, needed.unit, needed.bounds) == ("needed", "s", "0 to 10")
    assert needed.meaning == "How long. In two lines, with a \\| in it."
    kv = rows["kv_bytes"]
    assert (kv.default, kv.unit, kv.bounds, kv.meaning) == ("2 MiB", "bytes", "from 1", "")
    assert (rows["tokens_per_s"].unit, rows["is_on"].default) == ("tokens a second", "no")
    assert (rows["first"].bounds, rows["second"].bounds) == ("to 9", "to 9")
    assert rows["names"].default == "see there"
