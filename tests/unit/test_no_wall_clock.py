"""Every clock is the loop's clock: no module of the library reads the time or sleeps by itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = (
    ROOT / "cascade/lab/bench",  # benchmarks measure the machine
    ROOT / "cascade/apps/gateway/dates.py",  # OpenAI's answers are dated
)
MODULES = sorted(
    path
    for package in ("cascade", "brokers")
    for path in (ROOT / package).rglob("*.py")
    if not any(path.is_relative_to(place) for place in ALLOWED)
)

BANNED = {
    "asyncio.timeouts.time",
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
    "threading.Timer",
    "timeit.default_timer",
}
BANNED_MODULES = {"time", "timeit", "sched"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_wall_clock(path: Path) -> None:
    assert wall_clocks(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.monotonic()",
        "import time as t\nt.sleep(1)",
        "from time import perf_counter as now\nnow()",
        "import asyncio, time\nclock = time.time",
        "def f():\n    from time import sleep\n    sleep(1)",
        "import datetime\ndatetime.datetime.now()",
        "import datetime as dt\ndt.datetime.utcnow()",
        "from datetime import datetime\nstamp = datetime.now",
        "from datetime import date\ndate.today()",
        "from timeit import default_timer",
        "import threading\nthreading.Timer(1, print)",
    ],
)
def test_the_walk_finds_planted_clocks(source: str) -> None:
    assert len(wall_clocks(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nnow = asyncio.get_running_loop().time()",
        "import asyncio\nasync def f():\n    await asyncio.sleep(1)",
        "loop.time()",
        "from datetime import timedelta\ntimedelta(seconds=1)",
        "import time\ntime.gmtime(0)",
        "from time import process_time, thread_time",
    ],
)
def test_the_walk_lets_the_loops_clock_pass(source: str) -> None:
    assert wall_clocks(source) == []


def wall_clocks(source: str) -> list[str]:
    """Every place in the source that names a clock of the machine, as `line: name`."""
    tree = ast.parse(source)
    meaning: dict[str, str] = {}  # local name -> what it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                meaning[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    found = [
        f"{node.lineno}: {full}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and (full := full_name(node, meaning)) and is_banned(full)
    ]
    found += [
        f"{node.lineno}: {node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if is_banned(f"{node.module}.{alias.name}")
    ]
    return found


def full_name(node: ast.expr, meaning: dict[str, str]) -> str | None:
    """`t.sleep` -> `time.sleep`, when `t` was imported; None for anything that is not a dotted name."""
    if isinstance(node, ast.Name):
        return meaning.get(node.id)
    if isinstance(node, ast.Attribute):
        base = full_name(node.value, meaning)
        return f"{base}.{node.attr}" if base else None
    return None


def is_banned(full: str) -> bool:
    module, _, name = full.partition(".")
    # Those turn a given time into text; these count what was computed, and stand still meanwhile else.
    harmless = {"gmtime", "strftime", "struct_time", "thread_time", "process_time"}
    return full in BANNED or (module in BANNED_MODULES and name not in harmless and bool(name))
