"""Answers to many prompts at once, by our own ragged passes and with the library's own seeded sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...decoding import Sampling, pick_rows
from ..base import Feed, LanguageModel, TokenSequence
from .texts import packed

__all__ = ["continue_all"]

PREFILL_ROWS = 1024


@dataclass(slots=True)
class Growing:
    """A text under way."""

    sequence: TokenSequence
    prompt_length: int
    sampling: Sampling
    tokens: list[int] = field(default_factory=list)


def continue_all(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    max_tokens: int,
    on_step: Callable[[int], None] | None = None,
) -> list[tuple[int, ...]]:
    """What the model says after each prompt, up to and with its end token, at most `max_tokens`.

    A result depends on its own prompt, settings and seed only. `on_step` hears how many tokens there are.
    """
    texts = [Growing(model.new_sequence(), len(p), s) for p, s in zip(prompts, samplings, strict=True)]
    for group in packed([len(prompt) for prompt in prompts], PREFILL_ROWS):
        _step(model, [texts[i] for i in group], [prompts[i] for i in group])
    while True:
        alive = [text for text in texts if not _is_done(model, text, max_tokens)]
        if not alive:
            break
        if on_step is not None:
            on_step(sum(len(text.tokens) for text in texts))
        _step(model, alive, [text.tokens[-1:] for text in alive])
    for text in texts:
        text.sequence.release()
    return [tuple(text.tokens) for text in texts]


def _step(model: LanguageModel, texts: Sequence[Growing], feeds: Sequence[Sequence[int]]) -> None:
    """Feed each text its tokens and pick its next one."""
    logits = model.forward([Feed(text.sequence, feed, 1) for text, feed in zip(texts, feeds, strict=True)])
    positions = [text.prompt_length + len(text.tokens) for text in texts]
    picks = pick_rows(logits, [text.sampling for text in texts], positions)
    for text, token in zip(texts, picks.tolist(), strict=True):
        text.tokens.append(token)


def _is_done(model: LanguageModel, text: Growing, max_tokens: int) -> bool:
    length = text.prompt_length + len(text.tokens)
    return (
        text.tokens[-1] in model.eos_ids or len(text.tokens) >= max_tokens or length >= model.context_length
    )
