"""transformers' generation, plain and assisted: target and draft side by side on one machine, without a link.

The assistant is our draft, by the hook that transformers has for candidates: its own assistants must be whole
models of the target's vocabulary, which a small draft is not. Its loop, its caches and its verification are
used as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from ...decoding import Sampling, pick
from ...models.base import Feed, LanguageModel
from ...models.text import Detokenizer, TextTokenizer
from .contest import Answered

__all__ = ["Assisted", "load_assisted"]

NUM_CANDIDATES = 4


def load_assisted(
    target: str, draft: LanguageModel | None, *, num_candidates: int = NUM_CANDIDATES
) -> Assisted:
    """The stock model of a reference, in bfloat16 as the edge has it; without a draft it is on its own."""
    import torch
    from transformers import AutoModelForCausalLM

    from ...models.loading import resolve
    from ...models.reading import read_tokenizer

    source = resolve(target)
    model = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.bfloat16).eval()
    tokenizer = read_tokenizer(source)
    assert tokenizer is not None
    return Assisted(model, tokenizer, draft, num_candidates=num_candidates)


class Assisted:
    """One processor for both models, as there is in `generate`."""

    def __init__(
        self, model: Any, tokenizer: TextTokenizer, draft: LanguageModel | None, *, num_candidates: int
    ) -> None:
        self.name = "transformers" if draft is None else f"transformers, assisted by {num_candidates}"
        self._model, self._tokenizer, self._draft = model, tokenizer, draft
        self._num_candidates = num_candidates

    async def answer(self, question: str, num_tokens: int) -> Answered:
        prompt = self._tokenizer.chat([{"role": "user", "content": question}])
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        tokens, times_s = await asyncio.to_thread(self.generate, prompt, num_tokens, now_s)
        detokenizer = Detokenizer(self._tokenizer)
        text = "".join(detokenizer.add(token) for token in tokens) + detokenizer.flush()
        return Answered(
            times_s=tuple(time_s - began_s for time_s in times_s), num_tokens=len(tokens), text=text
        )

    def generate(
        self, prompt: Sequence[int], num_tokens: int, now_s: Callable[[], float]
    ) -> tuple[list[int], list[float]]:
        """Tokens without the end of sequence, and when each was there."""
        import torch

        stamps = _Stamps(now_s)
        options: dict[str, Any] = {}
        if self._draft is not None:
            # Assisted generation, with the candidates of somebody who needs no model of transformers' own.
            options["prompt_lookup_num_tokens"] = self._num_candidates
            generator = _candidates(self._draft, self._num_candidates)
            self._model._get_candidate_generator = lambda *_args, **_options: generator
        ids = torch.tensor([list(prompt)])
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            streamer=stamps,
            eos_token_id=sorted(self._tokenizer.eos_ids),
            pad_token_id=min(self._tokenizer.eos_ids),
            **options,
        )
        kept = [index for index, token in enumerate(stamps.tokens) if token not in self._tokenizer.eos_ids]
        return [stamps.tokens[index] for index in kept], [stamps.times_s[index] for index in kept]


class _Stamps:
    """A streamer that looks at the clock. The first thing that it gets is the prompt."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._has_prompt = False
        self.tokens: list[int] = []
        self.times_s: list[float] = []

    def put(self, value: Any) -> None:
        if not self._has_prompt:
            self._has_prompt = True
            return
        for token in value.reshape(-1).tolist():
            self.tokens.append(token)
            self.times_s.append(self._now_s())

    def end(self) -> None:
        """`generate` is over."""


def _candidates(draft: LanguageModel, num_candidates: int) -> Any:
    """A candidate generator over our draft, whose cache is rolled back to what the texts have in common."""
    import torch
    from transformers.generation.candidate_generator import CandidateGenerator

    class Candidates(CandidateGenerator):  # type: ignore[misc]
        def __init__(self) -> None:
            self._sequence = draft.new_sequence()
            self._held: list[int] = []

        def get_candidates(self, input_ids: Any, **_options: Any) -> tuple[Any, None]:
            text: list[int] = input_ids[0].tolist()
            common = 0
            for ours, theirs in zip(self._held, text[:-1], strict=False):
                if ours != theirs:
                    break
                common += 1
            self._sequence.truncate(common)
            self._held = text[:common]
            fed = text[common:]
            for _ in range(num_candidates):
                logits = draft.forward([Feed(self._sequence, fed, 1)])
                self._held += fed
                fed = [pick(logits[0], Sampling(), len(text))]
                text += fed
            return torch.tensor([text]), None

        def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
            """As many the next time."""

    return Candidates()
