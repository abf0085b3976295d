"""The device's side of a text: what is committed, the guesses behind it, and which of these were sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..decoding import common_prefix
from ..wire.text import HashedText

__all__ = ["Guesses", "Judgement"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a commit said about our guesses."""

    num_agreed: int
    num_disagreed: int
    """0 or 1: what stands behind the first disagreement was never judged."""
    changed_from: int | None
    """The text is another from this position on; None if our guesses had it all."""
    verdicts: tuple[bool, ...]
    """Whether the target's own pick is ours, for every guess that was judged."""


class Guesses:
    """Positions before `head` are committed, those before `sent` were told to the edge."""

    def __init__(self, prompt: Iterable[int]) -> None:
        self._text = HashedText(prompt)
        self.head = self.sent = len(self._text)

    @property
    def tokens(self) -> list[int]:
        """Committed tokens, then guesses. Not to be changed from outside."""
        return self._text.tokens

    @property
    def end(self) -> int:
        """The position that the next guess is for."""
        return len(self._text)

    @property
    def num_chained(self) -> int:
        """Guesses that no commit has judged."""
        return len(self._text) - self.head

    @property
    def num_sent(self) -> int:
        return self.sent - self.head

    @property
    def num_unsent(self) -> int:
        return len(self._text) - self.sent

    def committed(self, start: int = 0) -> list[int]:
        return self._text.tokens[start : self.head]

    def add(self, guess: int) -> None:
        self._text.append(guess)

    def take_unsent(self, limit: int) -> tuple[int, int, tuple[int, ...]]:
        """The next guesses to send: position, hash of what stands before, tokens. They count as sent."""
        position = self.sent
        tokens = tuple(self._text.tokens[position : position + limit])
        self.sent += len(tokens)
        return position, self._text.hash_before(position), tokens

    def send_again(self) -> None:
        """Whatever was sent may be lost."""
        self.sent = self.head

    def commit(self, tokens: tuple[int, ...]) -> Judgement:
        """The edge decided the next tokens; guesses that they contradict are dropped."""
        head, text = self.head, self._text
        chain = text.tokens[head : head + len(tokens)]
        num_agreed = common_prefix(chain, tokens)
        num_disagreed = int(num_agreed < len(chain))
        changed_from = None
        if num_agreed < len(tokens):
            changed_from = head + num_agreed
            text.truncate(changed_from)
            text.extend(tokens[num_agreed:])
        self.head += len(tokens)
        self.sent = min(max(self.sent, self.head), len(text))
        verdicts = (True,) * num_agreed + (False,) * num_disagreed
        return Judgement(num_agreed, num_disagreed, changed_from, verdicts)
