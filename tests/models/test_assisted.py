"""transformers' assisted loop over our drafts: no other token, and fewer passes where they are right."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from cascade.lab.peers.assisted import Assisted
from cascade.models.paced import PacedDraft, RecordedText, Recording

from .families import VOCAB, build

PROMPT = (5, 6, 7)
NUM_TOKENS = 24


class NoText:
    """All that `generate` wants of a tokenizer."""

    eos_ids = frozenset({2})


def generated(model: Any, draft: PacedDraft | None) -> list[int]:
    ticks = itertools.count()
    peer = Assisted(model, NoText(), draft, num_candidates=3)  # type: ignore[arg-type]
    tokens, times_s = peer.generate(PROMPT, NUM_TOKENS, lambda: float(next(ticks)))
    assert times_s == sorted(times_s)
    assert len(times_s) == len(tokens)
    return tokens


def draft_of(answer: list[int], *, num_wrong: int) -> PacedDraft:
    guesses = [
        (token + 1) % VOCAB if num_wrong and place % num_wrong == 1 else token
        for place, token in enumerate(answer)
    ]
    text = RecordedText(
        prompt=PROMPT, answer=tuple(answer), guesses=tuple(guesses), chances=(0.5,) * len(answer)
    )
    return PacedDraft(
        Recording(target="t", draft="d", vocab_size=VOCAB, vocab_fingerprint="f", texts=(text,))
    )


@pytest.mark.parametrize("num_wrong", [0, 3])
def test_assistance_changes_no_token_and_saves_passes(num_wrong: int) -> None:
    model = build("llama", seed=3)
    plain = generated(model, None)
    assert len(plain) >= 8
    passes = []
    handle = model.register_forward_hook(lambda *_args: passes.append(1))
    try:
        assisted = generated(model, draft_of(plain, num_wrong=num_wrong))
    finally:
        handle.remove()
    assert assisted == plain
    assert len(passes) < len(plain)
