"""A real target with replayed hints: tokens a second of the engine, against what its cost curve allows.

Texts are recorded first: the target's own, without hints. Then they are decoded again with hints taken from
the record, in which errors are planted at a rate. No device and no link, so hints are always there, and with
k of them fed for each of N texts a pass brings N (1 - a^(k+1)) / (1 - a) tokens and takes t(N (k + 1)): the
best over k is what the engine's own choice is held against.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding import Sampling
from ..edge.engine import BatchEngine
from ..edge.interface import Committed, DecodeRequest, Text
from ..edge.settings import EdgeSettings
from ..errors import EngineError
from ..measure import CostCurve
from ..models.base import Feed, LanguageModel
from ..models.runner import Runner, ThreadRunner
from ..wire.text import HashedText

__all__ = ["Replay", "best_over_widths", "measure"]

MODEL = "smollm2-135m"
QUESTIONS = (
    "Why is the sky blue?",
    "How does a bicycle stay upright?",
    "What is a good breakfast before a long walk?",
    "Explain what a prime number is.",
    "Tell me a short story about a lighthouse.",
    "How do bees find their way home?",
    "What should I know before I buy a used car?",
    "Describe the sea to somebody who has never seen it.",
)
AGREEMENT = 0.7
WINDOW = 16
"""Hints that a text has at hand after every commit."""
WIDTHS = (0, 1, 2, 3, 4, 6, 8, 12, 16)


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Figures of the bundled target on this machine (cascade models fetch), in `exact` mode: so the recorded
    text is what the target says whatever the batch, and every disagreement is a planted one."""
    from ..models.loading import open_model

    model = open_model(MODEL, exact=True)
    assert model.tokenizer is not None
    prompts = [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    num_tokens, rounds = (24, 2) if quick else (96, 5)
    return asyncio.run(_measure(model, ThreadRunner(), prompts, num_tokens=num_tokens, rounds=rounds))


async def _measure(
    model: LanguageModel, runner: Runner, prompts: Sequence[Sequence[int]], *, num_tokens: int, rounds: int
) -> dict[str, Any]:
    """Rounds of everything in turn, and medians over them: whatever else runs here slows all of it down."""
    engine = BatchEngine(model, runner, EdgeSettings())
    running = asyncio.create_task(engine.run(), name="replay-engine")
    try:
        replay = Replay(engine, prompts, num_tokens=num_tokens, agreement=AGREEMENT)
        await replay.record()
        curve = CostCurve()
        plain, hinted, shares = [], [], []
        for number in range(rounds):
            await _sweep(model, runner, replay, curve)
            plain.append(await replay.run(seed=None))
            hinted.append(await replay.run(seed=number))
            rate, _ = best_over_widths(curve, len(prompts), AGREEMENT)
            shares.append(hinted[-1] / rate)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    best_rate, best_width = best_over_widths(curve, len(prompts), AGREEMENT)
    plain_rate, hinted_rate = statistics.median(plain), statistics.median(hinted)
    return {
        "model": model.numerics,
        "sessions": len(prompts),
        "agreement": AGREEMENT,
        "tokens": num_tokens,
        "rounds": rounds,
        "cost_curve_ms": {
            str(len(prompts) * (width + 1)): round(curve.seconds(len(prompts) * (width + 1)) * 1000, 2)
            for width in WIDTHS
        },
        "tokens_per_s_plain": round(plain_rate, 2),
        "tokens_per_s_hinted": round(hinted_rate, 2),
        "times_plain": round(hinted_rate / plain_rate, 3),
        "best_tokens_per_s": round(best_rate, 2),
        "best_width": best_width,
        "share_of_best": round(hinted_rate / best_rate, 3),
        "share_of_best_by_round": [round(share, 3) for share in shares],
        "num_diverged": replay.num_diverged,
    }


def best_over_widths(curve: CostCurve, num_texts: int, agreement: float) -> tuple[float, int]:
    """Tokens a second with the best number of hints for every text, and that number."""
    rates = []
    for width in range(WINDOW + 1):
        tokens = num_texts * sum(agreement**number for number in range(width + 1))
        rates.append((tokens / curve.seconds(num_texts * (width + 1)), width))
    return max(rates)


async def _sweep(model: LanguageModel, runner: Runner, replay: Replay, curve: CostCurve) -> None:
    """Passes of every width, each text with as many tokens before it as half way through a run."""
    middle = replay.num_tokens // 2
    texts = [[*prompt, *record[:middle]] for prompt, record in replay.recorded]
    sequences = [model.new_sequence() for _ in texts]
    loop = asyncio.get_running_loop()
    for sequence, text in zip(sequences, texts, strict=True):
        await runner.run(lambda s=sequence, t=text: model.forward([Feed(s, t, 0)]), rows=len(text))  # type: ignore[misc]
    for width in WIDTHS:
        rows = [record[middle : middle + width + 1] for _, record in replay.recorded]
        feeds = [Feed(one, row, len(row)) for one, row in zip(sequences, rows, strict=True)]
        for is_measured in (False, True, True, True):
            started_s = loop.time()
            await runner.run(lambda feeds=feeds: model.forward(feeds), rows=len(feeds) * (width + 1))  # type: ignore[misc]
            if is_measured:
                curve.add(len(feeds) * (width + 1), loop.time() - started_s)
            for sequence, text in zip(sequences, texts, strict=True):
                sequence.truncate(len(text))
    for sequence in sequences:
        sequence.release()


class Replay:
    """Decodes the same texts over and over."""

    def __init__(
        self, engine: BatchEngine, prompts: Sequence[Sequence[int]], *, num_tokens: int, agreement: float
    ) -> None:
        self.num_tokens = num_tokens
        self.recorded: list[tuple[list[int], list[int]]] = []
        """(prompt, what the target says)."""
        self.num_diverged = 0
        """Runs in which a text was not the recorded one: near ties, where the engine is not exact."""
        self._engine = engine
        self._prompts = [list(prompt) for prompt in prompts]
        self._agreement = agreement

    async def record(self) -> None:
        """Decode without hints; beyond `num_tokens`, so that there is something to guess at the end."""
        said = await self._decode(self.num_tokens + WINDOW + 1, None)
        self.recorded = list(zip(self._prompts, said.texts, strict=True))

    async def run(self, *, seed: int | None) -> float:
        """Tokens a second while all texts are being decoded; with hints, unless the seed is None."""
        said = await self._decode(self.num_tokens, seed)
        self.num_diverged += sum(
            text != record[: len(text)] for text, (_, record) in zip(said.texts, self.recorded, strict=True)
        )
        return said.tokens_per_s

    async def _decode(self, num_tokens: int, seed: int | None) -> _Said:
        run = _Decoding(self._engine, num_tokens)
        for index, prompt in enumerate(self._prompts):
            guesses: list[int] = []
            if seed is not None:
                dice = random.Random(f"{seed}-{index}")
                record = self.recorded[index][1]
                guesses = [t if dice.random() < self._agreement else _other(t) for t in record]
            run.open(f"text-{index}", prompt, guesses)
        return await run.finish()


@dataclass(frozen=True, slots=True)
class _Said:
    texts: list[list[int]]
    tokens_per_s: float


class _Decoding:
    """All texts once."""

    def __init__(self, engine: BatchEngine, num_tokens: int) -> None:
        self._engine = engine
        self._num_tokens = num_tokens
        self._loop = asyncio.get_running_loop()
        self._texts: list[Text] = []
        self._commits: list[list[tuple[float, int]]] = []
        self._num_open = 0
        self._is_over = asyncio.Event()
        self._failure: EngineError | None = None

    def open(self, owner: str, prompt: list[int], guesses: Sequence[int]) -> None:
        request = DecodeRequest(
            prompt=tuple(prompt),
            sampling=Sampling(),
            stop_ids=frozenset(),
            length_limit=len(prompt) + self._num_tokens,
        )
        commits: list[tuple[float, int]] = []

        def on_commit(committed: Committed) -> None:
            commits.append((self._loop.time(), len(committed.tokens)))
            self._engine.acknowledge(text, text.head)
            if text.is_finished:
                self._num_open -= 1
                if not self._num_open:
                    self._is_over.set()
            else:
                hint()

        def hint() -> None:
            start = text.head - len(prompt)
            tokens = tuple(guesses[start : start + WINDOW])
            if tokens:
                before = HashedText(text.committed()).hash_before(text.head)
                self._engine.hint(text, text.head, before, tokens)

        text = self._engine.open(
            request,
            tuple(prompt),
            owner=owner,
            patience_s=0.0,
            on_commit=on_commit,
            on_failure=self._on_failure,
        )
        self._texts.append(text)
        self._commits.append(commits)
        self._num_open += 1

    async def finish(self) -> _Said:
        await self._is_over.wait()
        texts = [text.committed(text.prompt_length) for text in self._texts]
        for text in self._texts:
            self._engine.close(text)
        if self._failure is not None:
            raise self._failure
        start_s = max(commits[0][0] for commits in self._commits)
        end_s = min(commits[-1][0] for commits in self._commits)
        counted = sum(n for commits in self._commits for at_s, n in commits if start_s < at_s <= end_s)
        return _Said(texts, counted / (end_s - start_s))

    def _on_failure(self, error: EngineError) -> None:
        self._failure = error
        self._is_over.set()


def _other(token: int) -> int:
    """A wrong guess."""
    return token + 1 if token == 0 else token - 1
