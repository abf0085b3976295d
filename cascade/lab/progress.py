"""What a long benchmark says on its way, and how its musts are shown at the end."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["must", "say"]


def say(text: str) -> None:
    """To standard error: figures alone go to standard output."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def must(
    name: str, figure: float, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    """One row of a table of musts: a figure, its bound, and whether it holds."""
    is_enough = at_least is None or figure >= at_least
    is_little = at_most is None or figure <= at_most
    bound = at_least if at_least is not None else at_most
    return {"must": name, "figure": round(figure, 4), "bound": bound, "holds": is_enough and is_little}
