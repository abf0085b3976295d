"""What tests of more than one folder use."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from cascade.testing import run_virtual

__all__ = ["in_virtual_time", "tasks_left"]

P = ParamSpec("P")
LIMIT_S = 1000.0
"""A test that is still running then hangs."""


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in virtual time; it must leave no task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **options: P.kwargs) -> None:
        async def main() -> None:
            await test(*args, **options)
            assert tasks_left() == []

        run_virtual(main(), limit_s=LIMIT_S)

    return run


def tasks_left() -> list[str]:
    """The names of all tasks but this one."""
    return sorted(task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task())
