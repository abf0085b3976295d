"""A real target with replayed hints: tokens a second of the engine, against what its cost curve allows.

Texts are recorded first: the target's own, without hints. Then they are decoded again with hints taken from
the record, in which errors are planted at a rate. No device and no link, so hints are always there, and with
k of them fed for each of N texts a pass brings N (1 - a^(k+1)) / (1 - a) tokens and takes t(N (k + 1)): the
best over k is what the engine's own choice is held against.

The target runs as it is served, so at another width a near tie may fall the other way. The text is then put
back on the record, or all hints behind would be wrong and the agreement not the one that was asked for.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Sequence
from typing import Any

from ..decoding import Sampling, pick_rows
from ..edge.engine import BatchEngine
from ..edge.interface import Committed, DecodeRequest
from ..edge.settings import EdgeSettings
from ..errors import EngineError
from ..measure import CostCurve
from ..models.base import Feed, LanguageModel
from ..models.runner import Runner, ThreadRunner
from ..wire.text import HashedText
from .progress import must, say

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
PASSES = 5
"""Of each width in a sweep, and one that is not counted."""
MUST_SHARE = 0.9


def measure(*, quick: bool = False) -> dict[str, Any]:
    """Figures of the bundled target on this machine (cascade models fetch)."""
    from ..models.loading import open_model

    model = open_model(MODEL)
    assert model.tokenizer is not None
    prompts = [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    num_tokens, rounds = (24, 2) if quick else (96, 7)
    return asyncio.run(_measure(model, ThreadRunner(), prompts, num_tokens=num_tokens, rounds=rounds))


async def _measure(
    model: LanguageModel, runner: Runner, prompts: Sequence[Sequence[int]], *, num_tokens: int, rounds: int
) -> dict[str, Any]:
    """Rounds of everything in turn, each with a curve of its own, and medians over them: whatever else runs
    here slows all of a round down, and so moves its ratios little."""
    engine = BatchEngine(model, runner, EdgeSettings())
    running = asyncio.create_task(engine.run(), name="replay-engine")
    try:
        replay = Replay(engine, prompts, num_tokens=num_tokens, agreement=AGREEMENT)
        say(f"recording {len(prompts)} texts")
        await replay.record()
        plain, hinted, best, curves = [], [], [], []
        for number in range(rounds):
            plain.append(await replay.run(seed=None))
            curves.append(await _sweep(model, runner, replay))
            hinted.append(await replay.run(seed=number))
            best.append(best_over_widths(curves[-1], len(prompts), AGREEMENT))
            say(
                f"round {number + 1} of {rounds}: {plain[-1]:.1f} tokens/s without hints, "
                f"{hinted[-1]:.1f} with, {best[-1][0]:.1f} at the best width"
            )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    shares = [rate / best_rate for rate, (best_rate, _) in zip(hinted, best, strict=True)]
    times_plain = [with_hints / without for with_hints, without in zip(hinted, plain, strict=True)]
    share = statistics.median(shares)
    return {
        "musts": [
            must("tokens a second, of the best over fed widths (at least)", share, at_least=MUST_SHARE)
        ],
        "model": model.numerics,
        "sessions": len(prompts),
        "agreement": AGREEMENT,
        "tokens": num_tokens,
        "rounds": rounds,
        "cost_curve_ms": {
            str(rows): round(statistics.median(curve.seconds(rows) for curve in curves) * 1000, 2)
            for rows in (len(prompts) * (width + 1) for width in WIDTHS)
        },
        "tokens_per_s_plain": round(statistics.median(plain), 2),
        "tokens_per_s_hinted": round(statistics.median(hinted), 2),
        "times_plain": round(statistics.median(times_plain), 3),
        "times_plain_by_round": [round(times, 3) for times in times_plain],
        "best_tokens_per_s": round(statistics.median(rate for rate, _ in best), 2),
        "best_width_by_round": [width for _, width in best],
        "share_of_best": round(share, 3),
        "share_of_best_by_round": [round(share, 3) for share in shares],
        "near_ties": replay.num_corrected,
    }


def best_over_widths(curve: CostCurve, num_texts: int, agreement: float) -> tuple[float, int]:
    """Tokens a second with the best number of hints for every text, and that number."""
    rates = []
    for width in range(WINDOW + 1):
        tokens = num_texts * sum(agreement**number for number in range(width + 1))
        rates.append((tokens / curve.seconds(num_texts * (width + 1)), width))
    return max(rates)


async def _sweep(model: LanguageModel, runner: Runner, replay: Replay) -> CostCurve:
    """Passes of every width, each text with as many tokens before it as half way through a run."""
    curve = CostCurve()
    middle = replay.num_tokens // 2
    texts = [[*prompt, *record[:middle]] for prompt, record in replay.recorded]
    sequences = [model.new_sequence() for _ in texts]
    loop = asyncio.get_running_loop()
    for sequence, text in zip(sequences, texts, strict=True):
        await runner.run(lambda s=sequence, t=text: model.forward([Feed(s, t, 0)]), rows=len(text))  # type: ignore[misc]
    for width in WIDTHS:
        rows = [record[middle : middle + width + 1] for _, record in replay.recorded]
        feeds = [Feed(one, row, len(row)) for one, row in zip(sequences, rows, strict=True)]
        for number in range(1 + PASSES):
            started_s = loop.time()
            await runner.run(lambda feeds=feeds: _pass(model, feeds), rows=len(feeds) * (width + 1))  # type: ignore[misc]
            if number > 0:
                curve.add(len(feeds) * (width + 1), loop.time() - started_s)
            for sequence, text in zip(sequences, texts, strict=True):
                sequence.truncate(len(text))
    for sequence in sequences:
        sequence.release()
    return curve


def _pass(model: LanguageModel, feeds: Sequence[Feed]) -> None:
    """What the engine does in one: rows, and a pick for each."""
    num_rows = sum(feed.num_logits for feed in feeds)
    pick_rows(model.forward(feeds), [Sampling()] * num_rows, range(num_rows))


class Replay:
    """Decodes the same texts over and over."""

    def __init__(
        self, engine: BatchEngine, prompts: Sequence[Sequence[int]], *, num_tokens: int, agreement: float
    ) -> None:
        self.num_tokens = num_tokens
        self.recorded: list[tuple[list[int], list[int]]] = []
        """(prompt, what the target says)."""
        self.num_corrected = 0
        """Tokens that were not the recorded ones: near ties, where the engine is not exact."""
        self._engine = engine
        self._prompts = [list(prompt) for prompt in prompts]
        self._agreement = agreement

    async def record(self) -> None:
        """Decode without hints; beyond `num_tokens`, so that there is something to guess at the end."""
        run = _Run(self._engine)
        for index, prompt in enumerate(self._prompts):
            run.open(f"text-{index}", prompt, num_tokens=self.num_tokens + WINDOW + 1)
        await run.finish()
        self.recorded = list(zip(self._prompts, run.answers, strict=True))

    async def run(self, *, seed: int | None) -> float:
        """Tokens a second while all texts are being decoded; with hints, unless the seed is None."""
        run = _Run(self._engine)
        for index, (prompt, record) in enumerate(self.recorded):
            guesses: list[int] = []
            if seed is not None:
                dice = random.Random(f"{seed}-{index}")
                guesses = [t if dice.random() < self._agreement else _other(t) for t in record]
            run.open(f"text-{index}", prompt, num_tokens=self.num_tokens, record=record, guesses=guesses)
        await run.finish()
        self.num_corrected += sum(text.num_corrected for text in run.texts)
        return run.tokens_per_s


class _Run:
    """All texts once."""

    def __init__(self, engine: BatchEngine) -> None:
        self._engine = engine
        self.texts: list[_ReplayedText] = []

    def open(self, owner: str, prompt: list[int], **options: Any) -> None:
        self.texts.append(_ReplayedText(self._engine, owner, prompt, **options))

    async def finish(self) -> None:
        try:
            for text in self.texts:
                await text.is_over
        finally:
            for text in self.texts:
                text.close()

    @property
    def answers(self) -> list[list[int]]:
        return [text.answer for text in self.texts]

    @property
    def tokens_per_s(self) -> float:
        """While all of them are decoded."""
        start_s = max(text.commits[0][0] for text in self.texts)
        end_s = min(text.commits[-1][0] for text in self.texts)
        counted = sum(n for text in self.texts for at_s, n in text.commits if start_s < at_s <= end_s)
        return counted / (end_s - start_s)


class _ReplayedText:
    """Hints are at hand again as soon as a commit comes."""

    def __init__(
        self,
        engine: BatchEngine,
        owner: str,
        prompt: list[int],
        *,
        num_tokens: int,
        record: Sequence[int] = (),
        guesses: Sequence[int] = (),
    ) -> None:
        self.commits: list[tuple[float, int]] = []
        """(when, how many tokens)."""
        self.num_corrected = 0
        self._loop = asyncio.get_running_loop()
        self.is_over: asyncio.Future[None] = self._loop.create_future()
        self._engine = engine
        self._num_prompt = len(prompt)
        self._record = record
        self._guesses = guesses
        self._said = HashedText(prompt)
        request = DecodeRequest(
            prompt=tuple(prompt),
            sampling=Sampling(),
            stop_ids=frozenset(),
            length_limit=len(prompt) + num_tokens,
        )
        self._text = engine.open(
            request,
            tuple(prompt),
            owner=owner,
            patience_s=0.0,
            on_commit=self._on_commit,
            on_failure=self._on_failure,
        )

    @property
    def answer(self) -> list[int]:
        return self._said.tokens[self._num_prompt :]

    def close(self) -> None:
        self._engine.close(self._text)

    def _on_commit(self, committed: Committed) -> None:
        start = len(self._said)
        self._said.extend(committed.tokens)
        if self._text.is_finished:
            self.is_over.set_result(None)
        else:
            self._stay_on_record(start)
        self.commits.append((self._loop.time(), len(self._said) - start))
        self._engine.acknowledge(self._text, self._text.head)
        at = len(self._said) - self._num_prompt
        hints = tuple(self._guesses[at : at + WINDOW])
        if hints and not self._text.is_finished:
            self._engine.hint(self._text, len(self._said), self._said.hash_before(len(self._said)), hints)

    def _stay_on_record(self, start: int) -> None:
        """The first token from `start` on that is not the recorded one is replaced by it."""
        for position in range(start, len(self._said) if self._record else start):
            recorded = self._record[position - self._num_prompt]
            if self._said.tokens[position] != recorded:
                self._said.truncate(position)
                self._said.append(recorded)
                self._engine.resume(self._text, tuple(self._said.tokens), patience_s=0.0)
                self.num_corrected += 1
                return

    def _on_failure(self, error: EngineError) -> None:
        if not self.is_over.done():
            self.is_over.set_exception(error)


def _other(token: int) -> int:
    """A wrong guess."""
    return token + 1 if token == 0 else token - 1
