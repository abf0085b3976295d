"""Answers to many prompts at once, with the library's own seeded sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...decoding import Sampling, pick_rows
from ..ragged import bucket
from .herd import Herd
from .texts import common_start

if TYPE_CHECKING:
    import torch

    from ..huggingface import HuggingFaceModel

__all__ = ["Listener", "continue_all"]

Listener = Callable[[Sequence[int], "torch.Tensor"], None]
"""Hears the numbers of the texts that get a token now, and the logits [texts, vocab_size] it comes from."""


@dataclass(slots=True)
class Growing:
    """A text under way."""

    number: int
    prompt_length: int
    sampling: Sampling
    tokens: list[int] = field(default_factory=list)


def continue_all(
    model: HuggingFaceModel,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    max_tokens: int,
    on_step: Callable[[int], None] | None = None,
    listener: Listener | None = None,
) -> list[tuple[int, ...]]:
    """What the model says after each prompt, up to and with its end token, at most `max_tokens`.

    A result depends on its own prompt, settings and seed only, near ties apart. `on_step` hears how many
    tokens there are.
    """
    if not prompts:
        return []
    pairs = enumerate(zip(prompts, samplings, strict=True))
    texts = [Growing(number, len(prompt), sampling) for number, (prompt, sampling) in pairs]
    herd = Herd(model, prompts, max_tokens)
    logits = herd.prefill(prompts, common_start(prompts))
    under_way = alive = texts
    while True:
        rows = logits[: len(alive)]
        if listener is not None:
            listener([text.number for text in alive], rows)
        positions = [text.prompt_length + len(text.tokens) for text in alive]
        picks = pick_rows(rows, [text.sampling for text in alive], positions).tolist()
        for text, token in zip(alive, picks, strict=True):
            text.tokens.append(token)
        if on_step is not None:
            on_step(sum(len(text.tokens) for text in texts))
        still = [row for row, text in enumerate(alive) if not _is_done(model, text, max_tokens)]
        if not still:
            return [tuple(text.tokens) for text in texts]
        if len(still) < len(alive):
            # Texts that are done round up the width of the pass, behind those under way.
            done = [row for row in range(len(under_way)) if row not in set(still)]
            kept = still + done[: bucket(len(still)) - len(still)]
            herd.keep(kept)
            under_way = [under_way[row] for row in kept]
            alive = under_way[: len(still)]
        logits = herd.step([text.tokens[-1] for text in under_way])


def _is_done(model: HuggingFaceModel, text: Growing, max_tokens: int) -> bool:
    length = text.prompt_length + len(text.tokens)
    return (
        text.tokens[-1] in model.eos_ids or len(text.tokens) >= max_tokens or length >= model.context_length
    )
