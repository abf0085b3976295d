"""Ragged, chunked, truncated and forked passes give what the stock model gives for the whole text."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from cascade.errors import ContextExceeded, ModelError
from cascade.models import together
from cascade.models.base import Feed
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.ragged import bucket

from .families import FAMILIES, VOCAB, build, stock_logits, text

CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-4}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["together", "one by one"], autouse=True)
def ways_to_attend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts here are short: all of this must hold for the long ones, too."""
    if request.param == "one by one":
        monkeypatch.setattr(together, "LONGEST_TOKENS", 0)


def pair(family: str) -> tuple[object, HuggingFaceModel]:
    return build(family), HuggingFaceModel(build(family))


def test_texts_of_many_lengths_share_a_pass(family: str) -> None:
    stock, model = pair(family)
    texts = [text(length, seed) for seed, length in enumerate([1, 7, 33, 18, 64])]
    feeds = [Feed(model.new_sequence(), tokens, len(tokens)) for tokens in texts]
    rows = model.forward(feeds)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, torch.cat([stock_logits(stock, tokens) for tokens in texts]), **CLOSE)
    assert [feed.sequence.length for feed in feeds] == [1, 7, 33, 18, 64]


def test_chunks_of_any_size_add_up(family: str) -> None:
    stock, model = pair(family)
    texts = [text(80, 1), text(71, 2)]
    sequences = [model.new_sequence() for _ in texts]
    rows: list[list[torch.Tensor]] = [[], []]
    sizes = [(30, 1), (1, 12), (1, 1), (5, 40), (20, 3), (1, 1), (22, 13)]
    for chunk in sizes:
        parts = [tokens[s.length :][:n] for tokens, s, n in zip(texts, sequences, chunk, strict=True)]
        feeds = [Feed(s, part, len(part)) for s, part in zip(sequences, parts, strict=True)]
        both = model.forward(feeds)
        rows[0].append(both[: len(parts[0])])
        rows[1].append(both[len(parts[0]) :])
    for tokens, collected in zip(texts, rows, strict=True):
        torch.testing.assert_close(torch.cat(collected), stock_logits(stock, tokens), **CLOSE)


def test_only_wanted_rows_come_back(family: str) -> None:
    stock, model = pair(family)
    first, second, third = text(9, 1), text(20, 2), text(4, 3)
    feeds = [
        Feed(model.new_sequence(), first, 2),
        Feed(model.new_sequence(), second, 0),
        Feed(model.new_sequence(), third, 1),
    ]
    expected = torch.cat([stock_logits(stock, first)[-2:], stock_logits(stock, third)[-1:]])
    torch.testing.assert_close(model.forward(feeds), expected, **CLOSE)
    nothing = model.forward([Feed(model.new_sequence(), second, 0)])
    assert nothing.shape == (0, VOCAB)


def test_truncated_texts_go_on_as_if_nothing_had_been(family: str) -> None:
    stock, model = pair(family)
    sequence = model.new_sequence()
    kept, wrong, right = text(25, 1), text(30, 2), text(19, 3)
    model.forward([Feed(sequence, kept + wrong, 0)])
    sequence.truncate(25)
    rows = model.forward([Feed(sequence, right, len(right))])
    torch.testing.assert_close(rows, stock_logits(stock, kept + right)[25:], **CLOSE)


def test_forks_share_a_prefix_and_part(family: str) -> None:
    stock, model = pair(family)
    prefix = text(30, 1)
    root = model.new_sequence()
    model.forward([Feed(root, prefix, 0)])
    before = model.cache_bytes
    forks = [root.fork() for _ in range(3)]
    assert model.cache_bytes == before, "forking copies nothing"
    tails = [text(12, 2), text(1, 3), text(17, 4)]
    rows = model.forward([Feed(f, t, len(t)) for f, t in zip(forks, tails, strict=True)])
    expected = torch.cat([stock_logits(stock, prefix + tail)[30:] for tail in tails])
    torch.testing.assert_close(rows, expected, **CLOSE)
    # The root goes on by itself, a fork of a fork too, and one that is cut inside the shared prefix.
    again = forks[0].fork()
    again.truncate(35)
    short = forks[2].fork()
    short.truncate(21)
    rows = model.forward([Feed(root, tails[2], 17), Feed(again, tails[1], 1), Feed(short, tails[0], 12)])
    expected = torch.cat(
        [
            stock_logits(stock, prefix + tails[2])[30:],
            stock_logits(stock, prefix + tails[0][:5] + tails[1])[35:],
            stock_logits(stock, prefix[:21] + tails[0])[21:],
        ]
    )
    torch.testing.assert_close(rows, expected, **CLOSE)


