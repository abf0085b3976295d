"""A draft with a vocabulary of its own that speaks its target's.

Tokens it does not know are read as their nearest neighbours; tokens it cannot say have logits of minus
infinity. Everything else is the model inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .base import Feed
from .huggingface import HuggingFaceModel
from .vocabulary import TOKENIZER_FOLDER, VocabularyMap

if TYPE_CHECKING:
    import torch

    from .kv import KVSequence
    from .text import TextTokenizer

__all__ = ["TrimmedModel"]


class TrimmedModel:
    """A `LanguageModel` over the target's ids around one over the draft's."""

    def __init__(
        self, inner: HuggingFaceModel, vocabulary: VocabularyMap, *, tokenizer: TextTokenizer | None = None
    ) -> None:
        import torch

        if inner.vocab_size != len(vocabulary.kept):
            raise ModelError(
                f"vocabulary mismatch: {inner.name} has {inner.vocab_size} tokens, "
                f"its map says {len(vocabulary.kept)}"
            )
        self.inner = inner
        self.vocabulary = vocabulary
        self.tokenizer = tokenizer
        self.name = inner.name
        self.dtype = inner.dtype
        self._inputs: list[int] = vocabulary.inputs.tolist()
        self._kept = torch.from_numpy(vocabulary.kept)

    @classmethod
    def load(
        cls,
        ref: str | Path,
        *,
        dtype: str = "bfloat16",
        device: str = "auto",
        exact: bool = False,
        num_threads: int | None = None,
    ) -> TrimmedModel:
        """Load a folder that `cascade distill` made; the options are those of `HuggingFaceModel.load`."""
        from .loading import resolve
        from .text import TextTokenizer, tokenizer_file

        folder = resolve(ref).folder
        vocabulary = VocabularyMap.load(folder)
        texts = folder / TOKENIZER_FOLDER
        tokenizer = TextTokenizer.load(texts) if tokenizer_file(texts) else None
        inner = HuggingFaceModel.load(
            folder, dtype=dtype, device=device, exact=exact, num_threads=num_threads
        )
        return cls(inner, vocabulary, tokenizer=tokenizer)

    def __repr__(self) -> str:
        return f"<TrimmedModel {self.name} {self.dtype}, {len(self._kept)} of {self.vocab_size} tokens>"

    @property
    def vocab_size(self) -> int:
        return len(self._inputs)

    @property
    def context_length(self) -> int:
        return self.inner.context_length

    @property
    def eos_ids(self) -> frozenset[int]:
        return self.vocabulary.eos_ids

    @property
    def vocab_fingerprint(self) -> str:
        return self.vocabulary.vocab_fingerprint

    @property
    def numerics(self) -> str:
        return self.inner.numerics

    def new_sequence(self) -> KVSequence:
        return self.inner.new_sequence()

    def forward(self, feeds: Sequence[Feed]) -> torch.Tensor:
        """One ragged pass: float32 logits [rows wanted, the target's vocab_size], feed by feed."""
        import torch

        for feed in feeds:
            if feed.tokens and not (min(feed.tokens) >= 0 and max(feed.tokens) < len(self._inputs)):
                raise ModelError(f"a token id is outside the vocabulary of {len(self._inputs)}")
        own = [
            Feed(feed.sequence, [self._inputs[token] for token in feed.tokens], feed.num_logits)
            for feed in feeds
        ]
        rows = self.inner.forward(own)
        # A new matrix for each pass, as callers may keep their rows; filling one costs microseconds.
        logits = torch.full((len(rows), len(self._inputs)), float("-inf"), device=rows.device)
        logits.index_copy_(1, self._kept.to(rows.device), rows)
        return logits
