"""A draft's own, smaller vocabulary: which of the target's tokens it can say, and how it reads the others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

__all__ = ["MAP_FILE", "TOKENIZER_FOLDER", "VocabularyMap", "has_vocabulary_map"]

MAP_FILE = "vocabulary_map.json"
ARRAYS_FILE = "vocabulary_map.npz"
FORMAT = 1

TOKENIZER_FOLDER = "tokenizer"
"""Where a draft's folder keeps its target's tokenizer: not beside weights that have other ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyMap:
    """Draft ids are places in `kept`; every id of the target has a draft id to be read as."""

    kept: npt.NDArray[np.int64]
    """Target ids that the draft can say, ascending: [draft vocabulary]."""
    inputs: npt.NDArray[np.int64]
    """Draft id as which the draft reads each target id: [target vocabulary]."""
    vocab_fingerprint: str
    """The target's."""
    eos_ids: frozenset[int]
    """The target's, in the target's ids."""
    outputs: npt.NDArray[np.int64] = field(init=False)
    """Draft id that says each target id, -1 where the draft cannot: [target vocabulary]."""

    def __post_init__(self) -> None:
        kept, inputs = self.kept, self.inputs
        if kept.ndim != 1 or inputs.ndim != 1 or not 0 < len(kept) <= len(inputs):
            raise ModelError("a vocabulary map is two lists of ids, the draft's no longer than the target's")
        if kept[0] < 0 or kept[-1] >= len(inputs) or (np.diff(kept) <= 0).any():
            raise ModelError("the kept ids of a vocabulary map must ascend within the target's vocabulary")
        if inputs.min() < 0 or inputs.max() >= len(kept):
            raise ModelError("a vocabulary map reads a token as one that the draft does not have")
        outputs = np.full(len(inputs), -1, dtype=np.int64)
        outputs[kept] = np.arange(len(kept))
        object.__setattr__(self, "outputs", outputs)

    @property
    def vocab_size(self) -> int:
        """The target's."""
        return len(self.inputs)

    def save(self, folder: Path) -> None:
        """Write both files into a folder."""
        kept, inputs = self.kept.astype(np.uint32), self.inputs.astype(np.uint32)
        np.savez_compressed(folder / ARRAYS_FILE, kept=kept, inputs=inputs)
        about = {
            "format": FORMAT,
            "draft_vocab_size": len(self.kept),
            "target_vocab_size": self.vocab_size,
            "target_vocab_fingerprint": self.vocab_fingerprint,
            "target_eos_ids": sorted(self.eos_ids),
        }
        (folder / MAP_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> VocabularyMap:
        """Read what `save` wrote."""
        try:
            about: dict[str, Any] = json.loads((folder / MAP_FILE).read_text(encoding="utf-8"))
            with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
                kept, inputs = arrays["kept"].astype(np.int64), arrays["inputs"].astype(np.int64)
            if about["format"] != FORMAT:
                raise ModelError(f"it has format {about['format']}, this version reads {FORMAT}")
            return cls(
                kept=kept,
                inputs=inputs,
                vocab_fingerprint=str(about["target_vocab_fingerprint"]),
                eos_ids=frozenset(map(int, about["target_eos_ids"])),
            )
        except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
            raise ModelError(f"the vocabulary map in {folder} cannot be read: {error}") from error


def has_vocabulary_map(folder: Path) -> bool:
    """Whether a folder holds a draft with a vocabulary of its own."""
    return (folder / MAP_FILE).is_file()