def test_many_generations_of_forks(family: str) -> None:
    stock, model = pair(family)
    sequence, tokens = model.new_sequence(), []
    for generation in range(9):
        part = text(5 + generation, generation)
        tokens += part
        rows = model.forward([Feed(sequence, part, len(part))])
        sequence = sequence.fork()
    torch.testing.assert_close(rows, stock_logits(stock, tokens)[-len(part) :], **CLOSE)


def test_a_failing_pass_changes_nothing() -> None:
    stock, model = pair("llama")
    tokens = text(20, 1)
    sequence = model.new_sequence()
    model.forward([Feed(sequence, tokens[:10], 0)])
    with pytest.raises(ModelError, match="outside the vocabulary"):
        model.forward([Feed(sequence, [5, VOCAB], 1)])
    with pytest.raises(ModelError, match="twice"):
        model.forward([Feed(sequence, [5], 1), Feed(sequence, [6], 1)])
    with pytest.raises(ModelError, match="rows of logits"):
        model.forward([Feed(sequence, [5], 2)])
    with pytest.raises(ContextExceeded) as caught:
        model.forward([Feed(sequence, [5] * 250, 1)])
    assert (caught.value.wanted, caught.value.context_length) == (260, 256)
    other = HuggingFaceModel(build("llama")).new_sequence()
    with pytest.raises(ModelError, match="another model"):
        model.forward([Feed(other, [5], 1)])
    assert sequence.length == 10
    rows = model.forward([Feed(sequence, tokens[10:], 10)])
    torch.testing.assert_close(rows, stock_logits(stock, tokens)[10:], **CLOSE)


def test_the_context_can_be_filled_to_its_end() -> None:
    stock, model = pair("gpt2")
    tokens = text(256, 1)
    sequence = model.new_sequence()
    model.forward([Feed(sequence, tokens[:255], 0)])
    rows = model.forward([Feed(sequence, tokens[255:], 1)])
    torch.testing.assert_close(rows, stock_logits(stock, tokens)[255:], **CLOSE)
    with pytest.raises(ContextExceeded):
        model.forward([Feed(sequence, [5], 1)])


def test_an_empty_pass_is_allowed() -> None:
    model = HuggingFaceModel(build("llama"))
    assert model.forward([]).shape == (0, VOCAB)
    sequence = model.new_sequence()
    assert model.forward([Feed(sequence, [], 0)]).shape == (0, VOCAB)
    assert sequence.length == 0


def test_two_threads_run_two_models_and_two_texts_of_one() -> None:
    stock, model = pair("gemma2")
    other_stock, other = build("llama"), HuggingFaceModel(build("llama"))
    wrong: list[str] = []

    def steps(machine: HuggingFaceModel, reference: object, seed: int) -> None:
        tokens = text(24, seed)
        expected = stock_logits(reference, tokens)
        sequence = machine.new_sequence()
        for index, token in enumerate(tokens):
            row = machine.forward([Feed(sequence, [token], 1)])[0]
            if not torch.allclose(row, expected[index], **CLOSE):
                wrong.append(f"seed {seed} position {index}")

    runs = [(model, stock, 1), (model, stock, 2), (other, other_stock, 3)]
    threads = [threading.Thread(target=steps, args=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_few_shapes_cover_all_widths() -> None:
    shapes = {bucket(n) for n in range(1, 4097)}
    assert len(shapes) <= 8 + 4 * 9
    assert all(n <= bucket(n) <= 1.25 * n for n in range(1, 4097))
