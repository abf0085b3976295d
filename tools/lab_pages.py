"""The laboratory's pages: what records hold, and what the shipped experiments find.

python tools/lab_pages.py            exit code 1 where a page is out of date
python tools/lab_pages.py --write    bring them up to date with code, experiments and stored figures
python tools/lab_pages.py --run      run the experiments in their quick form first (a minute or two), and
                                     store their figures: docs/lab-figures.json and docs/lab/*.png
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from cascade.lab.experiment.campaign import run_campaign
from cascade.lab.experiment.drawing import draw
from cascade.lab.experiment.measured import FIGURES
from cascade.lab.experiment.reading import read_experiment, shown_axes
from cascade.lab.experiment.report import cells, comparisons
from cascade.lab.experiment.schema import LINES
from cascade.lab.experiment.settings import Experiment
from cascade.lab.experiment.store import Store
from cascade.lab.experiment.style import distinct
from cascade.lab.experiment.summary import grouped

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted((ROOT / "examples" / "lab").glob("*.toml"))
RECORDS_PAGE = ROOT / "docs" / "lab-records.md"
EXPERIMENTS_PAGE = ROOT / "docs" / "lab-experiments.md"
STORED = ROOT / "docs" / "lab-figures.json"
PICTURES = ROOT / "docs" / "lab"
BEGIN, END = "<!-- lines: {} -->\n", "<!-- end -->\n"
INTRODUCTION = """\
# The shipped experiments

Each is one file in `examples/lab`, with what was published, what we find in its place, and where the two
cannot be compared. Figures are those of the quick form (`--quick`), in virtual time: exact, and the same on
every machine. `python tools/lab_pages.py --run` made this page. All as one report, in a minute or two:

```bash
cascade lab run examples/lab --quick --out all
```

Without `--quick` they take more texts, longer ones and more points; a confidence interval needs more than one
seed. Published figures are those of the papers' abstracts, or as Cascade's design counts them where it says.
"""
COLUMNS = "| published | its setting | ours | where it is not like for like |\n|---|---|---|---|\n"


def figures_of(experiment: Experiment, store: Store) -> dict[str, Any]:
    """What the page says of an experiment."""
    if experiment.published:
        return {"published": comparisons(store)}
    first = next(iter(experiment.axes))
    others = [name for name in shown_axes(experiment) if name != first]
    groups = grouped(store.runs())
    columns = distinct(group.settings[first] for group in groups)
    rows: dict[str, list[str]] = {}
    for group in groups:
        row = rows.setdefault(", ".join(str(group.settings[name]) for name in others), [""] * len(columns))
        row[columns.index(group.settings[first])] = f"{group.figure('ms_per_token').mean:.1f}"
    return {"axes": [", ".join(others), first], "columns": columns, "rows": rows}


def run() -> None:
    """Run all in the quick form, and store what the page needs."""
    PICTURES.mkdir(exist_ok=True)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in EXPERIMENTS:
            print(path.stem, file=sys.stderr)
            out = Path(folder) / path.stem
            run_campaign(path, out, quick=True)
            store = Store(out)
            found[path.stem] = figures_of(read_experiment(path, quick=True), store)
            picture = draw(store.experiment.figures[0], store.runs())
            picture.savefig(PICTURES / f"{path.stem}.png", dpi=80, metadata={"Software": None})
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def experiments_page() -> str:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    parts = [INTRODUCTION]
    for path in EXPERIMENTS:
        experiment, found = read_experiment(path), stored[path.stem]
        title = experiment.figures[0].title
        parts.append(
            f"## {path.stem}\n\n{experiment.about}\n\n"
            f"```bash\ncascade lab run examples/lab/{path.name} --quick --out {path.stem}\n```\n\n"
            f"![{title}](lab/{path.stem}.png)\n\n{_table(found)}"
        )
    return "\n".join(parts)


def records_page(page: str) -> str:
    """The page with the tables of the code's own fields."""
    for kind, fields in LINES.items():
        head, begin, rest = page.partition(BEGIN.format(kind))
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{RECORDS_PAGE.name} has no place for {kind}: {BEGIN.format(kind).strip()}")
        rows = ""
        for field in fields:
            kind_of_value = f"{field.kind}{', may be missing' if field.is_optional else ''}"
            rows += f"| `{field.name}` | {kind_of_value} | {field.about} |\n"
        page = f"{head}{begin}\n| field | is | says |\n|---|---|---|\n{rows}\n{end}{tail}"
    return page


def _table(found: dict[str, Any]) -> str:
    if "published" in found:
        return COLUMNS + "".join(f"| {' | '.join(map(_cell, cells(row)))} |\n" for row in found["published"])
    others, first = found["axes"]
    head = (
        f"| {FIGURES['ms_per_token']}: {others} \\\\ {first} | {' | '.join(map(str, found['columns']))} |\n"
    )
    rule = "|---|" + "--:|" * len(found["columns"]) + "\n"
    return head + rule + "".join(f"| {name} | {' | '.join(row)} |\n" for name, row in found["rows"].items())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    if "--run" in sys.argv[1:]:
        run()
    fresh = {
        RECORDS_PAGE: records_page(RECORDS_PAGE.read_text(encoding="utf-8")),
        EXPERIMENTS_PAGE: experiments_page(),
    }
    old = [
        page for page, text in fresh.items() if not page.is_file() or page.read_text(encoding="utf-8") != text
    ]
    if {"--write", "--run"} & set(sys.argv[1:]):
        for page in old:
            page.write_text(fresh[page], encoding="utf-8")
            print(f"{page.name}: brought up to date")
        return 0
    for page in old:
        print(f"docs/{page.name} is out of date; python tools/lab_pages.py --write", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    raise SystemExit(main())
