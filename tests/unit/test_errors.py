"""One tree of errors, drawn as it is, with its facts as attributes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

import cascade
from cascade import errors
from cascade.errors import CascadeError, ContextExceeded, MemoryExceeded, RefusedError, SettingsError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
}


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn_tree() == {name: real_parent(kind) for name, kind in CLASSES.items()}


def test_every_error_is_public() -> None:
    assert set(errors.__all__) == set(CLASSES)
    assert set(errors.__all__) <= set(cascade.__all__)


def test_every_error_says_what_it_is() -> None:
    assert all(kind.__doc__ for kind in CLASSES.values())


def test_the_root_catches_all() -> None:
    assert all(issubclass(kind, CascadeError) for kind in CLASSES.values())


def test_settings_error_names_the_field() -> None:
    error = SettingsError("patience_s", "must be at least 0, not -1")
    assert (error.field, error.reason) == ("patience_s", "must be at least 0, not -1")
    assert str(error) == "patience_s: must be at least 0, not -1"
    assert isinstance(error, ValueError)


def test_context_exceeded_says_what_to_do() -> None:
    error = ContextExceeded(wanted=600, context_length=512)
    assert (error.wanted, error.context_length) == (600, 512)
    assert "shorten the prompt" in str(error)


@pytest.mark.parametrize(
    ("retry_after_s", "text"),
    [(None, "busy: queue is full"), (2.5, "busy: queue is full (try again in 2.5 s)")],
)
def test_refused_error_says_when_to_come_back(retry_after_s: float | None, text: str) -> None:
    error = RefusedError("busy", "queue is full", retry_after_s)
    assert (error.code, error.text, error.retry_after_s) == ("busy", "queue is full", retry_after_s)
    assert str(error) == text


def drawn_tree() -> dict[str, str | None]:
    """Class -> parent, as the docstring of `cascade.errors` draws it."""
    parents: dict[str, str | None] = {}
    above: list[str] = []  # the class last seen at each depth
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^ {4}(?P<lines>[│ ]*(?:[├└]── )?)(?P<name>[A-Z]\w+)(?: |$)", line):
            depth = len(match["lines"]) // 4
            del above[depth:]
            parents[match["name"]] = above[-1] if above else None
            above.append(match["name"])
    return parents


def real_parent(kind: type[BaseException]) -> str | None:
    """The nearest ancestor among our own classes."""
    return next((base.__name__ for base in kind.__mro__[1:] if base.__name__ in CLASSES), None)


def test_what_an_engine_says_elsewhere_keeps_its_facts() -> None:
    error = pickle.loads(pickle.dumps(MemoryExceeded(5, 3)))
    assert (type(error), error.needed_bytes, error.budget_bytes) == (MemoryExceeded, 5, 3)
    assert str(error) == str(MemoryExceeded(5, 3))
