"""Links by name: conditions both ways, and where their figures come from.

The names are those in `profiles.toml`; `load_profile` takes one of them, or the path of a TOML file:

    about = "the radio in our factory"
    sources = ["ping and iperf3, 3 November 2026"]

    [up]
    delay_ms = 12
    jitter_ms = 3
    rate_mbit_per_s = 2

    [down]
    delay_ms = 12
    trace = "hall-7.down"       # instead of a constant rate; relative to this file
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from .conditions import Conditions
from .traces import BYTES_PER_MBIT, load_trace

__all__ = ["Profile", "load_profile", "profile_names"]

SHIPPED_FILE = Path(__file__).with_name("profiles.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of link."""

    name: str
    about: str
    sources: tuple[str, ...]
    """Where the figures come from; what was chosen says so."""
    up: Conditions
    """From the device to the edge."""
    down: Conditions


def profile_names() -> tuple[str, ...]:
    """The profiles that come with the library."""
    return tuple(_SHIPPED)


def load_profile(name_or_path: str | Path) -> Profile:
    """A profile by name, or out of a TOML file. Errors name the key and say what would be right."""
    if isinstance(name_or_path, str) and name_or_path in _SHIPPED:
        return _read(name_or_path, _SHIPPED[name_or_path], SHIPPED_FILE)
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.exists():
        names = ", ".join(profile_names())
        raise SettingsError(
            "profile", f"there is no {name_or_path!r}; there are {names}, or name a TOML file"
        )
    return _read(path.stem, _parse(path), path)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError("profile", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("profile", f"{path} is no TOML file: {error}") from None


def _read(name: str, table: Mapping[str, Any], path: Path) -> Profile:
    if not isinstance(table, Mapping):
        raise SettingsError("profile", f"{path}: {name} must be a table")
    _refuse_unknown(table, ("about", "sources", "up", "down"), path, "")
    about, sources = table.get("about", ""), table.get("sources", [])
    if not isinstance(about, str):
        raise SettingsError("about", f"must be a text, not {about!r} (in {path})")
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise SettingsError("sources", f"must be a list of texts (in {path})")
    return Profile(
        name=name,
        about=about,
        sources=tuple(sources),
        up=_read_conditions("up", table.get("up"), path),
        down=_read_conditions("down", table.get("down"), path),
    )


def _read_conditions(way: str, table: Any, path: Path) -> Conditions:
    if not isinstance(table, Mapping):
        raise SettingsError(way, f"is missing; {path} needs a table [{way}] with at least delay_ms")
    known = (*_KEYS, *_PLAIN, "trace")
    _refuse_unknown(table, known, path, f"{way}.")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "trace":
            if not isinstance(value, str):
                raise SettingsError(f"{way}.trace", f"must be the path of a file, not {value!r} (in {path})")
            values["trace"] = load_trace(path.parent / value)
        elif key in _KEYS:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SettingsError(f"{way}.{key}", f"must be a number, not {value!r} (in {path})")
            field, convert = _KEYS[key]
            values[field] = convert(value)
        elif key == "outages":
            values[key] = _read_outages(way, value, path)
        else:
            values[key] = value
    try:
        return Conditions(**values)
    except SettingsError as error:
        raise SettingsError(
            f"{way}.{_SHOWN.get(error.field, error.field)}", f"{error.reason} (in {path})"
        ) from None


def _read_outages(way: str, value: Any, path: Path) -> tuple[tuple[float, float], ...]:
    is_right = isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(time, int | float) and not isinstance(time, bool) for time in pair)
        for pair in value
    )
    if not is_right:
        reason = f"must be a list of [from, to] in seconds, not {value!r} (in {path})"
        raise SettingsError(f"{way}.outages", reason)
    return tuple((pair[0], pair[1]) for pair in value)


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], path: Path, where: str) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(f"{where}{key}", f"unknown in {path}; known are {', '.join(sorted(known))}")


_KEYS: dict[str, tuple[str, Callable[[float], float | int]]] = {
    "delay_ms": ("delay_s", lambda ms: ms / 1000),
    "jitter_ms": ("jitter_s", lambda ms: ms / 1000),
    "reordering_ms": ("reordering_s", lambda ms: ms / 1000),
    "rate_mbit_per_s": ("rate_bytes_per_s", lambda rate: rate * BYTES_PER_MBIT),
    "queue_kib": ("queue_bytes", lambda kib: round(kib * 1024)),
}
"""Key in the file -> field of `Conditions`, in units that people use for links."""
_SHOWN = {field: key for key, (field, _) in _KEYS.items()}
_PLAIN = tuple(
    field.name for field in fields(Conditions) if field.name not in _SHOWN and field.name != "trace"
)

_SHIPPED = _parse(SHIPPED_FILE)
"""Read once, when this module is: a loop is not to wait for a file."""
