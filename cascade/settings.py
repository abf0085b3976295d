"""Checks that frozen settings run when they are made.

Settings are frozen, keyword-only, slotted dataclasses. `__post_init__` calls these helpers, so an
impossible value never gets past the constructor, and the error names the field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import SettingsError

__all__ = ["MAX_MESSAGE_BYTES", "check_choice", "check_int", "check_number", "from_mapping"]

T = TypeVar("T")

MAX_MESSAGE_BYTES = 1 << 20
"""A message is at most so long, on every link and at both ends, where nothing else was set."""


def check_number(field: str, value: float, *, low: float | None = None, high: float | None = None) -> None:
    """Refuse anything but a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingsError(field, f"must be a finite number, not {value!r}")
    _check_range(field, value, low, high)


def check_int(field: str, value: int, *, low: int | None = None, high: int | None = None) -> None:
    """Refuse anything but an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(field, f"must be an integer, not {value!r}")
    _check_range(field, value, low, high)


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of the named choices."""
    if value not in choices:
        raise SettingsError(field, f"must be one of {', '.join(choices)}, not {value!r}")


def from_mapping(settings_type: type[T], values: Mapping[str, Any]) -> T:
    """Make settings from a mapping (a TOML table, say); unknown keys are refused by name."""
    known = {field.name for field in dataclasses.fields(settings_type)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise SettingsError(name, f"unknown setting; {settings_type.__name__} knows {sorted(known)}")
    return settings_type(**values)


def _check_range(field: str, value: float, low: float | None, high: float | None) -> None:
    if low is not None and value < low:
        raise SettingsError(field, f"must be at least {low:g}, not {value:g}")
    if high is not None and value > high:
        raise SettingsError(field, f"must be at most {high:g}, not {value:g}")
