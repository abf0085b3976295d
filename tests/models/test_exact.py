"""Exact mode: the bits of a row do not depend on the batch."""

from __future__ import annotations

import random

import pytest
import torch

from cascade.models.base import Feed
from cascade.models.exact import TILE_ROWS
from cascade.models.huggingface import HuggingFaceModel

from .families import build, stock_logits, text

LENGTH = 90


def exact(family: str, dtype: torch.dtype) -> HuggingFaceModel:
    return HuggingFaceModel(build(family, hidden_size=96, intermediate_size=200).to(dtype), exact=True)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_equal_bit_by_bit(family: str, dtype: torch.dtype) -> None:
    model = exact(family, dtype)
    tokens = text(LENGTH, 0)
    alone = model.new_sequence()
    expected = torch.cat([model.forward([Feed(alone, [token], 1)]) for token in tokens])
    generator = random.Random(1)
    for trial in range(4):
        sequence = model.new_sequence()
        mates = [(model.new_sequence(), text(LENGTH + 40, 10 + index)) for index in range(3)]
        rows = []
        while sequence.length < LENGTH:
            count = min(generator.choice([1, 2, 3, 5, 8, 13, 32]), LENGTH - sequence.length)
            own = Feed(sequence, tokens[sequence.length :][:count], count)
            feeds = [own]
            for mate, words in mates:
                part = words[mate.length :][: generator.randrange(4)]
                feeds.append(Feed(mate, part, min(1, len(part))))
            generator.shuffle(feeds)
            start = sum(feed.num_logits for feed in feeds[: feeds.index(own)])
            rows.append(model.forward(feeds)[start : start + count])
            if trial % 2 and sequence.length > 40 and generator.random() < 0.3:
                sequence = sequence.fork()
            if generator.random() < 0.2:
                back = generator.randrange(1, 6)
                sequence.truncate(max(0, sequence.length - back))
                rows = [torch.cat(rows)[: sequence.length]]
        assert torch.equal(torch.cat(rows), expected)


def test_exact_rows_are_also_right() -> None:
    model = exact("gemma2", torch.float32)
    tokens = text(LENGTH, 3)
    rows = model.forward([Feed(model.new_sequence(), tokens, LENGTH)])
    stock = build("gemma2", hidden_size=96, intermediate_size=200)
    torch.testing.assert_close(rows, stock_logits(stock, tokens), rtol=0, atol=1e-4)


def test_every_place_in_a_tile_gives_the_same_bits() -> None:
    model = exact("llama", torch.bfloat16)
    expected = model.forward([Feed(model.new_sequence(), [5], 1)])
    for place in range(TILE_ROWS):
        others = [Feed(model.new_sequence(), [7 + index], 0) for index in range(place)]
        got = model.forward([*others, Feed(model.new_sequence(), [5], 1)])
        assert torch.equal(got, expected)


def test_exact_is_part_of_the_numerics_class() -> None:
    plain, careful = HuggingFaceModel(build("llama")), HuggingFaceModel(build("llama"), exact=True)
    assert careful.numerics.startswith(plain.numerics + "-exact8-")
