"""Long campaigns: each job once, in order, over processes, and resumed where they broke off."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import SettingsError
from cascade.lab.bench import names
from cascade.lab.bench._campaign import Campaign, Work


def square(number: int, marks: str) -> dict[str, Any]:
    """Leaves a mark for each time it runs."""
    with (Path(marks) / str(number)).open("a") as file:
        file.write("x")
    return {"number": number, "square": number * number}


def fail_unless_there(marks: str) -> dict[str, Any]:
    if not (Path(marks) / "mended").exists():
        raise ZeroDivisionError("the job's own mistake")
    return {"mended": True}


def marks_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def test_figures_come_in_the_order_of_the_jobs_and_each_runs_once(
    marks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    works = [Work(square, (number, str(marks))) for number in (3, 1, 2, 3)]
    rows = Campaign("test", jobs=2).run(works)
    assert [row["square"] for row in rows] == [9, 1, 4, 9]
    assert marks_in(marks) == {"1": 1, "2": 1, "3": 1}
    shown = capsys.readouterr()
    assert "test: 3 of 3 jobs" in shown.err
    assert shown.out == "", "that is for figures"


def test_what_broke_off_goes_on_where_it_was(marks: Path, tmp_path: Path) -> None:
    file = tmp_path / "campaign.jsonl"
    works = [Work(square, (1, str(marks))), Work(fail_unless_there, (str(marks),))]
    with pytest.raises(ZeroDivisionError):
        Campaign("test", jobs=1, resume=str(file)).run(works)
    (marks / "mended").touch()
    rows = Campaign("test", jobs=1, resume=str(file)).run(works)
    assert [row.get("square", "mended") for row in rows] == [1, "mended"]
    assert marks_in(marks)["1"] == 1, "it was not run again"


def test_a_last_line_that_was_not_finished_does_not_count(
    marks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "campaign.jsonl"
    works = [Work(square, (number, str(marks))) for number in (1, 2)]
    Campaign("test", jobs=1, resume=str(file)).run(works)
    os.truncate(file, file.stat().st_size - 5)
    for _ in range(2):
        rows = Campaign("test", jobs=1, resume=str(file)).run(works)
        assert [row["square"] for row in rows] == [1, 4]
    assert sum(marks_in(marks).values()) == 3
    assert "1 jobs were done before, 1 to go" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"code": "another"}) + "\n", "written by other code"),
        ("figures of my own\n", "no campaign's file"),
        ("[1, 2]\n", "no campaign's file"),
        ("", "no campaign's file"),
    ],
)
def test_a_file_that_is_not_this_campaigns_is_refused_and_left_alone(
    text: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "campaign.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=reason):
        Campaign("test", resume=str(file))
    assert file.read_text(encoding="utf-8") == text


def test_its_module_is_no_benchmark() -> None:
    assert not [name for name in names() if name.startswith("_")]
