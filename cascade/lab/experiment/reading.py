"""A TOML file to an experiment. Errors name the file, the line and what would be right."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SettingsError
from ...settings import from_mapping
from .settings import (
    Change,
    Experiment,
    FigureSettings,
    LinkSettings,
    LoadSettings,
    ModelSettings,
    Point,
    PolicySettings,
)

__all__ = ["flat", "read_experiment", "shown_axes"]

GROUPS = {"models": ModelSettings, "link": LinkSettings, "load": LoadSettings, "policy": PolicySettings}
PLAIN = ("about", "seeds", "clock", "records")
MAX_POINTS = 20_000


def read_experiment(path: Path) -> Experiment:
    """The experiment in a file."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise SettingsError("experiment", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("experiment", f"{path} is no TOML file: {error}") from None
    try:
        return _experiment(table, path)
    except SettingsError as error:
        raise SettingsError(error.field, f"{error.reason} ({path}{_line_of(error.field, text)})") from None


def flat(point: Point) -> dict[str, Any]:
    """A point as `{"link.rtt_ms": 100, ...}`."""
    values = dataclasses.asdict(point)
    found = {
        f"{group}.{name}": value
        for group in GROUPS
        for name, value in values[group].items()
        if name != "folder"
    }
    return {**found, "policy.label": point.policy.label}


def shown_axes(experiment: Experiment) -> list[str]:
    """The columns that tell points apart in a table."""
    names = [name for name in experiment.axes if name != "policy" and not name.startswith("policy.")]
    return [*names, "policy.label"]


def _experiment(table: Mapping[str, Any], path: Path) -> Experiment:
    known = (*PLAIN, *GROUPS, "grid", "figure")
    for key in table:
        if key not in known:
            raise SettingsError(key, f"unknown; an experiment has {', '.join(known)}")
    for group in (*GROUPS, "grid"):
        if not isinstance(table.get(group, {}), Mapping):
            raise SettingsError(group, f"must be a table, [{group}]")
    axes = {}
    for name, values in _dotted(table.get("grid", {})).items():
        if name.partition(".")[0] not in GROUPS:
            raise SettingsError(name, "no such setting to vary; take, for example, link.rtt_ms")
        if not isinstance(values, list) or not values:
            raise SettingsError(name, "must be a list of the values to take")
        axes[name] = tuple(values)
    num_points = 1
    for values in axes.values():
        num_points *= len(values)
    if num_points > MAX_POINTS:
        raise SettingsError("grid", f"{num_points:,} points; at most {MAX_POINTS:,} are taken")
    points = [
        _point(table, dict(zip(axes, values, strict=True)), path)
        for values in itertools.product(*axes.values())
    ]
    figures = table.get("figure", [])
    if not isinstance(figures, list):
        raise SettingsError("figure", "must be an array of tables, [[figure]]")
    return Experiment(
        name=path.stem,
        axes=axes,
        points=tuple(points),
        figures=tuple(from_mapping(FigureSettings, figure) for figure in figures),
        **{key: table[key] for key in PLAIN if key in table},
    )


def _point(table: Mapping[str, Any], varied: Mapping[str, Any], path: Path) -> Point:
    groups: dict[str, Any] = {}
    for group, settings_type in GROUPS.items():
        values = dict(table.get(group, {}))
        for name, value in varied.items():
            if name == group:
                if not isinstance(value, Mapping):
                    raise SettingsError(group, f"takes tables, such as {{ name = ... }}, not {value!r}")
                values |= value
            elif name.partition(".")[0] == group:
                values[name.partition(".")[2]] = value
        if group == "link":
            values["drift"] = tuple(from_mapping(Change, change) for change in values.get("drift", ()))
            values["folder"] = str(path.parent)
        try:
            groups[group] = from_mapping(settings_type, values)
        except SettingsError as error:
            raise SettingsError(f"{group}.{error.field}", error.reason) from None
        except TypeError as error:
            raise SettingsError(group, str(error)) from None
    return Point(**groups)


def _dotted(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`grid.link.rtt_ms = [..]` and `"link.rtt_ms" = [..]` are the same."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):  # lists end the descent, whatever is in them
            found |= _dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _line_of(field: str, text: str) -> str:
    """Where a setting is written: its name under its table, or anywhere."""
    group, _, name = field.rpartition(".")
    table = ""
    candidates = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[+\s*([\w.\"-]+)\s*\]+", line):
            table = match[1]
            if table == field:
                return f", line {number}"
        elif re.match(rf"\s*\"?(?:{re.escape(field)}|{re.escape(name)})\"?\s*=", line):
            candidates.append((table not in (group, "grid"), number))
        elif re.search(rf"[{{,]\s*{re.escape(name)}\s*=", line):
            candidates.append((True, number))
    return f", line {min(candidates)[1]}" if candidates else ""
