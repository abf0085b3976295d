"""What a model's folder says about it: nothing is loaded but small files, so this needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .loading import count_parameters, resolve
from .text import TextTokenizer, read_json, tokenizer_file
from .vocabulary import TOKENIZER_FOLDER, VocabularyMap, has_vocabulary_map

__all__ = ["details"]


def details(ref: str | Path) -> dict[str, Any]:
    """JSON-able facts: family, size, vocabulary, text; and a draft's card, if it is one."""
    source = resolve(ref)
    config = read_json(source.folder / "config.json")
    inner = config.get("text_config", config)
    found: dict[str, Any] = {
        "name": source.name,
        "folder": str(source.folder),
        "family": config.get("model_type"),
        "parameters": count_parameters(source.folder),
        "layers": inner.get("num_hidden_layers", inner.get("n_layer")),
        "hidden_size": inner.get("hidden_size", inner.get("n_embd")),
        "context_length": inner.get("max_position_embeddings", inner.get("n_positions")),
        "vocab_size": inner.get("vocab_size"),
        "weights_bytes": sum(path.stat().st_size for path in source.folder.glob("*.safetensors")),
    }
    texts = source.folder
    if has_vocabulary_map(source.folder):
        vocabulary = VocabularyMap.load(source.folder)
        texts = source.folder / TOKENIZER_FOLDER
        found["speaks"] = {
            "vocab_size": vocabulary.vocab_size,
            "vocab_fingerprint": vocabulary.vocab_fingerprint,
        }
    if tokenizer_file(texts):
        tokenizer = TextTokenizer.load(texts)
        found["text"] = {
            "vocab_fingerprint": tokenizer.vocab_fingerprint,
            "chat_template": tokenizer.has_chat_template,
            "eos_ids": sorted(tokenizer.eos_ids),
        }
    card = read_json(source.folder / "card.json")
    if card:
        found["card"] = card
    return found
