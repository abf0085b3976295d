"""The text of an answer, as its tokens come: whole characters, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from ..models.text import Detokenizer, StopScanner, TextTokenizer

__all__ = ["AnswerText"]


class AnswerText:
    """Turns each token into the text that it adds; without a tokenizer there is none."""

    def __init__(
        self, tokenizer: TextTokenizer | None, *, prompt: Sequence[int] = (), stops: Sequence[str] = ()
    ) -> None:
        self._tokenizer, self._prompt, self._stops = tokenizer, prompt, stops
        self._detokenizer: Detokenizer | None = None if tokenizer is None else tokenizer.detokenizer(prompt)
        self._scanner = StopScanner(stops)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """All that was given out."""
        return "".join(self._pieces)

    @property
    def has_stopped(self) -> bool:
        """A stop string was found; it and what follows it are not text."""
        return self._scanner.found is not None

    def again(self, tokens: Sequence[int]) -> AnswerText:
        """The text of the same answer, with these tokens so far."""
        text = AnswerText(self._tokenizer, prompt=self._prompt, stops=self._stops)
        for token in tokens:
            text.add(token, is_last=False)
        return text

    def add(self, token: int, *, is_last: bool) -> str:
        """What this token adds. The last one brings whatever was held back."""
        if self._detokenizer is None:
            return ""
        piece = self._scanner.add(self._detokenizer.add(token))
        if is_last and not self.has_stopped:
            piece += self._scanner.add(self._detokenizer.flush())
            piece += self._scanner.flush()
        if piece:
            self._pieces.append(piece)
        return piece
