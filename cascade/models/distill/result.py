"""The last stage: what the draft is worth, and the folder it is given out in."""

from __future__ import annotations

import copy
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ..huggingface import HuggingFaceModel
from ..hushed import quiet
from ..loading import resolve
from ..trimmed import TrimmedModel
from ..vocabulary import TOKENIZER_FOLDER, VocabularyMap
from .files import read_json, write_json

__all__ = [
    "CARD_FILE",
    "HELD_OUT_FILE",
    "as_model",
    "check_free",
    "held_out_prompts",
    "machine",
    "write_draft",
]

CARD_FILE = "card.json"
HELD_OUT_FILE = "held_out.json"
"""Prompts that the draft was not trained on, as ids of its target: for examining it again."""

TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json")


def as_model(draft: Any, vocabulary: VocabularyMap) -> TrimmedModel:
    """A copy of the module that can be asked: a model takes its module for itself."""
    return TrimmedModel(HuggingFaceModel(copy.deepcopy(draft), name="draft"), vocabulary)


def check_free(out: Path) -> None:
    """Refuse a folder with anything but a draft of ours in it."""
    if out.exists() and not ((out / CARD_FILE).is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise ModelError(f"{out} is there already and holds no draft of this command; choose another folder")


def write_draft(
    out: Path,
    draft: Any,
    vocabulary: VocabularyMap,
    target_folder: Path,
    held_out: Sequence[Sequence[int]],
    card: dict[str, Any],
) -> None:
    """The folder, complete from its first moment; an older draft there is replaced."""
    check_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        fresh = scratch / "new"
        draft.set_attn_implementation("sdpa")
        with quiet():
            draft.save_pretrained(fresh)
        vocabulary.save(fresh)
        _copy_tokenizer(target_folder, fresh / TOKENIZER_FOLDER, vocabulary)
        write_json(fresh / HELD_OUT_FILE, {"prompts": held_out}, indent=None)
        write_json(fresh / CARD_FILE, card)
        if out.exists():
            out.rename(scratch / "old")
        fresh.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def held_out_prompts(draft: str | Path) -> list[tuple[int, ...]]:
    """The prompts that were set aside when a draft was made."""
    source = resolve(draft)
    prompts = read_json(source.folder / HELD_OUT_FILE).get("prompts")
    if not prompts:
        raise ModelError(f"{source.name} has no {HELD_OUT_FILE}; take a draft that cascade distill made")
    return [tuple(map(int, prompt)) for prompt in prompts]


def machine() -> str:
    import torch

    threads = torch.get_num_threads()
    return f"{platform.system()} {platform.machine()}, {threads} threads, torch {torch.__version__}"


def _copy_tokenizer(source: Path, folder: Path, vocabulary: VocabularyMap) -> None:
    found = [source / name for name in TEXT_FILES if (source / name).is_file()]
    if found:
        folder.mkdir()
        for path in found:
            shutil.copyfile(path, folder / path.name)
        write_json(folder / "generation_config.json", {"eos_token_id": sorted(vocabulary.eos_ids)})
