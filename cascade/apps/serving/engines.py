"""The engine behind `cascade serve`: from a model's name to something that decodes, here or in a replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ...edge import BatchEngine, EdgeSettings, Engine
from ...edge.vllm import VllmEngine, check_installed, start
from ...errors import SettingsError
from ...models.base import LanguageModel
from ...models.runner import PacedRunner, Runner, ThreadRunner
from ...models.synthetic import SyntheticTarget
from ...settings import check_choice

__all__ = ["ENGINES", "SYNTHETIC", "EngineRecipe", "VllmRecipe", "recipe_for"]

log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
"""A model that is a hash function, for tests and demonstrations."""
SYNTHETIC_PASS_S = 0.05
SYNTHETIC_ROW_S = 0.0001
ENGINES = ("torch", "vllm")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmRecipe:
    """The same for vLLM, which decodes in processes of its own."""

    ref: str
    dtype: str = "auto"
    num_threads: int | None = None
    edge: EdgeSettings = field(default_factory=EdgeSettings)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own, by their names in its `AsyncEngineArgs`."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Engine]:
        """The engine, and its processes for as long as it is used."""
        model = await start(
            self.ref,
            settings=self.edge,
            dtype=self.dtype,
            num_threads=self.num_threads,
            arguments=self.arguments,
        )
        try:
            yield VllmEngine(model, self.edge)
        finally:
            await model.close()


def recipe_for(
    engine: str,
    *,
    ref: str,
    dtype: str,
    exact: bool,
    num_threads: int | None,
    edge: EdgeSettings,
    arguments: Mapping[str, Any],
) -> EngineRecipe | VllmRecipe:
    """Of the engine by this name; refuses at once what it does not know, or what is not installed."""
    check_choice("engine", engine, ENGINES)
    if engine == "vllm":
        if exact:
            raise SettingsError("exact", "is a mode of the engine 'torch'; vLLM has none")
        check_installed()
        return VllmRecipe(ref=ref, dtype=dtype, num_threads=num_threads, edge=edge, arguments=arguments)
    if arguments:
        raise SettingsError("vllm", "is for --engine vllm; leave it out, or name that engine")
    return EngineRecipe(ref=ref, dtype=dtype, exact=exact, num_threads=num_threads, edge=edge)


def _tune(model: LanguageModel, num_threads: int | None) -> None:
    from ...models.huggingface import HuggingFaceModel
    from ...models.tuning import tune

    if isinstance(model, HuggingFaceModel):
        with asyncio.Runner() as runner:
            found = tune(model, runner.get_loop().time, num_threads=num_threads)
        packed = "" if found.narrow_rows is None else f", packed weights up to {found.narrow_rows} rows"
        log.info("fastest here: %d threads%s", found.num_threads, packed)
