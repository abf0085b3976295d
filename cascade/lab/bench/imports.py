"""Time that `import cascade` takes in a fresh interpreter, beside `import numpy`.

Statements take turns, so that a machine that slows down slows all of them down alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

__all__ = ["run"]

STATEMENTS = {
    "cascade": "import cascade",
    "cascade_everything": "from cascade import *",
    "numpy": "import numpy",
}


def run(*, repeats: int = 20) -> dict[str, Any]:
    """Median and spread of each statement over fresh interpreters, and ratios to numpy's median."""
    for statement in STATEMENTS.values():
        _import_ms(statement)  # the first one writes byte code and warms the disk's cache
    samples_ms: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(repeats):
        for name, statement in STATEMENTS.items():
            samples_ms[name].append(_import_ms(statement))
    medians_ms = {name: statistics.median(values) for name, values in samples_ms.items()}
    return {
        "repeats": repeats,
        "imports": [
            {
                "import": STATEMENTS[name],
                "median_ms": round(medians_ms[name], 2),
                "min_ms": round(min(values), 2),
                "max_ms": round(max(values), 2),
            }
            for name, values in samples_ms.items()
        ],
        "cascade_over_numpy": round(medians_ms["cascade"] / medians_ms["numpy"], 3),
        "cascade_everything_over_numpy": round(medians_ms["cascade_everything"] / medians_ms["numpy"], 3),
    }


def _import_ms(statement: str) -> float:
    """Milliseconds that the statement takes, the start of the interpreter not counted."""
    code = f"from time import perf_counter as now; start = now()\n{statement}\nprint(now() - start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout) * 1000
