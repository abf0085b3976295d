"""A folder into memory: the module and its tokenizer, with errors that say what is wrong with the folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .hushed import quiet
from .loading import Source
from .packed import PACKED_FILE, unpack
from .text import TextTokenizer, tokenizer_file

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
    if (source.folder / PACKED_FILE).is_file():
        return _read_packed(source, dtype).to(device)
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


def _read_packed(source: Source, dtype: torch.dtype) -> Any:
    import transformers

    weights = unpack(source.folder / PACKED_FILE, dtype)
    auto: Any = transformers.AutoModelForCausalLM
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(source.folder, local_files_only=True)
            module = auto.from_config(config, dtype=dtype, attn_implementation="eager")
            tied = set(module.all_tied_weights_keys)
            missing = set(module.state_dict()) - tied - set(weights)
            module.load_state_dict(weights, strict=False)
            module.tie_weights()
    except Exception as error:  # whatever a strange folder provokes
        raise ModelError(f"{source.name} cannot be loaded from {source.folder}: {error}") from error
    if missing:
        raise ModelError(f"{source.name} lacks weights: {', '.join(sorted(missing)[:5])}; get it again")
    return module


def read_tokenizer(source: Source) -> TextTokenizer | None:
    """The folder's tokenizer; None if it has none (token ids still work)."""
    folder = source.folder
    if tokenizer_file(folder):
        return TextTokenizer.load(folder)
    if not any(
        (folder / name).is_file() for name in ("tokenizer.model", "vocab.json", "tokenizer_config.json")
    ):
        return None
    raise ModelError(
        f"{source.name} has a tokenizer of an old kind without tokenizer.json; "
        "load it with AutoTokenizer and save it again with save_pretrained"
    )
