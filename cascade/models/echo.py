"""A toy that talks, by saying back what it was told: for examples, notebooks and tests that need text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ContextExceeded
from ..settings import check_number
from .base import Feed
from .chat import ChatTemplate
from .plain import PlainSequence
from .text import TextTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EchoModel"]

USER, ASSISTANT, END = "<user>", "<assistant>", "<end>"
TEMPLATE = (
    "{% for message in messages %}{{ '<' + message.role + '>' + message.content + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SURE = 50.0


class EchoModel:
    """Answers `You said: ...` and the user's last words, letter by letter.

    As a draft it may `slip`: it gets that share of the letters wrong, whatever the text.
    """

    context_length = 1 << 16

    def __init__(self, *, slip: float = 0.0) -> None:
        check_number("slip", slip, low=0, high=1)
        self.tokenizer = _letters()
        self.vocab_size = self.tokenizer.vocab_size
        self.vocab_fingerprint = self.tokenizer.vocab_fingerprint
        self.eos_ids = self.tokenizer.eos_ids
        self.numerics = "echo"
        self._slip = slip
        self._starts = {name: self.tokenizer.encode(name)[0] for name in (USER, ASSISTANT, END)}
        self._opening = self.tokenizer.encode("You said: ")

    def new_sequence(self) -> PlainSequence:
        return PlainSequence()

    def forward(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, PlainSequence)
            sequence.tokens += feed.tokens
            length = sequence.length
            if length > self.context_length:
                raise ContextExceeded(length, self.context_length)
            for end in range(length - feed.num_logits + 1, length + 1):
                row = np.zeros(self.vocab_size, np.float32)
                row[self._next(sequence.tokens[:end])] = SURE
                rows.append(row)
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    def _next(self, tokens: list[int]) -> int:
        """The token after these."""
        dice = (len(tokens) * 0x9E3779B1 & 0xFFFFFFFF) / 2**32
        if dice < self._slip:
            return self._opening[0]
        answer_at = _after_last(tokens, self._starts[ASSISTANT])
        said_at = _after_last(tokens[:answer_at], self._starts[USER])
        # Without the end of the turn and what opens ours.
        said = tokens[said_at : max(said_at, answer_at - 2)]
        answer = [*self._opening, *said]
        at = len(tokens) - answer_at
        return answer[at] if at < len(answer) else self._starts[END]


def _after_last(tokens: Sequence[int], wanted: int) -> int:
    """The place behind the last such token; the beginning, if there is none."""
    return next((at + 1 for at in range(len(tokens) - 1, -1, -1) if tokens[at] == wanted), 0)


def _letters() -> TextTokenizer:
    """One token for each byte, and three for whose turn it is."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([USER, ASSISTANT, END])
    end = frozenset(tokenizer.encode(END).ids)
    return TextTokenizer(tokenizer, chat_template=ChatTemplate(TEMPLATE), eos_ids=end)
