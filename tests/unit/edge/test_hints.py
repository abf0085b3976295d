"""The edge's buffer of hints, against a model that keeps whole texts and compares them token by token."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.edge.hints import MAX_EARLY, HintBuffer
from cascade.wire.text import HashedText

MAX_TOKENS = 6


@dataclass
class Naive:
    """What the buffer should do, without hashes: every hint brings the whole text before it."""

    committed: list[int]
    chain: list[int] = field(default_factory=list)
    early: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def offer(self, before: list[int], tokens: list[int]) -> None:
        if self.take(before, tokens):
            self.retry()
        elif len(before) > len(self.committed):
            self.early = [*self.early, (before, tokens)][-MAX_EARLY:]

    def take(self, before: list[int], tokens: list[int]) -> bool:
        text = self.committed + self.chain
        whole = before + tokens
        head = len(self.committed)
        if before != text[: len(before)] or whole[:head] != self.committed[: len(whole)]:
            return False
        guesses = whole[head:][:MAX_TOKENS]
        if guesses != self.chain[: len(guesses)]:
            self.chain = guesses
        return True

    def commit(self, tokens: list[int]) -> None:
        does_agree = self.chain[: len(tokens)] == tokens
        self.chain = self.chain[len(tokens) :] if does_agree else []
        self.committed = self.committed + tokens
        self.retry()

    def retry(self) -> None:
        for hint in self.early:
            before, tokens = hint
            if len(before) > len(self.committed + self.chain):
                continue
            if self.take(before, tokens) or len(before) <= len(self.committed):
                self.early.remove(hint)
                self.retry()
                return


def buffer_of(text: list[int], max_tokens: int = MAX_TOKENS) -> HintBuffer:
    return HintBuffer(HashedText(text), max_tokens=max_tokens)


def offer(buffer: HintBuffer, before: list[int], tokens: list[int]) -> None:
    buffer.offer(len(before), HashedText(before).hash_before(len(before)), tuple(tokens))


TOKENS = st.lists(st.integers(0, 1), max_size=4)
"""Two tokens only, so that chains often meet again."""


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.data())
def test_like_the_model(data: st.DataObject) -> None:
    naive = Naive(data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=3)))
    buffer = buffer_of(naive.committed)
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 2)) == 0:
            tokens = data.draw(TOKENS.filter(bool))
            naive.commit(tokens)
            buffer.commit(tokens)
        else:
            # A text that often is ours up to somewhere, and goes on somehow.
            ours = naive.committed + naive.chain
            before = ours[: data.draw(st.integers(0, len(ours)))] + data.draw(TOKENS)
            tokens = data.draw(TOKENS)
            naive.offer(before, tokens)
            offer(buffer, before, tokens)
        assert buffer.committed() == naive.committed
        assert buffer.usable(100) == naive.chain
        assert buffer.num_usable == len(naive.chain)
        assert buffer.head == len(naive.committed)


def test_a_hint_is_usable_only_behind_the_text_it_was_made_for() -> None:
    buffer = buffer_of([1, 2, 3])
    offer(buffer, [1, 2, 4], [5])
    assert buffer.usable(9) == []
    offer(buffer, [1, 2, 3], [5, 6])
    offer(buffer, [1, 2, 3, 5, 7], [8])  # behind a guess we do not have
    assert buffer.usable(9) == [5, 6]
    offer(buffer, [1, 2, 3, 5, 6], [7])
    assert buffer.usable(9) == [5, 6, 7]
    assert buffer.usable(2) == [5, 6]


def test_hints_in_any_order_make_the_same_chain() -> None:
    buffer = buffer_of([1])
    for start in (3, 1, 2, 0):
        offer(buffer, [1, 10, 11, 12, 13][: start + 1], [10 + start])
    assert buffer.usable(9) == [10, 11, 12, 13]
    offer(buffer, [1], [10])  # a duplicate
    assert buffer.usable(9) == [10, 11, 12, 13]


def test_a_commit_keeps_the_chain_that_agrees_and_kills_the_other() -> None:
    buffer = buffer_of([1])
    offer(buffer, [1], [10, 11, 12])
    buffer.commit([10])
    assert buffer.usable(9) == [11, 12]
    buffer.commit([99])
    assert buffer.usable(9) == []
    offer(buffer, [1, 10, 11], [12, 13])  # of the dead chain, late
    assert buffer.usable(9) == []
    offer(buffer, [1, 10], [99, 5])  # begins below the head, agrees, goes on
    assert buffer.usable(9) == [5]


def test_the_newer_chain_replaces_the_older() -> None:
    buffer = buffer_of([1])
    offer(buffer, [1], [10, 11, 12])
    offer(buffer, [1, 10], [21, 22])
    assert buffer.usable(9) == [10, 21, 22]


def test_a_hint_that_overtook_a_correction_waits_for_it() -> None:
    buffer = buffer_of([1])
    offer(buffer, [1], [10, 11])
    offer(buffer, [1, 20], [21])  # the chain that begins with 20 is still on its way
    assert buffer.usable(9) == [10, 11]
    offer(buffer, [1], [20])
    assert buffer.usable(9) == [20, 21]


def test_an_early_hint_that_died_does_not_hold_up_the_next() -> None:
    buffer = buffer_of([1])
    offer(buffer, [1, 7], [8])
    offer(buffer, [1, 9], [5])
    buffer.commit([9])
    assert buffer.usable(9) == [5]


def test_memory_is_bounded() -> None:
    buffer = buffer_of([1], max_tokens=50)
    offer(buffer, [1], [2] * 1000)
    assert buffer.num_usable == 50
    for number in range(1000):
        offer(buffer, [1] * (100 + number), [3] * 10)
    assert buffer.num_usable == 50
    assert buffer.num_dropped >= 950 + (1000 - MAX_EARLY) * 10


def test_rewriting_begins_anew() -> None:
    buffer = buffer_of([1, 2])
    offer(buffer, [1, 2], [3])
    offer(buffer, [1, 2, 3, 4], [5])
    buffer.rewrite((1, 9))
    assert (buffer.committed(), buffer.usable(9), buffer.head) == ([1, 9], [], 2)
    offer(buffer, [1, 9], [3])
    assert buffer.usable(9) == [3]


def test_a_chain_is_no_longer_than_it_may_be() -> None:
    """However many hints it takes."""
    buffer, text = buffer_of([1]), [1]
    for token in range(10):
        offer(buffer, text, [token])
        text = [*text, token]
    assert buffer.usable(100) == list(range(MAX_TOKENS))
    assert buffer.num_dropped == 10 - MAX_TOKENS
