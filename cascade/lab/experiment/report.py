"""A report, drawn from the records: one page that needs no network; every figure as SVG and PNG beside it."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import SettingsError
from .comparing import stand_beside
from .drawing import draw
from .measured import FIGURES
from .reading import shown_axes
from .settings import Experiment, FigureSettings, PublishedSettings
from .store import Run, Store
from .summary import grouped

__all__ = ["cells", "comparisons", "shown", "write_book", "write_report"]

DEFAULT_FIGURES = (FigureSettings(kind="cdf", title="Gaps between tokens"),)
TABLE = ("ms_per_token", "first_token_ms", "passes_per_token", "hinted_share", "bytes_per_token")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1b1b; background: #fff; }
h1, h2 { line-height: 1.2; } figure { margin: 2rem 0; } svg { max-width: 100%; height: auto; }
h1:not(:first-child) { margin-top: 4rem; border-top: 2px solid #888; padding-top: 1rem; }
figcaption, .about { color: #555; } code { background: #f2f2f2; padding: .1em .3em; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { text-align: left; } thead th { border-bottom: 2px solid #888; white-space: normal; }
.published td, .published th { text-align: left; white-space: normal; vertical-align: top; }
"""


def write_report(folder: Path) -> Path:
    """Draw everything again from what is in the folder; returns the page."""
    store = Store(folder)
    return _write_page(folder / "report.html", store.folder.name, [_section(store)])


def write_book(folder: Path, parts: Sequence[Path]) -> Path:
    """One page for many experiments, and their figures beside published ones as JSON."""
    stores = [Store(part) for part in parts]
    contents = "".join(
        f'<li><a href="#{html.escape(store.folder.name)}">{html.escape(store.folder.name)}</a>: '
        f"{html.escape(store.experiment.about)}</li>"
        for store in stores
    )
    head = f"<h1>Experiments</h1><ul>{contents}</ul>"
    found = {store.folder.name: comparisons(store) for store in stores}
    (folder / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return _write_page(folder / "report.html", "Experiments", [head, *map(_section, stores)])


def comparisons(store: Store) -> list[dict[str, Any]]:
    """What the experiment's papers say, and what stands beside it."""
    experiment = store.experiment
    runs = store.runs() if experiment.published else []
    return [
        {
            "paper": published.paper,
            "says": published.says,
            "setting": published.setting,
            "unlike": published.unlike,
            "ours": _what(published),
            "how": published.how,
            "figures": [
                {"at": dict(ours.at), "value": round(ours.value, 6), "text": ours.text}
                for ours in stand_beside(published, runs)
            ],
        }
        for published in experiment.published
    ]


def _what(published: PublishedSettings) -> str:
    if published.how == "capacity":
        return f"devices that hold {published.goal_ms:g} ms"
    return FIGURES[published.ours].partition(" [")[0]


def _write_page(page: Path, title: str, parts: Sequence[str]) -> Path:
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><body>'
        f"{''.join(parts)}</body></html>\n",
        encoding="utf-8",
    )
    return page


def _section(store: Store) -> str:
    """Everything of one experiment; its pictures are written as files, too."""
    try:
        import matplotlib
    except ImportError:
        raise SettingsError("report", "needs matplotlib; pip install 'cascade-edge[lab]'") from None
    matplotlib.rcParams["hatch.linewidth"] = 0.5
    matplotlib.rcParams["svg.hashsalt"] = "cascade"  # no random ids: the same records give the same bytes
    folder, experiment, runs = store.folder, store.experiment, store.runs()
    pictures = folder / "figures"
    pictures.mkdir(exist_ok=True)
    parts = [_head(experiment, runs, store), _published(store)]
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
    return "".join(parts)


def _head(experiment: Experiment, runs: Sequence[Run], store: Store) -> str:
    clock = "virtual time: exact, the same on every machine" if experiment.clock == "virtual" else "real time"
    seeds = "one seed each" if experiment.seeds == 1 else f"{experiment.seeds} seeds each"
    name = store.folder.name
    quick = " --quick" if store.is_quick else ""
    command = f"cascade lab run {name}.toml{quick} --out {name}"
    return (
        f'<h1 id="{html.escape(name)}">{html.escape(store.folder.name)}</h1>'
        f"<p>{html.escape(experiment.about)}</p>"
        f'<p class="about">{len(runs)} runs: {len(experiment.points)} points, {seeds}, '
        f"{clock}. Made by <code>{html.escape(command)}</code>.</p>"
    )


def _published(store: Store) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row)) + "</tr>"
        for row in comparisons(store)
    )
    if not rows:
        return ""
    return (
        '<h2>Beside published figures</h2><div class="table published"><table><thead><tr><th>published</th>'
        f"<th>setting</th><th>ours</th><th>where it is not like for like</th></tr></thead><tbody>{rows}"
        "</tbody></table></div>"
    )


def cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """A comparison as a row of a table: published, setting, ours, where it is not like for like."""
    return f"{row['paper']}: {row['says']}", row["setting"], f"{row['ours']}: {shown(row)}", row["unlike"]


def shown(row: dict[str, Any]) -> str:
    """Our figures of a comparison in one line."""
    said = []
    for figure in row["figures"]:
        at = ", ".join(f"{name.partition('.')[2]} {value}" for name, value in figure["at"].items())
        said.append(f"{figure['text']}{f' ({at})' if at else ''}")
    return ", ".join(said)


def _figure(title: str, figure: FigureSettings, svg: str, number: int, folder: Path) -> str:
    where = ", ".join(f"{name} = {value}" for name, value in figure.where.items())
    ids = f"{folder.name}-{number}-"
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
    columns = list(dict.fromkeys((*TABLE, *(published.ours for published in experiment.published))))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in axes)
    head += "".join(f"<th>{html.escape(FIGURES[name])}</th>" for name in columns)
    rows = []
    for group in grouped(runs):
        cells = "".join(f"<th>{html.escape(str(group.settings[name]))}</th>" for name in axes)
        cells += "".join(f"<td>{group.figure(name)}</td>" for name in columns)
        rows.append(f"<tr>{cells}</tr>")
    if not rows:
        raise SettingsError("dir", "there is nothing to put into a table")
    return (
        "<h2>All points</h2><p class='about'>Mean over seeds, ± half of the 95 % confidence interval.</p>"
        f'<div class="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
