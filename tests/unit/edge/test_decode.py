"""One text at the edge: plan, finish, resume, and when it is due."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.decoding import Sampling, pick_rows
from cascade.edge import EdgeSettings
from cascade.edge.decode import Decode, PlannedStep
from cascade.edge.interface import Committed, DecodeRequest
from cascade.edge.pacer import Pacer, Part
from cascade.edge.pacing import NEVER_S
from cascade.errors import SettingsError
from cascade.testing import SyntheticTarget
from cascade.wire.text import HashedText

from ...virtual.peers import greedy

TARGET = SyntheticTarget(vocab_size=64)
PROMPT = (5, 6, 7)
ANSWER = greedy(TARGET, PROMPT, 30)
TEXT = [*PROMPT, *ANSWER]


def decode_of(prefix: tuple[int, ...] = PROMPT, *, count: int = 30, **options: Any) -> Decode:
    request = DecodeRequest(
        prompt=PROMPT,
        sampling=Sampling(),
        stop_ids=options.pop("stop_ids", frozenset()),
        length_limit=len(PROMPT) + count,
    )
    plain: dict[str, Any] = {"owner": "me", "patience_s": 0.0, "max_buffered_hints": 64, "now_s": 0.0}
    return Decode(request, prefix, on_commit=lambda _: None, on_failure=lambda _: None, **(plain | options))


def guess(decode: Decode, tokens: list[int]) -> None:
    text = decode.hints.committed()
    decode.hints.offer(len(text), HashedText(text).hash_before(len(text)), tuple(tokens))


def plan(decode: Decode, max_hints: int = 16, max_prefill: int = 1000) -> PlannedStep:
    if decode.cache.sequence is None:
        decode.cache.sequence = TARGET.new_sequence()
    decode.cache.truncate()
    return decode.plan(max_hints=max_hints, max_prefill=max_prefill)


def run(step: PlannedStep) -> list[int]:
    logits = TARGET.forward([step.feed()])
    positions = range(step.position, step.position + step.num_picks)
    picks: list[int] = pick_rows(logits, [Sampling()] * step.num_picks, list(positions)).tolist()
    return picks


def step(decode: Decode, now_s: float = 1.0, max_hints: int = 16) -> Committed | None:
    planned = plan(decode, max_hints)
    return decode.finish(planned, run(planned), now_s)


def test_the_first_pass_feeds_the_prompt_and_later_ones_a_token() -> None:
    decode = decode_of()
    assert plan(decode).fed == list(PROMPT)
    assert step(decode) == Committed((ANSWER[0],), 0)
    assert plan(decode).fed == [ANSWER[0]]
    assert step(decode) == Committed((ANSWER[1],), 0)
    assert decode.head == 5


def test_agreed_hints_are_committed_with_one_of_our_own() -> None:
    decode = decode_of()
    guess(decode, ANSWER[:4])
    assert step(decode) == Committed(tuple(ANSWER[:5]), 4)
    assert plan(decode).fed == [ANSWER[4]]


@pytest.mark.parametrize("num_agreed", [0, 1, 3])
def test_a_rejection_rolls_the_cache_back_to_what_is_text(num_agreed: int) -> None:
    decode = decode_of()
    wrong = (ANSWER[num_agreed] + 1) % 64
    guess(decode, [*ANSWER[:num_agreed], wrong, 1, 1])
    assert step(decode) == Committed(tuple(ANSWER[: num_agreed + 1]), num_agreed)
    sequence = decode.cache.sequence
    assert sequence is not None
    assert sequence.length == len(PROMPT) + num_agreed + 3, "still holds the rejected ones"
    feed = plan(decode).feed()
    assert feed.sequence.length == len(PROMPT) + num_agreed
    assert list(feed.tokens) == [ANSWER[num_agreed]]
    assert step(decode) == Committed((ANSWER[num_agreed + 1],), 0)


def test_a_pass_takes_only_so_many_hints_and_never_beyond_the_limit() -> None:
    decode = decode_of(count=6)
    guess(decode, ANSWER[:20])
    assert plan(decode, 2).hints == ANSWER[:2]
    assert plan(decode, 16).hints == ANSWER[:5], "the last token is our own"
    assert plan(decode, 0).hints == []
    assert step(decode) == Committed(tuple(ANSWER[:6]), 5)
    assert decode.is_finished


def test_a_stop_id_among_the_hints_ends_the_text() -> None:
    decode = decode_of(stop_ids=frozenset({ANSWER[2]}))
    end = ANSWER.index(ANSWER[2]) + 1
    guess(decode, ANSWER[:8])
    assert step(decode) == Committed(tuple(ANSWER[:end]), end)
    assert decode.is_finished


def test_hints_may_arrive_while_the_pass_runs() -> None:
    decode = decode_of()
    planned = plan(decode)
    guess(decode, ANSWER[:3])
    assert decode.finish(planned, run(planned), 1.0) == Committed((ANSWER[0],), 0)
    assert plan(decode).hints == ANSWER[1:3]


def test_resume_keeps_our_text_where_the_device_has_less() -> None:
    decode = decode_of()
    for _ in range(5):
        step(decode)
    decode.resume(tuple(TEXT[:5]), patience_s=0.0, now_s=2.0)
    assert (decode.head, decode.known) == (8, 5)
    assert plan(decode).fed == [ANSWER[4]]
    assert step(decode) == Committed((ANSWER[5],), 0)


def test_resume_takes_what_the_device_has_more() -> None:
    decode = decode_of()
    for _ in range(3):
        step(decode)
    decode.resume(tuple(TEXT[:10]), patience_s=0.0, now_s=2.0)
    assert (decode.head, decode.known) == (10, 10)
    assert plan(decode).fed == TEXT[5:10], "the cache keeps what is still right"
    assert step(decode) == Committed((TEXT[10],), 0)


def test_resume_in_mid_pass_with_another_text_voids_the_pass() -> None:
    decode = decode_of()
    step(decode)
    guess(decode, ANSWER[1:5])
    planned = plan(decode)
    picks = run(planned)
    other = (*PROMPT, (ANSWER[0] + 1) % 64, 9)
    decode.resume(other, patience_s=0.0, now_s=2.0)
    assert decode.finish(planned, picks, 3.0) is None
    assert decode.hints.committed() == list(other)
    assert plan(decode).fed == list(other[3:])
    assert step(decode) == Committed((greedy(TARGET, other, 1)[0],), 0)


@pytest.mark.parametrize(
    ("prefix", "stop_ids", "is_finished"),
    [
        (PROMPT, frozenset({7}), False),  # a stop id in the prompt stops nothing
        ((*PROMPT, 9), frozenset({9}), True),
        ((*PROMPT, 9), frozenset({8}), False),
        ((*PROMPT, 9, 9), frozenset(), True),  # at the limit of two
    ],
)
def test_what_is_finished_already_when_opened(
    prefix: tuple[int, ...], stop_ids: frozenset[int], is_finished: bool
) -> None:
    decode = decode_of(prefix, count=2, stop_ids=stop_ids)
    assert decode.is_finished is is_finished
    fresh = decode_of(count=2, stop_ids=stop_ids)
    fresh.resume(prefix, patience_s=0.0, now_s=0.0)
    assert fresh.is_finished is is_finished


def test_a_long_prefix_is_fed_in_parts_and_hints_wait_for_the_last() -> None:
    decode = decode_of(tuple(TEXT[:12]))
    decode.hints.offer(12, HashedText(TEXT[:12]).hash_before(12), tuple(TEXT[12:15]))
    fed = []
    while not (planned := plan(decode, max_prefill=4)).num_picks:
        fed.append(planned.fed)
        assert decode.finish(planned, run(planned), 1.0) is None
    assert fed == [TEXT[:4], TEXT[4:8]]
    assert planned.fed == [*TEXT[8:12], *TEXT[12:15]], "three that are lacking, the last, and the hints"
    assert decode.finish(planned, run(planned), 1.0) == Committed(tuple(TEXT[12:16]), 3)


def test_resumed_with_another_text_in_mid_prefill() -> None:
    decode = decode_of(tuple(TEXT[:12]))
    first = plan(decode, max_prefill=4)
    decode.finish(first, run(first), 1.0)
    planned = plan(decode, max_prefill=4)
    run(planned)
    other = (*TEXT[:6], (TEXT[6] + 1) % 64, 9)
    decode.resume(other, patience_s=0.0, now_s=2.0)
    assert decode.finish(planned, [], 3.0) is None
    assert plan(decode).fed == list(other[4:])
    assert step(decode) == Committed((greedy(TARGET, other, 1)[0],), 0)


def test_a_cache_that_was_given_up_is_built_again() -> None:
    decode = decode_of()
    step(decode)
    decode.cache.release()
    decode.cache.release()
    assert plan(decode).fed == TEXT[:4]
    assert step(decode) == Committed((ANSWER[1],), 0)


# Pacing


def choose(decode: Decode, *, now_s: float = 0.0, **settings: Any) -> tuple[Part | None, float]:
    """What the pacer would have it do, and when."""
    pacer = Pacer(EdgeSettings(**settings))
    parts, begin_at_s = pacer.choose(*pacer.sort([decode], now_s), now_s, may_hold=False)
    return parts.get(decode), begin_at_s


def test_when_a_text_is_due() -> None:
    decode = decode_of(patience_s=0.5)
    assert choose(decode) == (Part(0, 2), 0.0), "the first step waits for nobody"
    step(decode, now_s=3.0)
    assert choose(decode, now_s=3.1) == (None, 3.5)
    assert choose(decode, now_s=3.5) == (Part(0, 0), 3.5)
    guess(decode, [1])
    assert choose(decode, now_s=3.1) == (Part(1, 0), 3.1)
    decode.is_running = True
    assert choose(decode, now_s=3.1) == (None, NEVER_S)


def test_a_text_far_ahead_of_its_device_is_not_due() -> None:
    decode = decode_of()
    for _ in range(4):
        step(decode)
    assert choose(decode, run_ahead=5)[0] is not None
    assert choose(decode, run_ahead=4) == (None, NEVER_S)
    decode.known += 1
    assert choose(decode, run_ahead=4)[0] is not None


def test_a_finished_text_is_not_due_and_the_last_token_is_at_once() -> None:
    decode = decode_of(count=3, patience_s=9.0)
    step(decode)
    step(decode)
    guess(decode, [1, 1])
    assert choose(decode) == (Part(0, 0), 0.0), "the last token is our own anyway"
    step(decode)
    assert choose(decode) == (None, NEVER_S)


def test_how_long_a_text_was_due_before_its_pass_began() -> None:
    decode = decode_of(patience_s=0.5)
    decode.begin(0.2)
    assert decode.queue_s == pytest.approx(0.2), "opened at 0"
    step(decode, now_s=1.0)
    decode.begin(1.6)
    assert decode.queue_s == pytest.approx(0.1), "its patience is no queue"
    step(decode, now_s=2.0)
    text = decode.hints.committed()
    decode.offer(len(text), HashedText(text).hash_before(len(text)), (1,), 2.25)
    decode.begin(2.3)
    assert decode.queue_s == pytest.approx(0.05), "it had hints"


def test_hints_are_judged_whether_they_were_fed_or_not() -> None:
    fed, unfed = decode_of(), decode_of()
    for decode in (fed, unfed):
        step(decode)
        guess(decode, ANSWER[1:5])
    step(fed)
    for _ in range(4):
        step(unfed, max_hints=0)
    assert fed.outlook.agreement == unfed.outlook.agreement > decode_of().outlook.agreement
    guess(fed, [ANSWER[6] + 1])
    agreement = fed.outlook.agreement
    step(fed)
    assert fed.outlook.agreement < agreement


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_fed_hints", -1),
        ("prefill_chunk_rows", 0),
        ("max_buffered_hints", 0),
        ("max_patience_s", -1.0),
        ("goal_s_per_token", 0.0),
        ("fairness", 0.5),
        ("max_sessions", 0),
        ("run_ahead", 0),
        ("max_message_bytes", 100),
        ("lease_s", 0.0),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(SettingsError) as refused:
        EdgeSettings(**{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
