"""GGUF files: converted once into the cache, loaded from there afterwards.

transformers reads such a file by blowing all weights up to float32 (many seconds), and cannot save what it
read. So the weights are put into a fresh model of the same configuration, which can.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .cache import cache_folder, made_whole
from .hushed import quiet

__all__ = ["converted"]

FORMAT = 1
"""Raised when conversion changes, so that folders made before are made again."""

SAMPLES = 64
SAMPLE_BYTES = 1 << 16


def converted(path: Path) -> Path:
    """The folder made from a GGUF file (bfloat16 safetensors, tokenizer, configuration)."""
    folder = cache_folder() / "converted" / f"{path.stem}-{_fingerprint(path)}-{FORMAT}"
    if not folder.is_dir():
        with made_whole(folder) as scratch, quiet():
            _convert(path, scratch)
    return folder


def _fingerprint(path: Path) -> str:
    """Size and evenly spread samples: reading all of a large file at every load would take its time."""
    size = path.stat().st_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{path} is no GGUF file (it does not begin with GGUF); download it again")
            for index in range(SAMPLES):
                file.seek(max(0, size - SAMPLE_BYTES) * index // (SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    return digest.hexdigest()[:12]


def _convert(path: Path, folder: Path) -> None:
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import torch
        import transformers
    except ImportError as error:
        missing = f"reading GGUF files needs {error.name}: pip install 'cascade-edge[models]'"
        raise ModelError(missing) from error
    auto: Any = transformers.AutoModelForCausalLM
    tokenizers: Any = transformers.AutoTokenizer
    try:
        loaded = auto.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        tokenizer = tokenizers.from_pretrained(path.parent, gguf_file=path.name)
    except (ValueError, KeyError, OSError, RuntimeError, NotImplementedError) as error:
        raise ModelError(f"transformers cannot read {path.name}: {error}") from error
    with torch.device("meta"):
        fresh = auto.from_config(loaded.config)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in loaded.state_dict().items()}
    del loaded
    fresh.load_state_dict(weights, assign=True)
    fresh.tie_weights()
    # The weights are plain numbers now; with this entry transformers would look for the GGUF file again.
    fresh.config.__dict__.pop("quantization_config", None)
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
