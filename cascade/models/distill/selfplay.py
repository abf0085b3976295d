"""Training text that the target writes itself, questions included: no data set is needed.

Given the chat template up to where a user would begin to write, an aligned model writes what users ask
(Magpie, arXiv 2406.08464). Half of the answers are greedy, half are sampled at T = 0.8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...decoding import Sampling
from ...errors import ModelError
from ..text import TextTokenizer
from .generation import Listener, continue_all
from .texts import Text

if TYPE_CHECKING:
    from ..huggingface import HuggingFaceModel
    from .settings import DistillSettings

__all__ = ["InventedPrompts", "PromptSource", "WrittenPrompts", "write_answers"]

MARK = "\x02user\x03"
"""Stands for a question while the template is cut open around it."""


class PromptSource(Protocol):
    def prompts(self, first: int, count: int) -> list[tuple[int, ...]]:
        """Token ids of the prompts number `first` and on; fewer than `count` where there are no more."""
        ...


class InventedPrompts:
    """Questions that the target makes up. Number n is always the same one."""

    def __init__(
        self,
        target: Callable[[], HuggingFaceModel],
        tokenizer: TextTokenizer | None,
        settings: DistillSettings,
    ) -> None:
        self._target = target
        self._tokenizer = tokenizer
        self._settings = settings

    def prompts(self, first: int, count: int) -> list[tuple[int, ...]]:
        target = self._target()
        opening = _opening(target, self._tokenizer)
        samplings = [
            Sampling(temperature=1.0, top_p=0.97, seed=_seed(self._settings.seed, 0, first + index))
            for index in range(count)
        ]
        written = continue_all(target, [opening] * count, samplings, self._settings.prompt_tokens)
        return [
            self._as_prompt(opening, [token for token in ids if token not in target.eos_ids])
            for ids in written
        ]

    def _as_prompt(self, opening: tuple[int, ...], ids: Sequence[int]) -> tuple[int, ...]:
        """The question as an app would send it: as text, through the template."""
        tokenizer = self._tokenizer
        if tokenizer is None or not tokenizer.has_chat_template:
            return (*opening, *ids)
        question = tokenizer.decode(ids).strip() or "?"
        return tuple(tokenizer.chat([{"role": "user", "content": question}]))


class WrittenPrompts:
    """Questions of a file, one a line; a line that is a JSON string may hold line breaks (`"a\\nb"`)."""

    def __init__(self, path: Path, tokenizer: TextTokenizer | None) -> None:
        if tokenizer is None:
            raise ModelError("this target has no tokenizer, so it cannot read a file of prompts")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot read the prompts in {path}: {error}") from error
        self._tokenizer = tokenizer
        self._questions = [_question(line) for line in lines if line.strip()]
        if not self._questions:
            raise ModelError(f"{path} holds no prompts")

    @property
    def count(self) -> int:
        return len(self._questions)

    def prompts(self, first: int, count: int) -> list[tuple[int, ...]]:
        found = []
        for question in self._questions[first : first + count]:
            if self._tokenizer.has_chat_template:
                ids = self._tokenizer.chat([{"role": "user", "content": question}])
            else:
                ids = self._tokenizer.encode(question, special=True)
            found.append(tuple(ids))
        return found


def write_answers(
    target: HuggingFaceModel,
    prompts: Sequence[tuple[int, ...]],
    first: int,
    settings: DistillSettings,
    on_step: Callable[[int], None] | None = None,
    listener: Listener | None = None,
) -> list[Text]:
    """The target's answers to prompts number `first` and on: even numbers greedily, odd ones at T = 0.8."""
    most = target.context_length - settings.answer_tokens
    if most < 1:
        raise ModelError(
            f"answers of {settings.answer_tokens} tokens fill the target's context; ask for less"
        )
    prompts = [prompt[-most:] for prompt in prompts]
    samplings = [
        Sampling(temperature=0.8 if number % 2 else 0.0, seed=_seed(settings.seed, 1, number))
        for number in range(first, first + len(prompts))
    ]
    answers = continue_all(target, prompts, samplings, settings.answer_tokens, on_step, listener)
    return [Text(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def _seed(seed: int, use: int, number: int) -> int:
    """A 64-bit seed of its own for every text."""
    return seed << 32 | use << 31 | number & 0x7FFFFFFF


def _question(line: str) -> str:
    if line.startswith('"'):
        try:
            value = json.loads(line)
        except ValueError:
            return line
        return value if isinstance(value, str) else line
    return line


def _opening(target: HuggingFaceModel, tokenizer: TextTokenizer | None) -> tuple[int, ...]:
    """What stands before a user's first word; without a template, whatever begins a text."""
    if tokenizer is not None and tokenizer.has_chat_template:
        text = tokenizer.chat_text([{"role": "user", "content": MARK}])
        before, mark, _ = text.partition(MARK)
        if mark and before:
            return tuple(tokenizer.encode(before))
    ids = tokenizer.encode("", special=True) if tokenizer is not None else []
    return tuple(ids) or (min(target.eos_ids, default=0),)
