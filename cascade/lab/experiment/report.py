"""A report, drawn from the records: one page that needs no network; every figure as SVG and PNG beside it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import SettingsError
from .drawing import draw
from .measured import FIGURES
from .reading import read_experiment, shown_axes
from .settings import Experiment, FigureSettings
from .store import Run, Store
from .summary import grouped

__all__ = ["write_report"]

DEFAULT_FIGURES = (FigureSettings(kind="cdf", title="Gaps between tokens"),)
TABLE = ("ms_per_token", "first_token_ms", "passes_per_token", "hinted_share", "bytes_per_token")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1b; background: #fff; }
h1, h2 { line-height: 1.2; } figure { margin: 2rem 0; } svg { max-width: 100%; height: auto; }
figcaption, .about { color: #555; } code { background: #f2f2f2; padding: .1em .3em; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { text-align: left; } thead th { border-bottom: 2px solid #888; }
"""


def write_report(folder: Path) -> Path:
    """Draw everything again from what is in the folder; returns the page."""
    store = Store(folder)
    experiment = read_experiment(store.experiment_file)
    runs = store.runs()
    try:
        import matplotlib
    except ImportError:
        raise SettingsError("report", "needs matplotlib; pip install 'cascade-edge[lab]'") from None
    matplotlib.rcParams["svg.hashsalt"] = "cascade"  # no random ids: the same records give the same bytes
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    parts = [_head(experiment, runs, folder)]
    for number, figure in enumerate(experiment.figures or DEFAULT_FIGURES, 1):
        title = figure.title or f"{FIGURES.get(figure.y, figure.y)} over {figure.x or 'time'}"
        picture = draw(figure, runs)
        name = f"{number}-{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')[:60]}"
        drawn = io.StringIO()
        picture.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        picture.savefig(pictures / f"{name}.png", dpi=150, metadata={"Software": None})
        svg = drawn.getvalue()
        (pictures / f"{name}.svg").write_text(svg, encoding="utf-8")
        parts.append(_figure(title, figure, svg, number, folder))
    parts.append(_table(experiment, runs))
    page = folder / "report.html"
    title = html.escape(experiment.name)
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><body>'
        f"{''.join(parts)}</body></html>\n",
        encoding="utf-8",
    )
    return page


def _head(experiment: Experiment, runs: Sequence[Run], folder: Path) -> str:
    clock = "virtual time: exact, the same on every machine" if experiment.clock == "virtual" else "real time"
    command = f"cascade lab run {experiment.name}.toml --out {folder.name}"
    return (
        f"<h1>{html.escape(experiment.name)}</h1><p>{html.escape(experiment.about)}</p>"
        f'<p class="about">{len(runs)} runs: {len(experiment.points)} points, {experiment.seeds} seeds each, '
        f"{clock}. Made by <code>{html.escape(command)}</code>.</p>"
    )


def _figure(title: str, figure: FigureSettings, svg: str, number: int, folder: Path) -> str:
    where = ", ".join(f"{name} = {value}" for name, value in figure.where.items())
    ids = f"figure{number}-"
    inline = svg[svg.index("<svg") :]
    # Several pictures share one page, so their ids must differ.
    inline = re.sub(r'(id="|href="#|url\(#)', lambda match: match[1] + ids, inline)
    inline = inline.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    command = f"cascade lab report {folder.name}"
    note = " Bars are 95 % intervals over seeds." if figure.kind == "lines" else ""
    return (
        f"<figure><h2>{html.escape(title)}</h2>{inline}<figcaption>"
        f"{html.escape(where + '.' if where else '')}{note} "
        f"<code>{html.escape(command)}</code></figcaption></figure>"
    )


def _table(experiment: Experiment, runs: Sequence[Run]) -> str:
    axes = shown_axes(experiment)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in axes)
    head += "".join(f"<th>{html.escape(FIGURES[name])}</th>" for name in TABLE)
    rows = []
    for group in grouped(runs):
        cells = "".join(f"<th>{html.escape(str(group.settings[name]))}</th>" for name in axes)
        cells += "".join(f"<td>{group.figure(name)}</td>" for name in TABLE)
        rows.append(f"<tr>{cells}</tr>")
    if not rows:
        raise SettingsError("dir", "there is nothing to put into a table")
    return (
        "<h2>All points</h2><p class='about'>Mean over seeds, ± half of the 95 % confidence interval.</p>"
        f'<div class="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
