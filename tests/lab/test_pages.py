"""The laboratory's pages say what the code does and what the shipped experiments find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lab_pages
import pytest

from cascade.errors import SettingsError
from cascade.lab.experiment.campaign import run_campaign
from cascade.lab.experiment.export import export_parquet
from cascade.lab.experiment.reading import read_experiment
from cascade.lab.experiment.schema import LINES
from cascade.lab.experiment.settings import LinkSettings, LoadSettings, ModelSettings, Point, PolicySettings
from cascade.lab.experiment.store import Store
from cascade.lab.experiment.trial import run_trial

ROOT = Path(__file__).parents[2]
KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "yes or no": bool,
}
CASCADE = Point(
    models=ModelSettings(concentration=1),
    link=LinkSettings(rtt_ms=60),
    load=LoadSettings(tokens=80, devices=2),
    policy=PolicySettings(name="cascade", quality=0.9),
)
CHEAP = ROOT / "examples" / "lab" / "wire-bytes.toml"


def test_the_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools/lab_pages.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", LINES)
def test_lines_hold_the_fields_that_the_schema_names(kind: str) -> None:
    known = {field.name: field for field in LINES[kind]}
    lines = run_trial(CASCADE, 1).lines
    assert set(lines) == set(LINES)
    for line in lines[kind]:
        assert set(line) <= set(known)
        for name, field in known.items():
            if field.is_optional and line.get(name) is None:
                continue
            assert isinstance(line[name], KINDS[field.kind]), (name, line)
    seen = {name for line in lines[kind] for name in line}
    assert seen == set(known)


def test_a_cheap_experiment_still_finds_what_the_page_says(tmp_path: Path) -> None:
    """Within 3 %, so that a better scheduler does not fail it for a byte; else the page is written anew."""
    run_campaign(CHEAP, tmp_path, quick=True, jobs=1)
    found = lab_pages.figures_of(read_experiment(CHEAP, quick=True), Store(tmp_path))
    stored = json.loads(lab_pages.STORED.read_text(encoding="utf-8"))[CHEAP.stem]
    for ours, theirs in zip(found["published"], stored["published"], strict=True):
        values = [figure["value"] for figure in ours["figures"]]
        assert values == pytest.approx([figure["value"] for figure in theirs["figures"]], rel=0.03)


def test_parquet_holds_every_line(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    experiment = tmp_path / "small.toml"
    experiment.write_text('seeds = 2\n[load]\ntokens = 30\n[grid]\n"link.rtt_ms" = [0, 50.5]\n')
    run_campaign(experiment, tmp_path / "out", jobs=1)
    files = export_parquet(tmp_path / "out", tmp_path / "parquet")
    assert [path.stem for path in files] == ["runs", *LINES]
    runs = Store(tmp_path / "out").runs()
    for path in files[1:]:
        lines = [{"run": run.folder.name} | line for run in runs for line in run.lines(path.stem)]
        rows = parquet.read_table(path).to_pylist()
        empty = dict.fromkeys(field.name for field in LINES[path.stem])
        assert rows == [empty | line for line in lines]
    table = parquet.read_table(files[0]).to_pylist()
    assert [row["link.rtt_ms"] for row in table] == [0, 0, 50.5, 50.5]
    assert [row["ms_per_token"] for row in table] == [run.figures["ms_per_token"] for run in runs]


def test_export_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no runs"):
        export_parquet(tmp_path, tmp_path / "parquet")
