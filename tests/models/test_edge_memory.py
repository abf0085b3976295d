"""The edge's budget over real caches, which grow by doubling and share what they were forked from."""

from __future__ import annotations

import random

import pytest
import torch

from cascade.edge.interface import EngineStats
from cascade.edge.memory import KVMemory, TextCache
from cascade.errors import MemoryExceeded
from cascade.models.kv import KVSequence, KVStore, LayerShape

SHAPES = (LayerShape(2, 8, 8),)
BLOCK_BYTES = 64 * 2 * 16 * 4


@pytest.mark.parametrize("seed", range(20))
def test_the_budget_holds_at_the_end_of_every_pass(seed: int) -> None:
    """Texts of two owners come, fork each other, grow by bits and go; buffers never exceed the budget."""
    dice = random.Random(seed)
    store = KVStore(SHAPES, torch.float32, torch.device("cpu"), 2048)
    budget_bytes = dice.choice([12, 20]) * BLOCK_BYTES
    stats = EngineStats()
    memory = KVMemory(store.new_sequence, stats, budget_bytes=budget_bytes, keep_s=30.0)
    live: list[TextCache] = []
    for now_s in range(400):
        if dice.random() < 0.3:
            owner = dice.choice("ab")
            begin = dice.choice([[], *(cache.tokens for cache in live if cache.owner == owner)])
            news = [dice.randrange(9) for _ in range(dice.randint(1, 40))]
            live.append(TextCache(owner, begin[: dice.randint(0, 150)] + news))
        room = memory.room_for(live, float(now_s))
        fed: list[tuple[TextCache, int]] = []
        for cache in list(live):
            try:
                if room.take(cache, len(cache.tokens), 0):
                    fed.append((cache, len(cache.tokens) - cache.num_valid))
            except MemoryExceeded:
                memory.drop(cache)
                live.remove(cache)
        for cache, num_tokens in fed:
            assert isinstance(cache.sequence, KVSequence)
            cache.sequence.reserve(num_tokens)
            cache.sequence.advance(num_tokens)
            cache.num_valid = len(cache.tokens)
            cache.tokens.append(dice.randrange(9))
        assert memory.num_bytes <= budget_bytes
        assert store.allocated_bytes == memory.num_bytes, "and nothing is held beside"
        for cache in live:
            if dice.random() < 0.05:
                live.remove(cache)
                memory.keep(cache, float(now_s))
                break
        memory.expire(float(now_s))
    assert stats.num_evictions > 0
    assert stats.num_hit > 0
