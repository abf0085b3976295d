"""Every example runs as it stands, in a process of its own, and says what it promises."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES = 59

SAYS: Mapping[str, tuple[str, ...]] = {
    "chat_app": ("> You said: Hello", "> You said: Grüße aus Köln 🙂", "tokens guessed here]"),
    "hello_stream": ("+", "100 tokens (", "ended by length"),
    "iot_gateway": (
        "summaries/kitchen: You said: Summarise this log of the kitchen",
        "summaries/hall: ",
        "10:04 21.0 C",
    ),
    "latency_experiment": ("plain streaming             50.1    50.1    50.1    50.1", "hint-driven"),
    "lossy_link": ("600 virtual seconds", "% lost"),
    "offline_notes": (
        "alone: You sYidY CalY",
        "You said: Call Ada about the boat   [34 tokens without an edge]",
        "You said: A bench by the pond   [0 tokens without an edge]",
    ),
    "openai_client": ("You said: Why is the sky blue?", "'hinted': "),
    "own_draft": ("You said: Thank you for your order. It has been sent", "tokens were guessed"),
    "own_link": ("You said: Hello over a socket",),
    "own_policy": ("charge 100%:  27.9 ms a token", "one text"),
    "several_streams": ("stream 7: 60 tokens", "0 sessions are open", "0 bytes sent"),
    "two_edges": ("You said: Which of you", "opened 2 times", "one text"),
    "without_torch": ('"room": "attic"', "tokens were looked up", "torch was not imported"),
}
"""What is on standard output, among other things."""
TYPED = {"chat_app": "Hello\nGrüße aus Köln 🙂\n\n"}
NEEDS = {"iot_gateway": pytest.mark.needs_mosquitto}

each_example = pytest.mark.parametrize(
    "example", [pytest.param(path, marks=NEEDS.get(path.stem, ()), id=path.stem) for path in EXAMPLES]
)


def run(example: Path, *arguments: str, typed: str = "", timeout_s: float = 120, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **env},
        input=typed,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@each_example
def test_it_runs_as_it_stands(example: Path, tmp_path: Path) -> None:
    said = run(example, typed=TYPED.get(example.stem, ""), CASCADE_DATA=str(tmp_path))
    assert [text for text in SAYS[example.stem] if text not in said] == []


@each_example
def test_it_is_short_and_says_how_to_run_it(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    about = ast.get_docstring(ast.parse(text)) or ""
    assert f"python examples/{example.name}" in about
    assert "eeds " in about.partition("\n")[0], "which extra it needs stands in the first line"


def test_all_are_listed() -> None:
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"[{path.name}]({path.name})" not in page] == []
    assert set(SAYS) == {path.stem for path in EXAMPLES}


def test_the_one_without_torch_runs_where_there_is_none(tmp_path: Path) -> None:
    for name in ("torch", "transformers"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    said = run(ROOT / "examples" / "without_torch.py", PYTHONPATH=path)
    assert "torch was not imported" in said
