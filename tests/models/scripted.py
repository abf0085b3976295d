"""Models with a known text: a target that continues it, a draft that knows half of it, a pair of readers."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from cascade.decoding import Sampling
from cascade.device import Device, Policy
from cascade.edge import EdgeServer
from cascade.events import Source
from cascade.links.base import Link
from cascade.models.base import Feed, LanguageModel
from cascade.models.runner import constant_cost
from cascade.models.text import TextTokenizer
from cascade.testing import Conditions, EmulatedLink, MemoryListener, PacedRunner, run_virtual

PASS_S, DRAFT_STEP_S, RTT_S = 0.05, 0.005, 0.1


class ListSequence:
    """A cache that is the tokens themselves: what a model answers depends on what it really holds."""

    def __init__(self, tokens: list[int] | None = None) -> None:
        self.tokens = tokens or []

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def memory_bytes(self) -> int:
        return 8 * len(self.tokens)

    def growth_bytes(self, num_tokens: int) -> int:
        return 8 * num_tokens

    @property
    def fork_bytes(self) -> int:
        return self.memory_bytes

    def truncate(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]

    def fork(self) -> ListSequence:
        return ListSequence(self.tokens.copy())

    def release(self) -> None:
        self.tokens.clear()


class TableModel:
    """A model whose logits are a function of the tokens before."""

    context_length = 1 << 16
    numerics = "table"

    def __init__(self, text: TextTokenizer) -> None:
        self.text = text
        self.vocab_size = text.vocab_size
        self.vocab_fingerprint = text.vocab_fingerprint
        self.eos_ids = text.eos_ids
        self.num_rows_fed = 0

    def new_sequence(self) -> ListSequence:
        return ListSequence()

    def forward(self, feeds: Sequence[Feed]) -> npt.NDArray[np.float32]:
        rows = []
        for feed in feeds:
            sequence = feed.sequence
            assert isinstance(sequence, ListSequence)
            assert len(feed.tokens) >= max(1, feed.num_logits)
            assert sequence.length + len(feed.tokens) <= self.context_length
            sequence.tokens += feed.tokens
            self.num_rows_fed += len(feed.tokens)
            end = sequence.length
            rows += [self.row(sequence.tokens[: at + 1]) for at in range(end - feed.num_logits, end)]
        return np.stack(rows) if rows else np.empty((0, self.vocab_size), np.float32)

    def row(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        raise NotImplementedError


class Scripted(TableModel):
    """Continues a given text, of which it knows a share; off the text it babbles."""

    def __init__(
        self, text: TextTokenizer, script: list[int], *, agreement: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__(text)
        dice = random.Random(seed)
        self.script = script
        self._told = [
            token if dice.random() < agreement else (token + 1) % self.vocab_size for token in script
        ]

    def row(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        at = len(tokens)
        row = np.zeros(self.vocab_size, np.float32)
        is_on_script = at < len(self.script) and tokens == self.script[:at]
        row[self._told[at] if is_on_script else hash(tuple(tokens[-3:])) % self.vocab_size] = 50.0
        return row


class Reader(TableModel):
    """Writes as its book does, letter after letter: two readers with different tokens agree on the text."""

    ORDER = 6

    def __init__(self, text: TextTokenizer, book: str) -> None:
        super().__init__(text)
        anchor = text.encode("a")
        self._words = [
            text.decode([*anchor, index], skip_special=False).removeprefix("a")
            for index in range(text.vocab_size)
        ]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for at in range(len(book)):
            for order in range(self.ORDER + 1):
                if at >= order:
                    counts[book[at - order : at]][book[at]] += 1
        self._counts = counts
        self._rows: dict[str, npt.NDArray[np.float32]] = {}

    def row(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        context = self.text.decode(tokens[-12:], skip_special=False)[-self.ORDER :]
        if context not in self._rows:
            chances = [self._log_chance(context, word) for word in self._words]
            self._rows[context] = np.array(chances, np.float32)
        return self._rows[context]

    def _log_chance(self, context: str, word: str) -> float:
        if not word or "\ufffd" in word:
            return -30.0
        total = 0.0
        for letter in word:
            order = next(n for n in range(self.ORDER, -1, -1) if context[len(context) - n :] in self._counts)
            seen = self._counts[context[len(context) - order :]]
            total += math.log((seen[letter] + 0.001) / (seen.total() + 0.05))
            context = (context + letter)[-self.ORDER :]
        return (
            total + 0.1 * len(word) if word else -30.0
        )  # where letters are certain, longer tokens are likelier


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> TextTokenizer:
    """A byte-level tokenizer; its first token ends a text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TextTokenizer(tokenizer, eos_ids=frozenset({0}))


class Answer:
    """What came of one stream."""

    def __init__(self, tokens: list[int], num_hinted: int, num_passes: int) -> None:
        self.tokens = tokens
        self.num_hinted = num_hinted
        self.tokens_per_pass = len(tokens) / num_passes


def answer(
    target: LanguageModel,
    draft: LanguageModel | None,
    prompt: list[int],
    *,
    num_tokens: int,
    sampling: Sampling | None = None,
    policy: Policy | None = None,
) -> Answer:
    """One stream from a device to an edge in virtual time."""

    async def run() -> Answer:
        listener = MemoryListener()
        one_way = Conditions(delay_s=RTT_S / 2)

        async def dial() -> Link:
            return EmulatedLink(await listener.dial(), up=one_way, down=one_way)

        edge = EdgeServer.of(target, PacedRunner(constant_cost(PASS_S)))
        runner = PacedRunner(constant_cost(DRAFT_STEP_S))
        async with edge:
            edge.listen(listener)
            async with Device([dial], draft=draft or target, runner=runner, seed=1) as device:
                chosen = policy or (Policy.hint_driven() if draft else Policy.cloud())
                stream = device.stream(
                    prompt,
                    max_new_tokens=num_tokens,
                    **asdict(sampling or Sampling()),
                    policy=chosen,
                    stop_ids=target.eos_ids,
                )
                came = [token async for token in stream]
                await asyncio.sleep(1)
        num_hinted = sum(token.source is Source.HINTED for token in came)
        return Answer([token.id for token in came], num_hinted, edge.engine.stats.num_passes)

    return run_virtual(run(), limit_s=1000)
