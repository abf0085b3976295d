"""Five minutes of devices that come and go at the real target: memory, tasks and sessions must not grow."""

from __future__ import annotations

from typing import Any

__all__ = ["run"]


def run(*, quick: bool = False) -> dict[str, Any]:
    """Musts with their bounds, and what was left after each round; `quick` takes a minute."""
    from ..soak import measure

    return measure(quick=quick)
