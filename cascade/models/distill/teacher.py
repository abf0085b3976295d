"""The target as teacher: the likeliest tokens at every place of every answer, with their log-probabilities.

Only the `k` best are kept, so a whole training set fits into memory and the target need not run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .files import read_arrays, write_arrays
from .lesson import Lesson
from .texts import Text, common_start, packed

if TYPE_CHECKING:
    import torch

    from ..huggingface import HuggingFaceModel

__all__ = ["Notes", "Shard", "load_shard", "save_shard", "teach"]

Shard = dict[str, npt.NDArray[Any]]

PASS_ROWS = 1024
"""Tokens in a pass: enough for the processor's sake, few enough that their logits take little memory."""


class Notes:
    """What a target expects while it writes: listens to its generation, so that it need not read again."""

    def __init__(self, num_texts: int, num_best: int) -> None:
        self._num_best = num_best
        self._ids: list[list[npt.NDArray[Any]]] = [[] for _ in range(num_texts)]
        self._log_probs: list[list[npt.NDArray[Any]]] = [[] for _ in range(num_texts)]

    def __call__(self, texts: Sequence[int], logits: torch.Tensor) -> None:
        for text, ids, log_probs in zip(texts, *_best(logits, self._num_best), strict=True):
            self._ids[text].append(ids)
            self._log_probs[text].append(log_probs)

    def shard(self) -> Shard:
        """As `teach` returns it."""
        ids = [row for rows in self._ids for row in rows]
        log_probs = [row for rows in self._log_probs for row in rows]
        return {"ids": np.stack(ids), "log_probs": np.stack(log_probs)}


def teach(target: HuggingFaceModel, texts: Sequence[Text], num_best: int) -> Shard:
    """`ids` and `log_probs`, both [answer tokens, num_best], text by text, likeliest first.

    Row j of a text says what the target expects as token j of the answer.
    """
    import torch

    starts = np.cumsum([0, *(len(text.answer) for text in texts)])
    ids = np.zeros((int(starts[-1]), num_best), dtype=np.uint32)
    log_probs = np.zeros((int(starts[-1]), num_best), dtype=np.float16)
    prefix = common_start([text.prompt for text in texts])
    for group in packed([len(text.tokens) - 1 - len(prefix) for text in texts], PASS_ROWS):
        lesson = Lesson(prefix, [texts[index].tokens[:-1] for index in group])
        rows = lesson.last_rows([len(texts[index].answer) for index in group])
        with torch.inference_mode():
            logits = target.compute(lesson.tokens(), lesson.positions(), rows, lesson)
            found_ids, found = _best(logits, num_best)
            del logits
        at = 0
        for index in group:
            count = len(texts[index].answer)
            where = slice(int(starts[index]), int(starts[index + 1]))
            ids[where], log_probs[where] = found_ids[at : at + count], found[at : at + count]
            at += count
    return {"ids": ids, "log_probs": log_probs}


def save_shard(state: Path, number: int, texts: Sequence[Text], shard: Shard) -> None:
    """Put by what was said about chunk `number` of the texts."""
    write_arrays(_path(state, number), {**shard, "key": _key(texts)})


def load_shard(state: Path, number: int, texts: Sequence[Text]) -> Shard | None:
    """What `save_shard` put by; None if there is nothing, or it is about other texts."""
    path = _path(state, number)
    shard = read_arrays(path) if path.is_file() else {}
    return shard if np.array_equal(shard.get("key", ()), _key(texts)) else None


def _path(state: Path, number: int) -> Path:
    return state / "teacher" / f"{number:05d}.npz"


def _key(texts: Sequence[Text]) -> npt.NDArray[np.uint8]:
    """Tells whether the teacher spoke about these very texts."""
    content = repr([(text.prompt, text.answer) for text in texts]).encode()
    return np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)


def _best(logits: torch.Tensor, num_best: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float16]]:
    """Of each row, ids and log-probabilities of the likeliest tokens."""
    import torch

    best = torch.topk(logits, num_best, dim=1)
    sums = torch.logsumexp(logits, dim=1, keepdim=True)
    ids = best.indices.cpu().numpy().astype(np.uint32)
    log_probs = (best.values - sums).cpu().numpy().astype(np.float16)
    return ids, log_probs
