"""What a device drafts and reads with, made from what an app names."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..errors import ModelError, SettingsError
from ..models.base import LanguageModel
from ..models.runner import PacedRunner, Runner, ThreadRunner, constant_cost
from ..models.suffix import SuffixDraft
from ..models.text import TextTokenizer, tokenizer_folder

__all__ = ["SUFFIX", "Draft", "Equipment", "Vocabulary", "equip", "open_draft"]

SUFFIX = "suffix"

Draft: TypeAlias = LanguageModel | str | Path | None
"""A model, a bundled name or a folder of one, `"suffix"`, or None for plain streaming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Which token ids mean which text."""

    size: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """Ready to use."""

    model: LanguageModel | None
    """With suffix drafting there is none until the vocabulary is known."""
    runner: Runner | None
    tokenizer: TextTokenizer | None

    def __post_init__(self) -> None:
        if self.model is not None:
            self._check_tokenizer(self.model.vocab_fingerprint, whose="the draft's")

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a text."""
        if self.tokenizer is not None:
            return self.tokenizer.eos_ids
        return frozenset() if self.model is None else self.model.eos_ids

    def with_vocabulary(self, size: int, fingerprint: str) -> Equipment:
        """Once the edge's vocabulary is known."""
        self._check_tokenizer(fingerprint, whose="the edge's")
        if self.model is not None or self.runner is None:
            return self
        model = SuffixDraft(vocab_size=size, vocab_fingerprint=fingerprint, eos_ids=self.eos_ids)
        return Equipment(model=model, runner=self.runner, tokenizer=self.tokenizer)

    def _check_tokenizer(self, fingerprint: str, *, whose: str) -> None:
        """Text of another vocabulary would be nonsense, and nobody would say so."""
        if self.tokenizer is not None and self.tokenizer.vocab_fingerprint != fingerprint:
            text = f"its tokens are not {whose}; take the tokenizer of the edge's model"
            raise SettingsError("tokenizer", text)


async def equip(
    draft: Draft, runner: Runner | None, tokenizer: TextTokenizer | str | Path | None
) -> Equipment:
    """Load what is given by name. That takes seconds, in a thread, while the loop goes on."""
    model: LanguageModel | None = None
    if draft == SUFFIX:
        # A look-up in an index takes microseconds; to hand it to a thread would take longer.
        runner = runner or PacedRunner(constant_cost(0.0))
    elif draft is not None:
        model = await asyncio.to_thread(open_draft, draft) if isinstance(draft, str | Path) else draft
        runner = runner or ThreadRunner("cascade-draft")
    if isinstance(tokenizer, str | Path):
        tokenizer = await asyncio.to_thread(_read_tokenizer, tokenizer)
    elif tokenizer is None:
        found = getattr(model, "tokenizer", None)
        tokenizer = found if isinstance(found, TextTokenizer) else None
    return Equipment(model=model, runner=runner, tokenizer=tokenizer)


def open_draft(ref: str | Path, *, num_threads: int | None = None) -> LanguageModel:
    """A draft by name, in the format in which drafts are fast. Takes seconds; call it in a thread."""
    from ..models.loading import open_model

    try:
        # In int8 a step takes half the time. A guess that its rounding changes costs speed only.
        return open_model(ref, dtype="int8", num_threads=num_threads)
    except ImportError as error:
        raise ModelError(
            f"a draft model needs torch: pip install 'cascade-edge[models]'; draft={SUFFIX!r} does not"
        ) from error


def _read_tokenizer(ref: str | Path) -> TextTokenizer:
    """From a folder that has one, the target's or a draft's, or from a bundled name. Loads no model."""
    from ..models.loading import resolve

    if not Path(ref).is_dir() or not tokenizer_folder(Path(ref)):
        ref = resolve(ref).folder
    return TextTokenizer.load(tokenizer_folder(Path(ref)) or ref)
