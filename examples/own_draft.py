"""A draft of your own: a function from the text so far to its next token. Needs the extra `device`.

    python examples/own_draft.py

A shop's assistant says the same phrases all day, so a book of phrases guesses well, without any model: where
the text ends in the beginning of a phrase, the rest of the phrase follows. The edge has the last word, so a
wrong guess costs nothing but its two bytes. The toy at the edge says back what it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cascade import Device, EdgeServer
from cascade.models.echo import EchoModel
from cascade.models.guessing import GuessingDraft
from cascade.models.text import TextTokenizer
from cascade.testing import MemoryListener, PacedRunner

PHRASES = ("You said: ", "Thank you for your order", "has been sent and will be with you on ")
NUM_LETTERS = 3
"""So much of a phrase has to stand there before the rest is guessed."""


class PhraseBook:
    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._phrases = [tokenizer.encode(phrase) for phrase in PHRASES]

    def next_token(self, tokens: Sequence[int]) -> tuple[int, float] | None:
        """The next token, and the chance that the target says the same; None: no idea."""
        for phrase in self._phrases:
            for length in range(len(phrase) - 1, NUM_LETTERS - 1, -1):
                if list(tokens[-length:]) == phrase[:length]:
                    return phrase[length], 0.9
        return None


async def main() -> None:
    target = EchoModel()
    draft = GuessingDraft(PhraseBook(target.tokenizer).next_token, tokenizer=target.tokenizer)
    async with EdgeServer.of(target, PacedRunner(lambda rows: 0.020)) as edge:
        edge.listen(MemoryListener("edge"))
        async with Device.connect("memory:edge", draft=draft) as device:
            question = "Thank you for your order. It has been sent and will be with you on Monday."
            async for token in (stream := device.chat().stream(question, max_new_tokens=200)):
                print(token, end="", flush=True)
    summary = stream.summary
    print(f"\n{summary.num_hinted} of {summary.num_tokens} tokens were guessed")
    print(f"{summary.tokens_per_pass:.1f} tokens for each pass of the edge")


if __name__ == "__main__":
    asyncio.run(main())
