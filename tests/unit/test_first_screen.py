"""What the README shows first is stored in the repository, and what is stored says where it comes from."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import first_screen
import pair_table
import pytest

from cascade.cli import main as cascade
from cascade.device import Policy
from cascade.lab.design_plot import plot_design
from cascade.lab.simulation import Setting, simulate

from .pages import ROOT

STORED = sorted((ROOT / "docs" / "bench").glob("*.json"))


def test_table_and_picture_are_those_of_the_stored_figures() -> None:
    command = [sys.executable, str(ROOT / "tools" / "first_screen.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_figures_say_when_where_and_how(path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["command"].startswith(f"cascade bench {path.stem}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", stored["date"])
    assert "cores" in stored["hardware"]
    assert {"cascade", "python", "numpy"} <= set(stored["versions"])
    assert stored["figures"]


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be changed."""
    copy = tmp_path / "README.md"
    copy.write_bytes(first_screen.README.read_bytes())
    monkeypatch.setattr(first_screen, "README", copy)
    monkeypatch.setattr(sys, "argv", ["first_screen.py"])
    return copy


def test_a_figure_that_is_not_stored_would_be_seen(readme: Path) -> None:
    assert first_screen.main() == 0
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("| **31** |", "| **30** |"), encoding="utf-8")
    assert first_screen.main() == 1
    sys.argv.append("--write")
    assert first_screen.main() == 0
    assert readme.read_text(encoding="utf-8") == text


def test_a_picture_of_other_figures_would_be_seen(
    readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(first_screen.FIGURES.read_text(encoding="utf-8"))
    picture = tmp_path / "picture.svg"
    plot_design(stored["figures"]["cells"], str(picture), about="figures of another day")
    monkeypatch.setattr(first_screen, "PICTURE", picture)
    assert first_screen.main() == 1
    sys.argv.append("--write")
    assert first_screen.main() == 0
    assert first_screen.digest(stored) in picture.read_text(encoding="utf-8")


def test_real_figures_are_shown_once_they_are_stored(
    readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(first_screen.FIGURES.read_text(encoding="utf-8"))
    row = {"rtt_ms": 50, "temperature": 0, "cloud_ms_per_token": 31.6, "hint_driven_ms_per_token": 24.4}
    rows = [{**row, "agreement": 0.613}, {**row, "temperature": 0.8, "agreement": 0.2}]
    real = tmp_path / "pair.json"
    real.write_text(json.dumps({**stored, "command": "cascade bench pair", "figures": {"grid": rows}}))
    monkeypatch.setattr(first_screen, "REAL_FIGURES", real)
    sys.argv.append("--write")
    assert first_screen.main() == 0
    text = " ".join(readme.read_text(encoding="utf-8").split())
    assert "plain streaming and hint-driven: 32 and 24 at R = 50 ms. The bundled pair" in text
    assert "right 61% of the time" in text


def test_the_page_of_the_real_pair_shows_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "scheduler.md"
    text = pair_table.PAGE.read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    monkeypatch.setattr(pair_table, "PAGE", copy)
    monkeypatch.setattr(sys, "argv", ["pair_table.py"])
    assert pair_table.main() == 0
    row = json.loads(pair_table.FIGURES.read_text(encoding="utf-8"))["figures"]["grid"][0]
    figure = f"{row['gain']:.2f}"
    copy.write_text(text.replace(f"| {figure} |", "| 9.99 |"), encoding="utf-8")
    assert pair_table.main() == 1
    sys.argv.append("--write")
    assert pair_table.main() == 0
    assert copy.read_text(encoding="utf-8") == text


def test_a_bound_that_was_missed_is_shown_as_missed() -> None:
    stored = json.loads(pair_table.FIGURES.read_text(encoding="utf-8"))
    must = {"must": "a gain", "figure": 0.84, "bound": 0.9, "holds": False}
    for holds, ending in (
        (False, "- a gain: 0.84, bound 0.9: missed\n"),
        (True, "- a gain: 0.84, bound 0.9\n"),
    ):
        stored["figures"]["musts"] = [{**must, "holds": holds}]
        assert pair_table.shown(stored).endswith(ending)


def test_a_benchmark_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cascade.lab.bench import design

    def run(*, quick: bool = False) -> dict[str, Any]:
        return {"answer": 42, "is_quick": quick}

    monkeypatch.setattr(design, "run", run)
    with pytest.raises(SystemExit) as ended:
        cascade(["bench", "design", "--quick", "--json", "--out", str(tmp_path / "new" / "folder")])
    assert not ended.value.code
    stored = json.loads((tmp_path / "new" / "folder" / "design.json").read_text())
    assert (
        stored["figures"]
        == {"answer": 42, "is_quick": True}
        == json.loads(capsys.readouterr().out)["figures"]
    )
    assert stored["command"] == "cascade bench design --quick"


def test_a_folder_that_cannot_be_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        cascade(["bench", "design", "--out", str(tmp_path / "file" / "folder")])
    assert ended.value.code == 2
    assert "cannot make" in capsys.readouterr().err


def test_what_is_stored_is_what_the_code_gives() -> None:
    """One cell of the table, to the millisecond that is shown."""
    stored = json.loads(first_screen.FIGURES.read_text(encoding="utf-8"))["figures"]
    (cell,) = (
        cell
        for cell in stored["cells"]
        if (cell["agreement"], cell["policy"], cell["rtt_ms"]) == (0.8, "hint-driven", 100)
    )
    times_ms = [
        simulate(
            Setting(
                agreement=0.8,
                rtt_s=0.1,
                policy=Policy.hint_driven(),
                num_tokens=stored["tokens"],
                rotation=number / stored["runs"],
            )
        ).summary.time_per_token_s
        * 1000
        for number in range(stored["runs"])
    ]
    assert statistics.fmean(times_ms) == pytest.approx(cell["ms_per_token"], abs=0.5)
