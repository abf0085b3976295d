"""The engine behind `cascade serve`: from a model's name to something that decodes, here or in a replica."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from ...edge import BatchEngine, EdgeSettings, Engine
from ...models.base import LanguageModel
from ...models.runner import PacedRunner, Runner, ThreadRunner
from ...models.synthetic import SyntheticTarget

__all__ = ["SYNTHETIC", "EngineRecipe"]

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
"""A model that is a hash function, for tests and demonstrations."""
SYNTHETIC_PASS_S = 0.05
SYNTHETIC_ROW_S = 0.0001


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    """All that it takes to make an engine, in whatever process: call it."""

    ref: str
    dtype: str = "bfloat16"
    exact: bool = False
    num_threads: int | None = None
    edge: EdgeSettings = field(default_factory=EdgeSettings)

    def __call__(self) -> Engine:
        """May take a minute, and is not for an event loop's thread."""
        model, runner = self._open()
        return BatchEngine(model, runner, self.edge)

    def _open(self) -> tuple[LanguageModel, Runner]:
        """The model behind the reference, and what runs its passes."""
        if self.ref == SYNTHETIC:
            return SyntheticTarget(), PacedRunner(lambda rows: SYNTHETIC_PASS_S + SYNTHETIC_ROW_S * rows)
        from ...models.loading import open_model

        log.info("loading %s", self.ref)
        model = open_model(self.ref, dtype=self.dtype, exact=self.exact, num_threads=self.num_threads)
        _tune(model, self.num_threads)
        return model, ThreadRunner()


def _tune(model: LanguageModel, num_threads: int | None) -> None:
    from ...models.huggingface import HuggingFaceModel
    from ...models.tuning import tune

    if isinstance(model, HuggingFaceModel):
        with asyncio.Runner() as runner:
            found = tune(model, runner.get_loop().time, num_threads=num_threads)
        packed = "" if found.narrow_rows is None else f", packed weights up to {found.narrow_rows} rows"
        log.info("fastest here: %d threads%s", found.num_threads, packed)
