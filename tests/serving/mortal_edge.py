"""`cascade serve` with a model whose thread dies after some passes: a program of its own for a test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

from cascade.apps import serve
from cascade.apps.serving import ServeOptions, Serving
from cascade.edge import BatchEngine
from cascade.errors import RunnerStopped
from cascade.models.runner import PacedRunner
from cascade.testing import SyntheticTarget

T = TypeVar("T")


class MortalRunner(PacedRunner):
    """Its thread is gone after so many passes."""

    num_left = 5

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        if not self.num_left:
            raise RunnerStopped("the model's thread is gone")
        self.num_left -= 1
        return await super().run(work, rows=rows)


if __name__ == "__main__":
    engine = BatchEngine(SyntheticTarget(), MortalRunner(lambda rows: 0.01))
    sys.exit(asyncio.run(serve._serve(Serving(engine, ServeOptions(port=0)), json_output=True)))
