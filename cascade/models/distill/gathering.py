"""The first stage: texts to learn from and prompts to be examined on, chunk by chunk in the state folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ModelError
from ..text import TextTokenizer
from .files import read_json, write_json
from .progress import Pace
from .selfplay import InventedPrompts, PromptSource, WrittenPrompts, write_answers
from .settings import DistillSettings
from .target import Target
from .teacher import Notes, save_shard
from .texts import CHUNK_TEXTS, Text, read_texts, write_texts

__all__ = ["Gathered", "Origin", "gather"]

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where texts come from: the target alone, a file of prompts, or a file of ready texts."""

    prompts: Path | None = None
    text: Path | None = None

    def __post_init__(self) -> None:
        if self.prompts is not None and self.text is not None:
            raise ModelError("give prompts or ready texts, not both")

    @property
    def about(self) -> str:
        if self.prompts is not None:
            return f"prompts of a file ({self.prompts.name}), answers by the target"
        if self.text is not None:
            return f"texts of a file ({self.text.name})"
        return "prompts and answers by the target itself"

    @property
    def identity(self) -> str:
        """Tells apart what must not be mixed in one state folder."""
        if self.prompts is not None:
            try:
                return f"prompts {hashlib.sha256(self.prompts.read_bytes()).hexdigest()[:16]}"
            except OSError as error:
                raise ModelError(f"cannot read the prompts in {self.prompts}: {error}") from error
        return "ready texts" if self.text is not None else "the target"


@dataclass(frozen=True, slots=True)
class Gathered:
    texts: Sequence[Text]
    held_out: Sequence[Prompt]


def gather(
    origin: Origin,
    state: Path,
    target: Target,
    tokenizer: TextTokenizer | None,
    settings: DistillSettings,
    pace: Pace,
) -> Gathered:
    """Read what is there and make the rest. The target is loaded only if something has to be written."""
    if origin.text is not None:
        return _ready(origin.text, settings)
    source: PromptSource
    if origin.prompts is not None:
        written = WrittenPrompts(origin.prompts, tokenizer)
        source, held = written, _num_held_out(written.count, settings)
    else:
        source, held = InventedPrompts(target, tokenizer, settings), settings.held_out
    texts: list[Text] = []
    so_far = 0
    while so_far < settings.tokens:
        number = len(texts) // CHUNK_TEXTS
        path = state / "texts" / f"{number:05d}.jsonl.gz"
        first = held + len(texts)
        if not path.is_file():
            note = f"{len(texts)} texts"
            pace.say("texts", so_far, settings.tokens, note)
            prompts = source.prompts(first, CHUNK_TEXTS)
            if not prompts:
                break

            def on_step(num_tokens: int, before: int = so_far, note: str = note) -> None:
                pace.say("texts", min(before + num_tokens, settings.tokens), settings.tokens, note)

            notes = Notes(len(prompts), min(settings.num_best, target().vocab_size))
            answered = write_answers(target(), prompts, first, settings, on_step, notes)
            save_shard(state, number, answered, notes.shard())
            write_texts(path, answered)
        chunk = read_texts(path)
        texts += chunk
        so_far += sum(len(text.answer) for text in chunk)
        if len(chunk) < CHUNK_TEXTS:
            break
    pace.say("texts", settings.tokens, settings.tokens, f"{len(texts)} texts")
    if not texts:
        raise ModelError("there are too few prompts: at least two are needed, one of them for the exam")
    return Gathered(texts, _held_out(state, source, held))


def _held_out(state: Path, source: PromptSource, count: int) -> list[Prompt]:
    path = state / "held_out.json"
    if not path.is_file():
        write_json(path, {"prompts": source.prompts(0, count)})
    return [tuple(map(int, prompt)) for prompt in read_json(path)["prompts"]]


def _ready(path: Path, settings: DistillSettings) -> Gathered:
    found = read_texts(path)
    held = _num_held_out(len(found), settings)
    if len(found) <= held:
        raise ModelError(f"{path} holds too few texts: at least two are needed, one of them for the exam")
    texts: list[Text] = []
    left = settings.tokens
    for text in found[held:]:
        if left <= 0:
            break
        texts.append(text)
        left -= len(text.answer)
    return Gathered(texts, [text.prompt for text in found[:held]])


def _num_held_out(available: int, settings: DistillSettings) -> int:
    """Of few prompts, a tenth."""
    return min(settings.held_out, max(1, available // 10))
