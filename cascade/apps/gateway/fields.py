"""Reading single fields of a request: what has the wrong type is refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .failures import bad_request

__all__ = ["read_choice", "read_flag", "read_int", "read_number", "read_object", "read_texts"]

Content = Mapping[str, Any]


def read_number(content: Content, name: str, default: float, *, low: float, high: float) -> float:
    value = content.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise bad_request(name, f"{name} must be a number", "invalid_type")
    if not low <= value <= high:
        raise bad_request(name, f"{name} must be between {low:g} and {high:g}, not {value:g}")
    return float(value)


def read_int(content: Content, name: str, *, low: int | None = None) -> int | None:
    value = content.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(name, f"{name} must be a whole number", "invalid_type")
    if low is not None and value < low:
        raise bad_request(name, f"{name} must be at least {low}, not {value}")
    return value


def read_flag(content: Content, name: str) -> bool:
    value = content.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise bad_request(name, f"{name} must be true or false", "invalid_type")
    return value


def read_object(content: Content, name: str) -> Content:
    value = content.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise bad_request(name, f"{name} must be an object", "invalid_type")
    return value


def read_choice(content: Content, name: str, choices: Sequence[str], *, shown: str) -> str:
    """One of several words, the first of them by default."""
    value = content.get(name)
    if value is None:
        return choices[0]
    if value not in choices:
        raise bad_request(shown, f"{shown} must be one of {', '.join(choices)}")
    return str(value)


def read_texts(content: Content, name: str, *, most: int) -> tuple[str, ...]:
    """A text, or a list of some."""
    value = content.get(name)
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise bad_request(
            name, f"{name} must be a text or a list of texts, none of them empty", "invalid_type"
        )
    if len(texts) > most:
        raise bad_request(name, f"{name} may have at most {most} texts")
    return tuple(texts)
