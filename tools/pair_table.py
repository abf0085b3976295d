"""What docs/scheduler.md shows of the real pair is what docs/bench/pair.json holds.

python tools/pair_table.py            exit code 1 where the page is out of date
python tools/pair_table.py --write    bring it up to date

Fresh figures: `cascade bench pair --out docs/bench`.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pages import keep_up_to_date

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "scheduler.md"
FIGURES = ROOT / "docs" / "bench" / "pair.json"
BETWEEN = re.compile(r"(?<=<!-- by tools/pair_table.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
WIDTH = 150
COLUMNS = {
    "R": "rtt_ms",
    "T": "temperature",
    "plain": "cloud_ms_per_token",
    "ask-and-wait": "ask_and_wait_ms_per_token",
    "hint-driven": "hint_driven_ms_per_token",
    "agreement": "agreement",
    "gain": "gain",
    "expected": "expected_gain",
    "by expected": "gain_by_expected",
    "in virtual time": "gain_in_virtual_time",
    "first token by plain's": "first_token_by_cloud",
}
ABOUT = """
{hardware}, one for the edge ({format}, {row_ms:.1f} ms a row before the runs) and one for the device;
milliseconds per token, medians over the prompts. `{command}`, {day}: [bench/pair.json](bench/pair.json).
"""


def shown(stored: dict[str, Any]) -> str:
    """In markdown: on what, the table, the bounds."""
    figures = stored["figures"]
    rows = figures["grid"]
    curve = next(each for each in figures["pass_ms_by_rows"] if each["format"] == figures["edge_format"])
    about = ABOUT.format(
        hardware=stored["hardware"],
        format=figures["edge_format"],
        row_ms=curve["1"],
        command=stored["command"],
        day=stored["date"][:10],
    )
    columns = {name: key for name, key in COLUMNS.items() if all(key in row for row in rows)}
    lines = [_line(columns), "|---" * len(columns) + "|"]
    lines += [_line(_cell(key, row[key]) for key in columns.values()) for row in rows]
    bounds = "".join(_bound(must) for must in figures["musts"])
    return f"{textwrap.fill(' '.join(about.split()), WIDTH)}\n\n" + "\n".join(lines) + f"\n\n{bounds}"


def _bound(must: dict[str, Any]) -> str:
    missed = "" if must["holds"] else ": missed"
    return f"- {must['must']}: {must['figure']:.2f}, bound {must['bound']:g}{missed}\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(key: str, value: float) -> str:
    digits = 1 if key.endswith("_ms_per_token") else 2
    return f"{value:g}" if key in ("rtt_ms", "temperature") else f"{value:.{digits}f}"


def main() -> int:
    stored = json.loads(FIGURES.read_text(encoding="utf-8"))
    fresh, num_places = BETWEEN.subn(lambda _: shown(stored), PAGE.read_text(encoding="utf-8"))
    if num_places != 1:
        raise SystemExit(f"{PAGE.name} has {num_places} places for the table, not one")
    return keep_up_to_date(PAGE, fresh)


if __name__ == "__main__":
    raise SystemExit(main())
