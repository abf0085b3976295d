"""A paced pair: recorded real text, replayed. What the steps take is declared, not computed.

A recording holds what a real target said, greedily, and what a real draft would have said at each place, and
how sure it was of it. Both are looked up by *what the cache really holds*, so a cache that was not rolled
back gives other tokens, as it would with the real pair. Off the record, behind a token that the target did
not say, both go on with tokens that mean nothing; there the draft is as right, and as sure of it, as it was
at a place of the record drawn by the text's hash.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ContextExceeded, ModelError
from .base import Feed
from .hashed import HashedSequence

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PacedDraft", "PacedTarget", "RecordedText", "Recording", "read_recording", "write_recording"]

_MASK64 = (1 << 64) - 1
_CERTAIN = np.float32(100.0)
"""The logit of the recorded token, all others' being 0: no temperature in use picks another."""
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedText:
    """One answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    """The target's, greedily."""
    guesses: tuple[int, ...]
    """The draft's at each place of the answer, everything before being the target's."""
    chances: tuple[float, ...]
    """The probability that the draft gave its guess."""

    def __post_init__(self) -> None:
        if not len(self.answer) == len(self.guesses) == len(self.chances):
            raise ModelError("a recorded text needs a guess and its chance for each token of the answer")
        if not self.prompt or not self.answer:
            raise ModelError("a recorded text needs a prompt and an answer")

    @property
    def is_right(self) -> list[bool]:
        """The draft, place by place."""
        return [token == guess for token, guess in zip(self.answer, self.guesses, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Texts of one pair of models."""

    target: str
    draft: str
    vocab_size: int
    vocab_fingerprint: str
    texts: tuple[RecordedText, ...]

    @property
    def agreement(self) -> float:
        """Share of places where the draft guessed right."""
        coins = [is_right for text in self.texts for is_right in text.is_right]
        return sum(coins) / len(coins)


def write_recording(recording: Recording, path: Path) -> None:
    """Compressed, and the same bytes for the same recording."""
    about = {
        "format": FORMAT,
        "target": recording.target,
        "draft": recording.draft,
        "vocab_size": recording.vocab_size,
        "vocab_fingerprint": recording.vocab_fingerprint,
        "texts": [
            {
                "prompt": text.prompt,
                "answer": text.answer,
                "guesses": text.guesses,
                "chances": [round(chance, 3) for chance in text.chances],
            }
            for text in recording.texts
        ],
    }
    path.write_bytes(gzip.compress(json.dumps(about, separators=(",", ":")).encode(), mtime=0))


def read_recording(path: Path) -> Recording:
    """Raises `ModelError` with the file and what is wrong with it."""
    try:
        about = json.loads(gzip.decompress(path.read_bytes()))
        if about["format"] != FORMAT:
            raise ModelError(f"is of format {about['format']}, not {FORMAT}")
        recording = Recording(
            target=str(about["target"]),
            draft=str(about["draft"]),
            vocab_size=int(about["vocab_size"]),
            vocab_fingerprint=str(about["vocab_fingerprint"]),
            texts=tuple(_text(entry) for entry in about["texts"]),
        )
    except OSError as error:  # also what gzip raises
        raise ModelError(f"cannot read the recording {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, ModelError) as error:
        raise ModelError(f"{path} is no recording: {error}; `cascade lab record` makes one") from None
    ids = (
        token
        for text in recording.texts
        for part in (text.prompt, text.answer, text.guesses)
        for token in part
    )
    if not recording.texts or not all(0 <= token < recording.vocab_size for token in ids):
        raise ModelError(f"{path} is no recording: no texts, or tokens beyond its vocabulary")
    return recording


def _text(entry: dict[str, Any]) -> RecordedText:
    return RecordedText(
        prompt=tuple(map(int, entry["prompt"])),
        answer=tuple(map(int, entry["answer"])),
        guesses=tuple(map(int, entry["guesses"])),
        chances=tuple(map(float, entry["chances"])),
    )


class _Paced:
    """Looks up, by the hash of all tokens before, what was said next."""

    def __init__(self, recording: Recording, *, context_length: int) -> None:
        self.vocab_size = recording.vocab_size
        self.vocab_fingerprint = recording.vocab_fingerprint
        self.context_length = context_length
        self.eos_ids: frozenset[int] = frozenset()  # recordings are cut where the text ends
        self.numerics = f"paced-{recording.target}"

    def new_sequence(self) -> HashedSequence:
        return HashedSequence([1])

    def _extend(self, feed: Feed) -> list[int]:
        """The states after each token that logits are wanted of."""
        states = feed.sequence.states  # type: ignore[attr-defined]
        length = len(states) - 1 + len(feed.tokens)
        if length > self.context_length:
            raise ContextExceeded(length, self.context_length)
        for token in feed.tokens:
            states.append(_after(states[-1], token))
        return states[-feed.num_logits :] if feed.num_logits else []

    def _rows(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        rows = np.zeros((len(tokens), self.vocab_size), np.float32)
        rows[range(len(tokens)), tokens] = _CERTAIN
        return rows


class PacedTarget(_Paced):
    """Says what the recorded target said."""

    def __init__(self, recording: Recording, *, context_length: int = 1 << 20) -> None:
        super().__init__(recording, context_length=context_length)
        self._next = {
            state: token
            for text in recording.texts
            for state, token in zip(_states(text), text.answer, strict=True)
        }

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        states = [state for feed in feeds for state in self._extend(feed)]
        return self._rows([self._next.get(state, state % self.vocab_size) for state in states])


class PacedDraft(_Paced):
    """Guesses what the recorded draft guessed, as sure of it as that was."""

    def __init__(self, recording: Recording, *, context_length: int = 1 << 20) -> None:
        super().__init__(recording, context_length=context_length)
        self.numerics += f"-{recording.draft}"
        self._next = {
            state: said
            for text in recording.texts
            for state, *said in zip(_states(text), text.guesses, text.chances, strict=True)
        }
        self._places = [
            (token == guess, chance)
            for text in recording.texts
            for token, guess, chance in zip(text.answer, text.guesses, text.chances, strict=True)
        ]

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        tokens = []
        for feed in feeds:
            for state in self._extend(feed):
                tokens.append(int(self._said(state)[0]))
            feed.sequence.promise = self._said(feed.sequence.states[-1])[1]  # type: ignore[attr-defined]
        return self._rows(tokens)

    def _said(self, state: int) -> Sequence[float]:
        if said := self._next.get(state):
            return said
        is_right, chance = self._places[(state >> 20) % len(self._places)]
        return (state + (not is_right)) % self.vocab_size, chance


def _states(text: RecordedText) -> list[int]:
    """Before each token of the answer."""
    state, states = 1, []
    for token in text.prompt:
        state = _after(state, token)
    for token in text.answer:
        states.append(state)
        state = _after(state, token)
    return states


def _after(state: int, token: int) -> int:
    """One step of Knuth's generator, the token mixed in; different texts have different states."""
    state = (state + token + 1) * 6364136223846793005 + 1442695040888963407 & _MASK64
    return state ^ state >> 29
