"""The target as teacher: the likeliest tokens at every place of every answer, with their log-probabilities.

Only the `k` best are kept, so a whole training set fits into memory and the target need not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..base import Feed
from .texts import Text, common_prefix, packed

if TYPE_CHECKING:
    from ..huggingface import HuggingFaceModel

__all__ = ["teach"]

PASS_ROWS = 1024
"""Tokens in a pass: enough for the processor's sake, few enough that their logits take little memory."""


def teach(target: HuggingFaceModel, texts: Sequence[Text], num_best: int) -> dict[str, npt.NDArray[Any]]:
    """`ids` and `log_probs`, both [answer tokens, num_best], text by text, likeliest first.

    Row j of a text says what the target expects as token j of the answer.
    """
    import torch

    starts = np.cumsum([0, *(len(text.answer) for text in texts)])
    ids = np.zeros((int(starts[-1]), num_best), dtype=np.uint32)
    log_probs = np.zeros((int(starts[-1]), num_best), dtype=np.float16)
    prefix = common_prefix(texts)
    base = target.new_sequence()
    target.forward([Feed(base, prefix, 0)])
    for group in packed([len(text.tokens) - 1 - len(prefix) for text in texts], PASS_ROWS):
        feeds = []
        for index in group:
            text = texts[index]
            feeds.append(Feed(base.fork(), text.tokens[len(prefix) : -1], len(text.answer)))
        logits = target.forward(feeds)
        best = torch.topk(logits, num_best, dim=1)
        sums = torch.logsumexp(logits, dim=1, keepdim=True)
        found_ids = best.indices.cpu().numpy().astype(np.uint32)
        found = (best.values - sums).cpu().numpy().astype(np.float16)
        del logits, best, sums
        at = 0
        for index, feed in zip(group, feeds, strict=True):
            rows = slice(int(starts[index]), int(starts[index + 1]))
            ids[rows] = found_ids[at : at + feed.num_logits]
            log_probs[rows] = found[at : at + feed.num_logits]
            at += feed.num_logits
            feed.sequence.release()
    base.release()
    return {"ids": ids, "log_probs": log_probs}
