"""A draft made small: what is needed to run it and to examine it, a quarter of what training left."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..packed import PACKED_FILE, pack
from ..vocabulary import TOKENIZER_FOLDER, VocabularyMap
from .files import read_json, write_json
from .result import CARD_FILE, HELD_OUT_FILE

__all__ = ["put_on_shelf"]


def put_on_shelf(draft: Path, out: Path, notes: Mapping[str, Any]) -> int:
    """Write a packed copy of a draft's folder; `notes` go into its card. Returns its bytes."""
    from safetensors.torch import load_file

    shutil.rmtree(out, ignore_errors=True)
    (out / TOKENIZER_FOLDER).mkdir(parents=True)
    pack(load_file(draft / "model.safetensors"), out / PACKED_FILE)
    (out / PACKED_FILE).chmod(0o644)  # it is written for its owner alone, and a package is for everybody
    shutil.copyfile(draft / "config.json", out / "config.json")
    VocabularyMap.load(draft).save(out)
    for path in sorted((draft / TOKENIZER_FOLDER).iterdir()):
        _put_text(path, out / TOKENIZER_FOLDER)
    shutil.copyfile(draft / HELD_OUT_FILE, out / HELD_OUT_FILE)
    write_json(out / CARD_FILE, {**read_json(draft / CARD_FILE), **notes})
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _put_text(path: Path, folder: Path) -> None:
    """Tokenizers are mostly repetition; the small files beside them stay readable."""
    if path.name != "tokenizer.json":
        shutil.copyfile(path, folder / path.name)
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    compact = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    (folder / f"{path.name}.gz").write_bytes(gzip.compress(compact.encode(), mtime=0))
