"""The cache: lengths, sharing, and memory that comes back."""

from __future__ import annotations

import gc
import random

import pytest
import torch

from cascade.errors import ModelError
from cascade.models.kv import KVSequence, KVStore, LayerShape

SHAPES = (LayerShape(2, 8, 8), LayerShape(2, 8, 4))
PER_TOKEN = (2 * 16 + 2 * 12) * 4


@pytest.fixture
def store() -> KVStore:
    return KVStore(SHAPES, torch.float32, torch.device("cpu"), 4096)


def extend(sequence: KVSequence, num_tokens: int) -> None:
    """Write the position itself into every slot."""
    sequence.reserve(num_tokens)
    numbers = torch.arange(sequence.length, sequence.length + num_tokens, dtype=torch.float32)
    for layer, shape in enumerate(SHAPES):
        keys = numbers[None, :, None].expand(2, num_tokens, shape.key_dim)
        values = -numbers[None, :, None].expand(2, num_tokens, shape.value_dim)
        sequence.write(layer, sequence.length, torch.cat([keys, values], dim=2))
    sequence.advance(num_tokens)


def held(sequence: KVSequence) -> list[list[int]]:
    result = []
    for layer in range(len(SHAPES)):
        pieces = sequence.pieces(layer, sequence.length)
        keys = torch.cat([k for k, _ in pieces], dim=1) if pieces else torch.zeros(2, 0, 8)
        values = torch.cat([v for _, v in pieces], dim=1) if pieces else torch.zeros(2, 0, 4)
        assert torch.equal(keys[0, :, 0], -values[1, :, -1])
        result.append(keys[1, :, 3].int().tolist())
    return result


def test_growth_keeps_everything_and_moves_rarely(store: KVStore) -> None:
    sequence = store.new_sequence()
    moves, before = 0, 0
    for _ in range(1000):
        extend(sequence, 1)
        moves += sequence.memory_bytes != before
        before = sequence.memory_bytes
    assert held(sequence) == [list(range(1000))] * 2
    assert moves <= 6
    assert sequence.memory_bytes <= 2 * 1000 * PER_TOKEN + 64 * PER_TOKEN


def test_room_stops_at_the_context(store: KVStore) -> None:
    sequence = store.new_sequence()
    extend(sequence, 3000)
    extend(sequence, 1096)
    assert sequence.memory_bytes == 4096 * PER_TOKEN


def test_truncate_and_write_again(store: KVStore) -> None:
    sequence = store.new_sequence()
    extend(sequence, 100)
    sequence.truncate(40)
    extend(sequence, 5)
    assert held(sequence) == [list(range(45))] * 2
    with pytest.raises(ModelError, match="truncate"):
        sequence.truncate(46)
    with pytest.raises(ModelError, match="truncate"):
        sequence.truncate(-1)
    sequence.truncate(0)
    assert held(sequence) == [[]] * 2


def test_a_shared_prefix_is_charged_once(store: KVStore) -> None:
    root = store.new_sequence()
    extend(root, 128)
    forks = [root.fork() for _ in range(5)]
    assert store.allocated_bytes == 128 * PER_TOKEN
    assert [fork.memory_bytes for fork in forks] == [0] * 5
    extend(forks[0], 1)
    assert store.allocated_bytes == root.memory_bytes + sum(fork.memory_bytes for fork in forks)
    root.release()
    assert store.allocated_bytes == sum(fork.memory_bytes for fork in forks), "the next holder is charged"
    assert held(forks[0]) == [list(range(129))] * 2


def test_forks_never_see_each_other(store: KVStore) -> None:
    root = store.new_sequence()
    extend(root, 10)
    fork = root.fork()
    root.truncate(4)
    extend(root, 20)
    assert held(fork) == [list(range(10))] * 2
    assert held(root) == [list(range(24))] * 2
    root.release()
    fork.truncate(3)
    extend(fork, 3)
    assert held(fork) == [list(range(6))] * 2


def test_a_long_chain_of_forks_stays_short(store: KVStore) -> None:
    sequence = store.new_sequence()
    for _ in range(20):
        extend(sequence, 7)
        parent, sequence = sequence, sequence.fork()
        parent.release()
    assert held(sequence) == [list(range(140))] * 2
    assert len(sequence.pieces(0, 140)) <= 4
    assert sequence.memory_bytes == store.allocated_bytes


def test_all_memory_comes_back(store: KVStore) -> None:
    sequences = []
    for index in range(40):
        sequence = store.new_sequence()
        extend(sequence, 1 + 37 * index % 200)
        sequences += [sequence, sequence.fork()]
        extend(sequences[-1], index)
    for sequence in sequences:
        sequence.release()
    assert store.allocated_bytes == 0, "reference counting alone gives it back"
    dropped = store.new_sequence()
    extend(dropped, 5)
    del dropped
    gc.collect()
    assert store.allocated_bytes == 0


def test_a_released_sequence_says_so(store: KVStore) -> None:
    sequence = store.new_sequence()
    extend(sequence, 3)
    sequence.release()
    sequence.release()
    for use in (lambda: sequence.reserve(1), lambda: sequence.truncate(0), sequence.fork):
        with pytest.raises(ModelError, match="released"):
            use()


def test_growth_is_known_beforehand(store: KVStore) -> None:
    """To the byte, whatever was shared, cut or is at the context's end."""
    dice = random.Random(4)
    sequences = [store.new_sequence()]
    for _ in range(300):
        sequence = dice.choice(sequences)
        match dice.randrange(6):
            case 0 if len(sequences) < 6:
                expected = store.allocated_bytes + sequence.fork_bytes
                sequences.append(sequence.fork())
                assert store.allocated_bytes == expected
            case 1 if len(sequences) > 1 and dice.random() < 0.3:
                sequences.remove(sequence)
                sequence.release()
            case 1:
                sequence.truncate(dice.randint(0, sequence.length))
            case _:
                count = min(dice.choice([0, 1, 5, 64, 700]), store.context_length - sequence.length)
                expected = sequence.memory_bytes + sequence.growth_bytes(count)
                extend(sequence, count)
                assert sequence.memory_bytes == expected
