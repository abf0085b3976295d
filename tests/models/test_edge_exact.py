"""The batch engine over the real target in exact mode: each text is, bit for bit, what it is alone."""

from __future__ import annotations

import asyncio
import random

import pytest

from cascade.decoding import Sampling, common_prefix, pick
from cascade.edge import BatchEngine, EdgeSettings
from cascade.edge.interface import Committed, DecodeRequest
from cascade.errors import EngineError
from cascade.models import bundled
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.runner import ThreadRunner
from cascade.wire.text import HashedText

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "smollm2-135m"
SYSTEM = "You are a careful assistant. Answer in short sentences, and say so when you do not know something."
QUESTIONS = [
    "Why is the sky blue?",
    "Write a haiku about rain.",
    "What is 12 times 11?",
    "Explain recursion to a child.",
    "Name five animals that can fly, and for each of them say in one sentence how it lands.",
    "Who wrote Hamlet?",
    "How do magnets work?",
    "What is photosynthesis?",
]
NEW_TOKENS = 24
BLOCK_TOKENS = 64
"""A cache grows by such blocks."""


@pytest.fixture(scope="module")
def model() -> HuggingFaceModel:
    bundled.fetch(NAME)
    return HuggingFaceModel.load(NAME, dtype="bfloat16", device="cpu", exact=True, num_threads=1)


def alone(model: HuggingFaceModel, prompt: list[int], sampling: Sampling) -> list[int]:
    """One token a pass, nothing else in it."""
    sequence, text, fed = model.new_sequence(), list(prompt), list(prompt)
    for _ in range(NEW_TOKENS):
        fed = [pick(model.forward([Feed(sequence, fed, 1)])[0], sampling, len(text))]
        text += fed
    return text


async def together(
    model: HuggingFaceModel, prompts: list[list[int]], samplings: list[Sampling], guesses: list[list[int]]
) -> tuple[list[list[int]], BatchEngine]:
    """All at once in an engine that is short of memory, with hints of which some are wrong."""
    block_bytes = model.new_sequence().growth_bytes(BLOCK_TOKENS)
    settings = EdgeSettings(
        kv_bytes=5 * block_bytes,  # too few for eight texts of one block, which grow to two
        prefill_chunk_rows=20,
        max_fed_hints=5,
        public_prefixes=(tuple(prompts[0][: common_prefix(prompts[0], prompts[1])]),),
    )
    engine = BatchEngine(model, ThreadRunner(), settings)
    running = asyncio.create_task(engine.run())
    dice = random.Random(1)
    texts: list[list[int]] = []

    async def one(index: int, prompt: list[int], sampling: Sampling, guess: list[int]) -> list[int]:
        changed = asyncio.Event()
        failures: list[EngineError] = []

        def on_commit(_: Committed) -> None:
            changed.set()

        def on_failure(error: EngineError) -> None:
            failures.append(error)
            changed.set()

        text = engine.open(
            DecodeRequest(
                prompt=tuple(prompt),
                sampling=sampling,
                stop_ids=frozenset(),
                length_limit=len(prompt) + NEW_TOKENS,
            ),
            tuple(prompt),
            owner=f"owner-{index % 4}",
            patience_s=0.0,
            on_commit=on_commit,
            on_failure=on_failure,
        )
        while not text.is_finished:
            await changed.wait()
            changed.clear()
            assert not failures, failures
            known, head = text.committed(), text.head
            hinted = guess[head : head + dice.randint(0, 6)]
            if hinted and dice.random() < 0.5:
                hinted[-1] = (hinted[-1] + 1) % model.vocab_size
            engine.acknowledge(text, head)
            if hinted:
                engine.hint(text, head, HashedText(known).hash_before(head), tuple(hinted))
        engine.close(text)
        return text.committed()

    try:
        async with asyncio.timeout(1200):
            texts = await asyncio.gather(
                *(one(i, *ask) for i, ask in enumerate(zip(prompts, samplings, guesses, strict=True)))
            )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return texts, engine


async def test_eight_sessions_are_bit_for_bit_what_each_is_alone(model: HuggingFaceModel) -> None:
    assert model.tokenizer is not None
    prompts = [
        model.tokenizer.chat([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}])
        for question in QUESTIONS
    ]
    samplings = [Sampling(temperature=[0.0, 0.7, 1.0][i % 3], seed=i) for i in range(len(prompts))]
    expected = [alone(model, p, sampling) for p, sampling in zip(prompts, samplings, strict=True)]
    texts, engine = await together(model, prompts, samplings, expected)
    assert texts == expected
    stats = engine.stats
    assert stats.num_hinted > NEW_TOKENS
    assert stats.num_evictions > 0
    assert stats.num_rebuilt > 0
    assert stats.num_hit > 0
    assert engine.kv_bytes <= engine.settings.kv_bytes
