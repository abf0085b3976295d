"""A folder into memory: the module and its tokenizer, with errors that say what is wrong with the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .hushed import quiet
from .loading import Source
from .text import TextTokenizer

if TYPE_CHECKING:
    import torch

__all__ = ["read_module", "read_tokenizer"]


def read_module(source: Source, dtype: torch.dtype, device: str) -> Any:
    """The `...ForCausalLM` module of a folder. Code that lies in the folder is never run."""
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "Hugging Face models need transformers: pip install 'cascade-edge[models]'"
        ) from error
    auto: Any = transformers.AutoModelForCausalLM
    try:
        with quiet():
            module, report = auto.from_pretrained(
                source.folder,
                dtype=dtype,
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a strange folder provokes
        raise ModelError(f"{source.name} cannot be loaded from {source.folder}: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{source.name} lacks weights: {', '.join(missing[:5])}; download it again")
    return module if device == "cpu" else module.to(device)


def read_tokenizer(source: Source) -> TextTokenizer | None:
    """The folder's tokenizer; None if it has none (token ids still work)."""
    folder = source.folder
    if (folder / "tokenizer.json").is_file():
        return TextTokenizer.load(folder)
    if not any(
        (folder / name).is_file() for name in ("tokenizer.model", "vocab.json", "tokenizer_config.json")
    ):
        return None
    raise ModelError(
        f"{source.name} has a tokenizer of an old kind without tokenizer.json; "
        "load it with AutoTokenizer and save it again with save_pretrained"
    )
