"""What a pass decides where the device has decided some of it already."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.decoding import Sampling
from cascade.edge.decode import Decode
from cascade.edge.hints import HintBuffer
from cascade.edge.interface import DecodeRequest
from cascade.edge.keeping import decide
from cascade.wire.text import HashedText

TEXT = [3, 1, 4, 1, 5]


def test_kept_tokens_stand_and_get_their_verdict() -> None:
    decided = decide([7, 8, 9], [True, True, False], [7, 5, 9, 6])
    assert decided.tokens == [7, 8, 9, 6]
    assert decided.is_own == [True, False, True, True]
    assert decided.num_hinted == 3


def test_a_wrong_guess_ends_it_with_all_that_was_kept_behind() -> None:
    decided = decide([7, 8, 9], [True, False, True], [7, 5, 9, 6])
    assert decided.tokens == [7, 5]
    assert decided.is_own == [True, True]
    assert decided.num_hinted == 1


def test_without_the_pen_nothing_is_added_behind_the_chain() -> None:
    assert decide([7], [False], [7, 6], goes_on=False).tokens == [7]
    assert decide([7], [False], [5, 6], goes_on=False).tokens == [5]  # it was asked
    assert decide([], [], [5], goes_on=False).tokens == []
    assert decide([7], [False], [7, 6]).tokens == [7, 6]


def keep(buffer: HintBuffer, before: list[int], tokens: list[int], kept: list[bool]) -> None:
    state = HashedText(before).state_before(len(before))
    buffer.offer(len(before), state, tuple(tokens), tuple(kept))


def test_the_buffer_knows_which_are_no_guesses() -> None:
    buffer = HintBuffer(HashedText([1]), max_tokens=8)
    keep(buffer, [1, 5, 6], [7], [True])  # early: its beginning is under way
    keep(buffer, [1], [5, 6], [False, True])
    assert buffer.usable(8) == [5, 6, 7]
    assert buffer.kept(1, 4) == [False, True, True]
    buffer.commit([5])
    assert buffer.kept(2, 4) == [True, True]
    buffer.commit([9])
    assert buffer.kept(3, 4) == [False]
    assert buffer.num_usable == 0


def test_what_is_kept_needs_all_bits_of_the_hash() -> None:
    buffer = HintBuffer(HashedText([1]), max_tokens=8)
    state = HashedText([1]).state_before(1)
    buffer.offer(1, state ^ 1, (5,), (True,))  # its upper 16 bits are right
    assert buffer.num_usable == 0
    buffer.offer(1, state >> 16, (5,))
    assert buffer.num_usable == 1


def test_a_newer_chain_brings_its_own_marks() -> None:
    buffer = HintBuffer(HashedText([1]), max_tokens=8)
    keep(buffer, [1], [5, 6], [True, True])
    buffer.offer(1, HashedText([1]).hash_before(1), (7, 8))
    assert buffer.usable(8) == [7, 8]
    assert buffer.kept(1, 3) == [False, False], "these are guesses"


def test_leniency_is_for_what_was_offered_with_it() -> None:
    buffer = HintBuffer(HashedText([1]), max_tokens=8)
    state = HashedText([1]).state_before(1)
    for alpha in (0.5, 0.0):
        buffer.offer(1, state, (5, 6), (False, False), alpha)
        assert buffer.alphas(1, 3) == [alpha, alpha]
    buffer.offer(1, state, (5, 6), (False, False), 0.5)
    buffer.offer(2, HashedText([1, 5]).hash_before(2), (7,))
    assert buffer.alphas(1, 3) == [0.5, 0.0], "a chain drafted anew"
    buffer.offer(1, state, (5, 6), (False, False), 0.5)
    buffer.commit([9])
    buffer.offer(2, HashedText([1, 9]).hash_before(2), (7,))
    assert buffer.alphas(2, 3) == [0.0], "a chain that was wrong"


def test_what_was_said_of_a_text_that_was_given_up_is_void() -> None:
    buffer = HintBuffer(HashedText([1, 5]), max_tokens=8)
    keep(buffer, [1, 5, 6], [7], [True])  # early
    buffer.rewind(1)
    keep(buffer, [1], [5, 6], [True, True])
    assert buffer.usable(8) == [5, 6]


def decode_of(prefix: list[int], *, wants_logprobs: bool = False) -> Decode:
    request = DecodeRequest(
        prompt=(3, 1),
        sampling=Sampling(),
        stop_ids=frozenset({0}),
        length_limit=20,
        wants_logprobs=wants_logprobs,
    )
    decode = Decode(
        request,
        tuple(prefix),
        owner="me",
        patience_s=0.0,
        max_buffered_hints=16,
        now_s=0.0,
        on_commit=lambda committed: None,
        on_failure=lambda error: None,
    )
    decode.cache.num_valid = len(prefix) - 1
    return decode


def offer(decode: Decode, before: list[int], tokens: list[int], kept: list[bool]) -> None:
    decode.offer(len(before), HashedText(before).state_before(len(before)), tuple(tokens), 0.0, tuple(kept))


def test_a_pass_absorbs_what_is_kept() -> None:
    decode = decode_of(TEXT)
    offer(decode, TEXT, [9, 8], [True, False])
    step = decode.plan(max_hints=16, max_prefill=100)
    committed = decode.finish(step, [2, 8, 6], 1.0)
    assert committed is not None
    assert committed.tokens == (9, 8, 6)
    assert decode.verdict(5, 8) == (False, True, True)
    assert decode.verdict(6, 8) is None
    decode.acknowledge(6)
    assert decode.verdict(6, 8) is None


def test_what_is_kept_and_not_fed_is_judged_by_the_row_before_it() -> None:
    """A pass that has no room for hints must not decide a position that the device has decided."""
    decode = decode_of(TEXT)
    step = decode.plan(max_hints=16, max_prefill=100)
    offer(decode, TEXT, [9, 8], [True, True])  # came while the pass ran
    committed = decode.finish(step, [2], 1.0)
    assert committed is not None
    assert committed.tokens == (9,)
    assert decode.verdict(5, 6) == (False,)
    assert decode.hints.usable(4) == [8]
    assert decode.cache.num_valid == 5


def test_the_app_overrules() -> None:
    decode = decode_of(TEXT)
    step = decode.plan(max_hints=16, max_prefill=100)
    decode.finish(step, [0], 1.0)
    assert decode.is_finished
    running = decode.plan(max_hints=16, max_prefill=100)
    state = HashedText(TEXT).state_before(5)
    assert not decode.overrule(5, state ^ 1, 2.0)
    assert not decode.overrule(9, state, 2.0)
    assert not decode.overrule(1, HashedText(TEXT).state_before(1), 2.0)  # that is the prompt
    decode.acknowledge(6)
    assert decode.overrule(5, state, 2.0)
    assert (decode.head, decode.known, decode.is_finished) == (5, 5, False)
    assert decode.finish(running, [7], 3.0) is None, "it was computed for another text"
    offer(decode, TEXT, [9], [True])
    step = decode.plan(max_hints=16, max_prefill=100)
    assert step.fed == [TEXT[-1], 9], "the last token that stands is fed again: its row is wanted"
    committed = decode.finish(step, [0, 4], 4.0)
    assert committed is not None
    assert committed.tokens == (9, 4)


def test_without_the_pen_a_text_waits() -> None:
    decode = decode_of(TEXT)
    decode.has_pen = False
    assert decode.is_held
    offer(decode, TEXT, [9], [False])
    assert not decode.is_held
    decode.finish(decode.plan(max_hints=16, max_prefill=100), [9, 4], 1.0)
    assert decode.head == 6
    assert decode.is_held
    decode.resume((*TEXT, 9), patience_s=0.0, now_s=2.0)
    assert not decode.is_held
    assert decode.plan(max_hints=16, max_prefill=100).fed == [9]


def test_another_text_has_other_verdicts() -> None:
    decode = decode_of(TEXT)
    offer(decode, TEXT, [9, 8], [True, True])
    decode.finish(decode.plan(max_hints=16, max_prefill=100), [2, 3, 6], 1.0)
    assert decode.verdict(5, 8) == (False, False, True)
    decode.resume((*TEXT[:4], 7), patience_s=0.0, now_s=2.0)
    assert decode.plan(max_hints=16, max_prefill=100).fed == [7]
    decode.finish(decode.plan(max_hints=16, max_prefill=100), [4], 3.0)
    assert decode.verdict(5, 6) is None, "our own pick"


def test_a_token_that_is_not_our_pick_has_no_logprob_of_ours() -> None:
    decode = decode_of(TEXT, wants_logprobs=True)
    offer(decode, TEXT, [9, 8], [True, True])
    decode.finish(decode.plan(max_hints=16, max_prefill=100), [9, 3, 6], 1.0, [-0.5, -1.0, -2.0])
    assert decode.logprobs(5, 6) == (-0.5,)
    assert decode.logprobs(5, 8) is None
    assert decode.logprobs(7, 8) == (-2.0,)


@pytest.mark.parametrize(("alpha", "stands"), [(0.0, False), (0.1, True)])
def test_without_leniency_a_tie_is_not_enough(alpha: float, stands: bool) -> None:
    decode = decode_of(TEXT)
    state = HashedText(TEXT).state_before(5)
    decode.offer(5, state, (2,), 0.0, (False,), alpha)
    step = decode.plan(max_hints=16, max_prefill=100)
    step.accept(np.array([[0.0, 1.0, 1.0, 0.0]] * 2, dtype=np.float32), [1, 1])
    assert step.stands == [stands]
