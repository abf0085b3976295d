"""What needs a system program is skipped visibly at home, and fails in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

INI = """
[pytest]
markers =
    needs_mosquitto: a program that is not there
    needs_chromium: a program that is there
"""

TESTS = """
import pytest

@pytest.mark.needs_mosquitto
def test_that_needs_what_is_missing(): pass

@pytest.mark.needs_chromium
def test_that_needs_what_is_there(): pass
"""

PROGRAMS = """
PROGRAMS = {"needs_mosquitto": ("no-such-program",), "needs_chromium": ("no-such-browser", "sh")}
"""


@pytest.mark.parametrize(
    ("ci", "outcome", "reason"),
    [
        ("", "1 passed, 1 skipped", "no-such-program is not installed; on Debian: apt-get install"),
        ("true", "1 passed, 1 error", "no-such-program is not installed, and in CI it must be"),
    ],
)
def test_a_missing_program(ci: str, outcome: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8") + PROGRAMS)
    (tmp_path / "test_needs.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsE", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert outcome in done.stdout
    assert reason in done.stdout
    assert (done.returncode == 0) == (not ci)
