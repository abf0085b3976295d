"""Record a real pair: what the target says to a draft's held-out prompts, and what the draft would have said.

The result is small, and a laboratory in virtual time replays it anywhere, without torch (`models/paced.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..decoding import Sampling, pick_rows, probabilities
from ..models.base import Feed, LanguageModel
from ..models.paced import RecordedText, Recording
from .progress import say

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["judged", "record", "record_pair"]

LEAST_TOKENS = 8
"""A shorter answer says nothing about time."""
GREEDY = Sampling()


def record_pair(target: str, draft: str, *, num_texts: int, num_tokens: int) -> Recording:
    """Load both by name, and record."""
    from ..models.distill.result import held_out_prompts
    from ..models.loading import check_same_vocabulary, open_model

    prompts = held_out_prompts(draft)[:num_texts]
    models = open_model(target), open_model(draft)
    check_same_vocabulary(*models)
    say(f"recording {len(prompts)} texts of {target}, and what {draft} makes of them")
    return record(*models, prompts, num_tokens=num_tokens, names=(target, draft))


def record(
    target: LanguageModel,
    draft: LanguageModel,
    prompts: Iterable[Sequence[int]],
    *,
    num_tokens: int,
    names: tuple[str, str],
) -> Recording:
    """Greedy answers of at most so many tokens, without their ends of sequence."""
    openings = [tuple(prompt) for prompt in prompts]
    answers = _answers(target, openings, num_tokens)
    texts = [
        judged(draft, prompt, answer)
        for prompt, answer in zip(openings, answers, strict=True)
        if len(answer) >= LEAST_TOKENS
    ]
    return Recording(
        target=names[0],
        draft=names[1],
        vocab_size=target.vocab_size,
        vocab_fingerprint=target.vocab_fingerprint,
        texts=tuple(texts),
    )


def _answers(target: LanguageModel, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[list[int]]:
    """All texts in one pass, token by token."""
    sequences = [target.new_sequence() for _ in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    fed = {number: list(prompt) for number, prompt in enumerate(prompts)}
    while fed:
        logits = target.forward([Feed(sequences[number], tokens, 1) for number, tokens in fed.items()])
        picks = pick_rows(logits, [GREEDY] * len(fed), range(len(fed))).tolist()
        for number, token in zip(list(fed), picks, strict=True):
            if token in target.eos_ids:
                del fed[number]
                continue
            answers[number].append(token)
            fed[number] = [token]
            if len(answers[number]) == num_tokens:
                del fed[number]
    for sequence in sequences:
        sequence.release()
    return answers


def judged(
    draft: LanguageModel, prompt: tuple[int, ...], answer: Sequence[int], sampling: Sampling = GREEDY
) -> RecordedText:
    """What the draft would have guessed at each place, everything before it being the answer's."""
    sequence = draft.new_sequence()
    logits = draft.forward([Feed(sequence, [*prompt, *answer[:-1]], len(answer))])
    sequence.release()
    positions = range(len(prompt), len(prompt) + len(answer))
    guesses = pick_rows(logits, [sampling] * len(answer), positions).tolist()
    chances = [
        float(probabilities(row, Sampling(temperature=1.0))[guess])
        for row, guess in zip(logits, guesses, strict=True)
    ]
    return RecordedText(prompt=prompt, answer=tuple(answer), guesses=tuple(guesses), chances=tuple(chances))
