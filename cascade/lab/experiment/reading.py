"""A TOML file to an experiment. Errors name the file, the line and what would be right."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...errors import SettingsError
from ...settings import from_mapping
from .pairs import find_recording
from .settings import (
    Change,
    Experiment,
    FigureSettings,
    LinkSettings,
    LoadSettings,
    ModelSettings,
    Point,
    PolicySettings,
    PriceSettings,
    PublishedSettings,
)

__all__ = ["flat", "read_experiment", "shown_axes"]

T = TypeVar("T")

GROUPS = {
    "models": ModelSettings,
    "link": LinkSettings,
    "load": LoadSettings,
    "policy": PolicySettings,
    "prices": PriceSettings,
}
PLAIN = ("about", "seeds", "clock", "records")
MAX_POINTS = 20_000


def read_experiment(path: Path, *, quick: bool = False, is_kept: bool = False) -> Experiment:
    """The experiment in a file; in its quick form, where `[quick]` says what then is otherwise.

    `is_kept`: the file lies with its runs, away from the traces and profiles that it names.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise SettingsError("experiment", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("experiment", f"{path} is no TOML file: {error}") from None
    folder = None if is_kept else str(path.parent)
    try:
        experiment = _experiment(_form(table, quick=False), path, folder)
        if not quick:
            return experiment
    except SettingsError as error:
        raise SettingsError(error.field, f"{error.reason} ({path}{_line_of(error.field, text)})") from None
    try:
        return _experiment(_form(table, quick=True), path, folder)
    except SettingsError as error:
        before, begin, after = text.partition("[quick")  # all is well without it
        line = _line_of(error.field, "\n" * before.count("\n") + begin + after)
        raise SettingsError(error.field, f"{error.reason} ({path}{line})") from None


def _form(table: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    table = dict(table)
    other = table.pop("quick", {})
    if not isinstance(other, Mapping):
        raise SettingsError("quick", "must be a table, [quick]")
    for name in ("quick", "figure", "published"):
        if name in other:
            raise SettingsError(name, "stands in the file itself, not under [quick]")
    grid = _dotted(table.get("grid", {}))
    for axis in _dotted(other.get("grid", {})):
        if axis not in grid:
            raise SettingsError(axis, "is no axis of [grid], so its quick form says nothing")
    merged = _merged(table | {"grid": grid}, dict(other) | {"grid": _dotted(other.get("grid", {}))})
    _experiment_keys(merged)
    return merged if quick else table


def _merged(table: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Tables into tables; everything else is replaced."""
    found = dict(table)
    for name, value in other.items():
        before = found.get(name)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        found[name] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return found


def _experiment_keys(table: Mapping[str, Any]) -> None:
    known = (*PLAIN, *GROUPS, "grid", "figure", "published", "quick")
    for key in table:
        if key not in known:
            raise SettingsError(key, f"unknown; an experiment has {', '.join(known)}")


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


def _experiment(table: Mapping[str, Any], path: Path, folder: str | None) -> Experiment:
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
        _point(table, dict(zip(axes, values, strict=True)), folder)
        for values in itertools.product(*axes.values())
    ]
    figures, published = table.get("figure", []), table.get("published", [])
    for name, entries in (("figure", figures), ("published", published)):
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise SettingsError(name, f"must be an array of tables, [[{name}]]")
    return Experiment(
        name=path.stem,
        axes=axes,
        points=tuple(points),
        figures=_entries("figure", FigureSettings, figures),
        published=_entries("published", PublishedSettings, [_listed(entry) for entry in published]),
        **{key: table[key] for key in PLAIN if key in table},
    )


def _point(table: Mapping[str, Any], varied: Mapping[str, Any], folder: str | None) -> Point:
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
            values["folder"] = folder
        try:
            groups[group] = from_mapping(settings_type, values)
        except SettingsError as error:
            raise SettingsError(f"{group}.{error.field}", error.reason) from None
        except TypeError as error:
            raise SettingsError(group, str(error)) from None
    if groups["models"].kind != "synthetic" and folder is not None:
        try:
            find_recording(groups["models"].recording, folder)
        except SettingsError as error:
            raise SettingsError(f"models.{error.field}", error.reason) from None
    return Point(**groups)


def _entries(name: str, settings_type: type[T], entries: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    """Of an array of tables."""
    found = []
    for number, values in enumerate(entries):
        try:
            found.append(from_mapping(settings_type, values))
        except SettingsError as error:
            raise SettingsError(f"{name}[{number}].{error.field}", error.reason) from None
        except TypeError as error:  # something that has no default is missing
            reason = str(error).partition("() ")[2] or str(error)
            raise SettingsError(
                f"{name}[{number}]", reason.replace("keyword-only arguments", "settings")
            ) from None
    return tuple(found)


def _listed(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


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
    if match := re.fullmatch(r"(\w+)\[(\d+)\](?:\.(.*))?", field):
        return _line_of_entry(match[1], int(match[2]), match[3] or "", text)
    group, _, name = field.rpartition(".")
    table = ""
    candidates = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[+\s*([\w.\"-]+)\s*\]+", line):
            table = match[1]
            if table == field:
                return f", line {number}"
        elif re.match(rf"\s*(?:\w+\.)*\"?(?:{re.escape(field)}|{re.escape(name)})\"?\s*=", line):
            candidates.append((table not in (group, "grid"), number))
        elif re.search(rf"[{{,]\s*{re.escape(name)}\s*=", line):
            candidates.append((True, number))
    return f", line {min(candidates)[1]}" if candidates else ""


def _line_of_entry(table: str, number: int, name: str, text: str) -> str:
    """Where an entry of an array of tables sets something; where it begins, if it does not."""
    begins = 0
    seen = -1
    for at, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[", line):
            if begins:
                break
            seen += bool(re.match(rf"\s*\[\[\s*{re.escape(table)}\s*\]\]", line))
            begins = at if seen == number else 0
        elif begins and name and re.match(rf"\s*\"?{re.escape(name)}\"?\s*=", line):
            return f", line {at}"
    return f", line {begins}" if begins else ""
