"""Benchmarks: each module in this folder is one, and has `run(**options) -> dict` of JSON-able figures.

Options are keyword-only and have defaults. A benchmark that can be shortened takes `repeats`, or `quick`
where fewer repeats are not enough; one that can draw its figures takes `plot`, a file; a long one takes
`jobs`, the processes it may use, and `resume`, a file of what is done already. Its docstring's first line
says what it measures. Figures carry their unit in the name. Modules with an underscore are their tools.

One that needs a module that not every environment has names it, `NEEDS`, and `bench all` leaves it out there.

This is the only place in the library where a wall clock may be read.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import platform
from types import ModuleType
from typing import Any

from cascade import __version__
from cascade.errors import SettingsError

from ..progress import say
from ..workers import num_cores
from ._store import check_folder, store

__all__ = ["QUICK_REPEATS", "catalogue", "check_folder", "installed", "names", "run", "store"]

QUICK_REPEATS = 3


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def installed() -> list[str]:
    """Those for which this environment has what they need (`NEEDS`); of the others it says so."""
    found = []
    for name in names():
        needed = getattr(_module(name), "NEEDS", None)
        if needed is None or importlib.util.find_spec(needed) is not None:
            found.append(name)
        else:
            say(f"{name}: left out, for {needed} is not installed here")
    return found


def catalogue() -> dict[str, str]:
    """Each benchmark's name, and what it measures."""
    return {name: (inspect.getdoc(_module(name)) or "").partition("\n")[0] for name in names()}


def run(
    name: str,
    *,
    quick: bool = False,
    real: bool = False,
    busy: bool = False,
    plot: str | None = None,
    jobs: int | None = None,
    resume: str | None = None,
) -> dict[str, Any]:
    """Run one benchmark: its figures, and on what they were measured.

    `plot`, `jobs` and `resume` are for those that know them.
    """
    benchmark = _module(name).run
    known = inspect.signature(benchmark).parameters
    options: dict[str, Any] = {}
    if quick and "quick" in known:
        options["quick"] = True
    elif quick and "repeats" in known:
        options["repeats"] = QUICK_REPEATS
    if real:
        if "real" not in known:
            raise SettingsError(
                "real", f"the benchmark {name!r} knows virtual time only, or real models only"
            )
        options["real"] = True
    if busy:
        if "busy" not in known:
            raise SettingsError("busy", f"the benchmark {name!r} has no device whose core could be busy")
        options["busy"] = True
    for option, value in (("plot", plot), ("jobs", jobs), ("resume", resume)):
        if value is not None and option in known:
            options[option] = value
    return {
        "benchmark": name,
        "cascade": __version__,
        "machine": f"{platform.system()} {platform.machine()}, {num_cores()} cores",
        "python": platform.python_version(),
        "quick": quick,
        "figures": benchmark(**options),
    }


def _module(name: str) -> ModuleType:
    if name not in names():
        raise SettingsError("benchmark", f"there is no {name!r}; there are {', '.join(names())}, and all")
    return importlib.import_module(f"{__name__}.{name}")
