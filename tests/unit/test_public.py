"""What `import cascade` gives, and what it must not cost."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import cascade

EXTRAS = {
    "aiohttp",
    "aiomqtt",
    "amqtt",
    "gguf",
    "jinja2",
    "matplotlib",
    "psutil",
    "ray",
    "tokenizers",
    "torch",
    "transformers",
}
HEAVY = EXTRAS | {"numpy", "rich", "typer"}

# What `cascade bench design` stands on: the core's dependencies have to be enough.
CORE_ONLY = (
    "cascade.cli",
    "cascade.lab.design_table",
    "cascade.lab.simulation",
    "cascade.lab.tables",
    "cascade.testing",
)

# Rooms that a device without torch imports; the edge's models come late, too.
TORCHLESS = (
    "cascade.cli",
    "cascade.decoding",
    "cascade.device",
    "cascade.edge",
    "cascade.edge.replicas.on_ray",
    "cascade.links",
    "cascade.measure",
    "cascade.models",
    "cascade.testing",
    "cascade.wire",
)


def test_public_names_are_exactly_all() -> None:
    eager = {
        name
        for name, value in vars(cascade).items()
        if name == "__version__" or not (name.startswith("_") or isinstance(value, ModuleType))
    }
    assert set(cascade.__all__) == eager | set(cascade._LAZY)


def test_all_is_sorted_and_has_no_twins() -> None:
    assert cascade.__all__ == sorted(set(cascade.__all__))


@pytest.mark.parametrize("name", cascade.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(cascade, name) is not None
    assert name in dir(cascade)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Devise'"):
        cascade.Devise  # type: ignore[attr-defined]  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("cascade") == set()


@pytest.mark.parametrize("module", TORCHLESS)
def test_rooms_load_without_torch(module: str) -> None:
    assert loaded_by(module) & {"torch", "transformers"} == set()


@pytest.mark.parametrize("module", CORE_ONLY)
def test_the_demo_needs_no_extra(module: str) -> None:
    assert loaded_by(module) & EXTRAS == set()


def loaded_by(module: str) -> set[str]:
    """The heavy packages that importing `module` loads in a fresh interpreter."""
    code = f"import {module}, sys; print(*[name for name in {sorted(HEAVY)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
