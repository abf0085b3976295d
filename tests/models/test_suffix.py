"""Suffix matching: what it guesses, what it promises, and that it forgets what is rolled back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.decoding import Sampling, pick
from cascade.errors import ContextExceeded, SettingsError
from cascade.models.base import Feed
from cascade.models.repeats import MAX_LENGTH, MAX_PLACES, ORDERS, RepeatIndex
from cascade.models.suffix import PRIORS, SuffixDraft, SuffixSequence

TOKENS = st.lists(st.integers(0, 3), max_size=60)
EDITS = st.lists(st.tuples(st.floats(0, 1), st.lists(st.integers(0, 3), max_size=12)), max_size=12)


def index_of(tokens: Sequence[int]) -> RepeatIndex:
    index = RepeatIndex()
    index.extend(tokens)
    return index


def draft(vocab_size: int = 32, context_length: int = 1 << 20) -> SuffixDraft:
    return SuffixDraft(vocab_size=vocab_size, vocab_fingerprint="test", context_length=context_length)


def rows(
    model: SuffixDraft, sequence: SuffixSequence, tokens: Sequence[int], num_logits: int = 1
) -> list[int]:
    return [int(row.argmax()) for row in model.forward([Feed(sequence, tokens, num_logits)])]


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ([], None),
        ([1], None),
        ([1, 2, 3], None),
        ([1, 2, 3, 1], (1, 2, 1)),
        ([1, 2, 3, 1, 2], (2, 3, 1)),
        ([1, 2, 3, 1, 2, 3, 1, 2], (5, 3, 1)),  # a longer order knows of fewer places
        ([2, 3, 4, 8, 2, 3, 4, 9, 2, 3], (2, 4, 2)),
        ([1, 2, 3, 4, 2, 3, 5, 1, 2, 3], (3, 4, 0)),  # the longest match, not the latest
        ([2, 3, 4, 2, 3, 5, 2, 3], (2, 5, 0)),  # of equals the latest
        ([7, 7, 7], (2, 7, 1)),  # a place may overlap the end
    ],
)
def test_the_longest_match_wins(tokens: list[int], found: tuple[int, int, int] | None) -> None:
    assert index_of(tokens).longest() == found


@given(TOKENS)
def test_a_match_is_what_brute_force_finds(tokens: list[int]) -> None:
    """Up to the places that are looked at: there is a longer one only if it is an old one."""
    found = index_of(tokens).longest()
    end = len(tokens)
    lengths = {
        place: next(n for n in range(place + 1) if n == place or tokens[place - 1 - n] != tokens[end - 1 - n])
        for place in range(1, end)
    }
    best = max(lengths.values(), default=0)
    if found is None:
        assert best == 0
        return
    assert tokens[end - found.length :] in [
        tokens[p - found.length : p] for p in lengths if tokens[p] == found.token
    ]
    few = min(len([n for n in lengths.values() if n >= order]) for order in ORDERS if order <= best)
    if few <= MAX_PLACES:
        assert found.length == min(best, MAX_LENGTH)


@given(TOKENS, EDITS)
@settings(max_examples=200)
def test_a_rolled_back_index_is_a_fresh_one(tokens: list[int], edits: list[tuple[float, list[int]]]) -> None:
    index, text = index_of(tokens), list(tokens)
    for share, more in edits:
        kept = int(share * len(text))
        text = text[:kept] + more
        index.truncate(kept)
        index.extend(more)
        fresh = index_of(text)
        assert index.longest() == fresh.longest()
        assert (index.tokens, index._sums, index._heads, index._chains) == (
            fresh.tokens,
            fresh._sums,
            fresh._heads,
            fresh._chains,
        )


@given(TOKENS.filter(bool), EDITS)
def test_a_rolled_back_sequence_guesses_as_a_fresh_one(
    tokens: list[int], edits: list[tuple[float, list[int]]]
) -> None:
    model = draft()
    sequence, text = model.new_sequence(), list(tokens)
    guessed = rows(model, sequence, tokens)
    for share, more in edits:
        kept = int(share * len(text))
        more = [*more, 1]
        text = text[:kept] + more
        sequence.truncate(kept)
        twin = sequence.fork()
        guessed = rows(model, sequence, more)
        assert guessed == rows(model, model.new_sequence(), text)
        assert guessed == rows(model, twin, more)
        assert sequence.length == twin.length == len(text)


def test_hashes_that_collide_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RepeatIndex, "_key", lambda self, number, end: 0)
    assert index_of([1, 2, 3, 4]).longest() is None
    assert index_of([1, 2, 3, 1, 2]).longest() == (2, 3, 1)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0, top_p=0.9, seed=5)])
def test_all_mass_is_on_the_continuation(sampling: Sampling) -> None:
    model = draft()
    logits = model.forward([Feed(model.new_sequence(), [1, 2, 3, 1, 2], 1)])
    assert logits.shape == (1, 32)
    assert logits.dtype == np.float32
    assert {pick(logits[0], sampling, position) for position in range(200)} == {3}


def test_several_feeds_and_rows() -> None:
    model = draft()
    one, two = model.new_sequence(), model.new_sequence()
    logits = model.forward([Feed(one, [5, 6, 5, 6], 3), Feed(two, [1, 2], 0)])
    assert [int(row.argmax()) for row in logits] == [6, 6, 5]
    assert two.length == 2
    assert model.forward([Feed(two, [1], 0)]).shape == (0, 32)


def test_verdicts_move_the_promise() -> None:
    model = draft()
    phrase = [1, 2, 3, 4, 5]

    def promise_after(num_phrases: int, answer: Sequence[int]) -> float:
        """Every time the phrase comes, its fourth token is proposed, and decided."""
        sequence = model.new_sequence()
        rows(model, sequence, [*phrase, 9])
        for number, token in enumerate(answer[:num_phrases]):
            rows(model, sequence, phrase[:3])
            rows(model, sequence, [token, 20 + number])
        sequence.extend(phrase[:3])
        return sequence.guess().promise

    before = promise_after(0, [])
    assert before == PRIORS[1][2]
    assert promise_after(6, [4] * 6) > PRIORS[2][2]
    assert promise_after(6, [11, 12, 13, 14, 15, 16]) < before / 2


def test_own_guesses_are_no_verdicts() -> None:
    """A drafter that runs ahead feeds what it was given; only the target's word counts."""
    model = draft()
    sequence = model.new_sequence()
    token = rows(model, sequence, [1, 2, 3, 4] * 3)[0]
    before = chances(sequence)
    for _ in range(20):
        token = rows(model, sequence, [token])[0]
    assert chances(sequence) == before
    assert sequence.decided == 12
    sequence.truncate(30)
    rows(model, sequence, [9])  # the target decided otherwise here, so it agreed before
    assert sequence.decided == 31
    assert sum(chances(sequence)) > sum(before)
    assert len(sequence._noted) == 1


def chances(sequence: SuffixSequence) -> list[float]:
    return [record.chance for row in sequence._records for record in row]


def test_limits_are_said() -> None:
    model = draft(context_length=4)
    with pytest.raises(ContextExceeded):
        model.forward([Feed(model.new_sequence(), [1, 2, 3, 4, 5], 1)])
    with pytest.raises(SettingsError, match="vocab_size"):
        draft(vocab_size=0)


def test_it_needs_neither_torch_nor_tokenizers() -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'tokenizers'): sys.modules[name] = None\n"
        "from cascade.models.base import Feed\n"
        "from cascade.models.blend import BlendDraft\n"
        "from cascade.models.suffix import SuffixDraft\n"
        "model = SuffixDraft(vocab_size=8, vocab_fingerprint='x')\n"
        "for m in (model, BlendDraft(model)):\n"
        "    print(m.forward([Feed(m.new_sequence(), [1, 2, 3, 1, 2], 1)])[0].argmax())\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.stdout.split() == ["3", "3"], done.stderr
