"""What a step of the draft costs, against a pass of its target."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from ..base import Feed, LanguageModel

__all__ = ["step_times"]

BEFORE = 64
"""Tokens that the text holds already."""
WINDOW = 8
"""Steps that a draft takes in a row, as on a device; the first one finds the caches full of target."""


def step_times(
    draft: LanguageModel, target: LanguageModel, clock: Callable[[], float], repeats: int = 15
) -> dict[str, Any]:
    """Median milliseconds of one-row passes, a window's steps counted with their mean.

    Windows of the draft and passes of the target take turns, so that a busy machine slows both down alike.
    """
    sequences = {
        name: (model, model.new_sequence()) for name, model in (("draft", draft), ("target", target))
    }
    before = max(1, min(BEFORE, draft.context_length - 1, target.context_length - 1))
    times: dict[str, list[float]] = {"draft": [], "target": []}
    for model, sequence in sequences.values():
        model.forward([Feed(sequence, [token % model.vocab_size for token in range(before)], 0)])
        model.forward([Feed(sequence, [1], 1)])
        sequence.truncate(before)
    for _ in range(repeats):
        for name, (model, sequence) in sequences.items():
            num_steps = WINDOW if name == "draft" else 1
            start = clock()
            for _ in range(num_steps):
                model.forward([Feed(sequence, [1], 1)])
                sequence.truncate(before)
            times[name].append((clock() - start) / num_steps)
    for _, sequence in sequences.values():
        sequence.release()
    draft_ms, target_ms = (statistics.median(times[name]) * 1e3 for name in ("draft", "target"))
    return {
        "draft_step_ms": round(draft_ms, 3),
        "target_pass_ms": round(target_ms, 3),
        "target_over_draft": round(target_ms / draft_ms, 2) if draft_ms else None,
    }
