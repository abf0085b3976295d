"""The docs are true: snippets run, help texts are what the command prints, links lead somewhere.

A snippet is a fenced block marked `python`; those of one page run in order and share their names. A block
that cannot run by itself is marked ```` ```python no-run ````, which keeps its colours.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cascade.apps.serving import read_config

from .pages import ROOT, each_page

SNIPPET = re.compile(r"^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
DATA = re.compile(r"^```(?P<kind>toml|json)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`((?:cascade|tests|tools|examples|brokers|docs)/[\w./-]+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<target>[^)#\s]+)")


@each_page
def test_snippets_run(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # what a snippet writes does not stay
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    for match in SNIPPET.finditer(text):
        # Empty lines in front, so that a traceback shows the page's own line numbers.
        line = text.count("\n", 0, match.start("code"))
        exec(compile("\n" * line + match["code"], str(page), "exec"), names)


@each_page
def test_toml_and_json_can_be_read(page: Path) -> None:
    for match in DATA.finditer(page.read_text(encoding="utf-8")):
        (tomllib if match["kind"] == "toml" else json).loads(match["text"])


@pytest.mark.parametrize("page", ["docs/guides/operator.md"])
def test_limits_are_ones_that_an_edge_takes(page: str, tmp_path: Path) -> None:
    blocks = [match["text"] for match in DATA.finditer((ROOT / page).read_text(encoding="utf-8"))]
    assert blocks
    for number, text in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(text, encoding="utf-8")
        read_config(path)


@each_page
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@each_page
def test_files_that_are_named_are_there(page: Path) -> None:
    names = FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/help_texts.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_example_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = re.findall(r"^#+ (cascade .*)\n\n```text\n((?:.*\n)*?)```", reference, re.MULTILINE)
    assert len(commands) > 5
    for name, text in commands:
        assert "  Example:\n    cascade " in text, name
        assert f"`{' '.join(name.split()[:2])}" in readme, name
