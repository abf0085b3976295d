"""The first screen of the README shows figures that are stored in docs/bench, and nothing else.

python tools/first_screen.py            exit code 1 where table or picture is out of date
python tools/first_screen.py --write    bring both up to date; the picture needs matplotlib

Fresh figures: `make bench BENCH=docs/bench`, or `cascade bench design --quick --out docs/bench` alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "bench" / "design.json"
REAL_FIGURES = ROOT / "docs" / "bench" / "pair.json"
"""Of real models; shown where they are stored."""
PICTURE = ROOT / "docs" / "first-screen.svg"
BETWEEN = re.compile(r"(?<=<!-- by tools/first_screen.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
WIDTH = 120
ABOUT = """
A pass of the target takes 50 ms, a step of the draft 5 ms; the draft agrees with the target on the given
share of tokens. *Patient* lets the edge wait R + 10 ms for hints before it goes on alone: at agreement 0.8
and R = 100 ms {patient[passes_per_token]:.2f} passes of the edge per token in place of
{eager[passes_per_token]:.2f}, and {patient[payload_bytes_per_token]:.1f} bytes of payload in place of
{eager[payload_bytes_per_token]:.1f}.

**Method**: the device, the wire and the edge of this repository with a synthetic pair of models in virtual
time, so these figures are exact and the same on any machine; {figures[runs]} runs of {figures[tokens]}
tokens a cell. `{command}`, {day}, {on}; all of it is in [docs/bench/design.json](docs/bench/design.json).
The picture has the lines of agreement 0.8 (`--plot FILE`).
""".strip()
REAL = """
**With real models**, milliseconds per token at temperature 0, plain streaming and hint-driven: {cells}. The
bundled pair, whose draft is right {agreement:.0%} of the time; edge and device with a core each.
`{command}`, {day}, {on}: [docs/bench/pair.json](docs/bench/pair.json).
""".strip()

SHOWN = (
    ("0.6", "ask-and-wait", "ask and wait, best k"),
    ("0.6", "hint-driven", "**hint-driven**"),
    ("0.8", "ask-and-wait", "ask and wait, best k"),
    ("0.8", "hint-driven", "**hint-driven**"),
    ("0.8", "patient", "hint-driven, patient"),
    ("0.9", "ask-and-wait", "ask and wait, best k"),
    ("0.9", "hint-driven", "**hint-driven**"),
)
"""Agreement, policy, and what the table calls it."""


def table(stored: dict[str, Any]) -> str:
    """In markdown, with the method behind it."""
    figures = stored["figures"]
    cells = {(str(cell["agreement"]), cell["policy"], cell["rtt_ms"]): cell for cell in figures["cells"]}
    rtts = sorted({rtt_ms for _, _, rtt_ms in cells})
    lines = [
        "| agreement | ms per token | " + " | ".join(f"R = {rtt_ms} ms" for rtt_ms in rtts) + " |",
        "|---|---|" + "---|" * len(rtts),
        "| any | plain streaming | " + " | ".join("50" for _ in rtts) + " |",
    ]
    for agreement, policy, name in SHOWN:
        times_ms = [round(cells[agreement, policy, rtt_ms]["ms_per_token"]) for rtt_ms in rtts]
        is_bold = name.startswith("**")
        shown = [f"**{time_ms}**" if is_bold else str(time_ms) for time_ms in times_ms]
        lines.append(f"| {agreement} | {name} | " + " | ".join(shown) + " |")
    figures_of = {"eager": cells["0.8", "hint-driven", 100], "patient": cells["0.8", "patient", 100]}
    about = ABOUT.format(**figures_of, **stored, day=stored["date"][:10], on=hardware(stored))
    if REAL_FIGURES.is_file():
        about += "\n\n" + real(json.loads(REAL_FIGURES.read_text(encoding="utf-8")))
    paragraphs = [textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in about.split("\n\n")]
    return "\n".join(lines) + "\n\n" + "\n\n".join(paragraphs) + "\n"


def real(stored: dict[str, Any]) -> str:
    """What the bundled pair does in real time."""
    rows = [row for row in stored["figures"]["grid"] if row["temperature"] == 0]
    cells = [
        f"{row['cloud_ms_per_token']:.0f} and {row['hint_driven_ms_per_token']:.0f} at R = {row['rtt_ms']} ms"
        for row in rows
    ]
    agreement = sum(row["agreement"] for row in rows) / len(rows)
    day, on = stored["date"][:10], hardware(stored)
    return REAL.format(cells=", ".join(cells), agreement=agreement, command=stored["command"], day=day, on=on)


def hardware(stored: dict[str, Any]) -> str:
    return f"{stored['hardware']}, Python {stored['versions']['python']}"


def digest(stored: dict[str, Any]) -> str:
    """Of the figures; the picture carries it."""
    return hashlib.sha256(json.dumps(stored["figures"], sort_keys=True).encode()).hexdigest()[:16]


def main() -> int:
    stored = json.loads(FIGURES.read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    fresh, num_places = BETWEEN.subn(lambda _: table(stored), text)
    if num_places != 1:
        print(f"README.md has {num_places} places for the table, not one", file=sys.stderr)
        return 1
    is_drawn = PICTURE.is_file() and digest(stored) in PICTURE.read_text(encoding="utf-8")
    if fresh == text and is_drawn:
        return 0
    if "--write" in sys.argv[1:]:
        README.write_text(fresh, encoding="utf-8")
        if not is_drawn:
            from cascade.lab.design_plot import plot_design

            plot_design(stored["figures"]["cells"], str(PICTURE), about=f"figures {digest(stored)}")
        print("README.md, docs/first-screen.svg: brought up to date")
        return 0
    print("the first screen does not show the figures of docs/bench; `make docs` repairs it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
