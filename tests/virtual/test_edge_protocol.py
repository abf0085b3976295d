"""What an edge answers, message by message, to a device that is spoken by hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest

from cascade.edge import Quota, State
from cascade.errors import LinkClosed, ModelError
from cascade.models.base import Feed
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import (
    Close,
    Commit,
    Error,
    ErrorCode,
    Ping,
    Pong,
    Welcome,
)

from ..helpers import in_virtual_time
from .peers import (
    PASS_S,
    PROMPT,
    VOCAB_SIZE,
    Talker,
    edge_for,
    greedy,
    greeting,
    hint,
    opening,
    talk_to,
)

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 40)
TEXT = [*PROMPT, *ANSWER]
LONG = len(PROMPT)
"""The position of the first token of the answer."""


# HELLO


@pytest.mark.parametrize(
    ("fields", "code", "names"),
    [
        ({"version": 99}, ErrorCode.VERSION, "99"),
        ({"token": "wrong"}, ErrorCode.UNAUTHORIZED, "token"),
        ({"identity": "stranger"}, ErrorCode.UNAUTHORIZED, "identity"),
        ({"vocab_fingerprint": "other"}, ErrorCode.VOCABULARY, "vocabulary"),
        ({"vocab_size": 65}, ErrorCode.VOCABULARY, "vocabulary"),
        ({"model": "another"}, ErrorCode.MODEL, "another"),
    ],
)
@in_virtual_time
async def test_a_hello_is_refused(fields: dict[str, Any], code: ErrorCode, names: str) -> None:
    listener = MemoryListener()
    async with edge_for(listener, authenticate=lambda who, token: (who, token) == ("phone", "secret")):
        talker = Talker(await listener.dial(""))  # a link that does not know who dials
        await talker.say(greeting(**({"identity": "phone", "token": "secret"} | fields)))
        error = await talker.hear(Error)
        assert error.code is code
        assert names in error.text
        with pytest.raises(LinkClosed):
            await talker.link.receive()


@pytest.mark.parametrize("quota", [2, 64])
@in_virtual_time
async def test_the_welcome_says_the_limits(quota: int) -> None:
    """Of this device's sessions, that is: whichever limit is reached first."""
    listener = MemoryListener()
    own = Quota(max_sessions=quota)
    async with edge_for(listener, quota=own, max_sessions=3, run_ahead=17, max_message_bytes=1 << 15):
        talker = Talker(await listener.dial())
        await talker.say(greeting(model=TARGET.numerics))
        welcome = await talker.hear(Welcome)
        assert welcome.numerics == TARGET.numerics
        assert welcome.limits.max_sessions == min(quota, 3)
        assert welcome.limits.run_ahead == 17
        assert welcome.limits.context_length == TARGET.context_length
        assert welcome.limits.max_message_bytes == 1 << 15
        await talker.link.close()


@in_virtual_time
async def test_a_link_that_knows_its_peer_is_believed_rather_than_the_hello() -> None:
    listener = MemoryListener()
    asked: list[str] = []

    def authenticate(identity: str, token: str) -> bool:
        asked.append(identity)
        return True

    async with edge_for(listener, authenticate=authenticate):
        talker = Talker(await listener.dial("account-7"))
        await talker.say(greeting(identity="somebody else"))
        await talker.hear(Welcome)
        assert asked == ["account-7"]
        await talker.link.close()


@in_virtual_time
async def test_before_hello_nothing_counts() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge:
        talker = Talker(await listener.dial())
        await talker.say(opening())
        assert await talker.hear_all(for_s=1) == []
        assert edge.num_sessions == 0
        await talker.link.close()


# OPEN


@in_virtual_time
async def test_an_open_is_answered_at_once_then_with_the_targets_text() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        loop = asyncio.get_running_loop()
        await talker.say(opening())
        opened_s = loop.time()
        answer = await talker.hear(Commit)
        assert loop.time() == opened_s
        assert (answer.position, answer.tokens) == (LONG, ())
        assert await talker.hear_text(40) == ANSWER
        assert loop.time() - opened_s == pytest.approx(40 * PASS_S)
        assert edge.engine.stats.num_passes == 40


@in_virtual_time
async def test_a_text_ends_at_the_contexts_end() -> None:
    listener = MemoryListener()
    target = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=10)
    async with edge_for(listener, target=target) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        assert await talker.hear_text(7) == greedy(target, PROMPT, 7)
        assert await talker.hear_all(for_s=1) == []
        assert edge.engine.stats.num_passes == 7


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tokens": (1,) * 10, "prompt_length": 10}, ErrorCode.CONTEXT),
        ({"tokens": (), "prompt_length": 0}, ErrorCode.BAD_MESSAGE),
        ({"prompt_length": 0}, ErrorCode.BAD_MESSAGE),
        ({"tokens": (*PROMPT, 1, 2, 3), "max_new_tokens": 2}, ErrorCode.LIMIT),
        ({"temperature": 1e-9}, ErrorCode.BAD_MESSAGE),
    ],
)
@in_virtual_time
async def test_an_impossible_open_is_refused(fields: dict[str, Any], code: ErrorCode) -> None:
    listener = MemoryListener()
    target = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=10)
    async with edge_for(listener, target=target) as edge, talk_to(listener) as talker:
        await talker.say(opening(alias=4, generation=9, **fields))
        error = await talker.hear(Error)
        assert (error.code, error.alias, error.generation) == (code, 4, 9)
        assert edge.num_sessions == 0


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"temperature": 0.5},
        {"top_k": 3},
        {"max_new_tokens": 41},
        {"stop_ids": (1,)},
        {"tokens": (5, 6, 8)},
        {"prompt_length": 2},
    ],
)
@in_virtual_time
async def test_other_settings_are_refused_and_the_session_goes_on(other: dict[str, Any]) -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening())
        assert await talker.hear_text(3) == ANSWER[:3]
        await talker.say(opening(generation=2, **other))
        assert (await talker.hear(Error)).code is ErrorCode.SETTINGS_DIFFER
        assert await talker.hear_text(30, start=(await talker.hear(Commit)).position + 1)


@in_virtual_time
async def test_too_many_sessions_are_refused_for_now() -> None:
    listener = MemoryListener()
    async with edge_for(listener, max_sessions=2) as edge, talk_to(listener) as talker:
        for number in range(3):
            await talker.say(opening(session=b"%d" % number, alias=number, generation=number + 1))
        error = await talker.hear(Error)
        assert (error.code, error.alias) == (ErrorCode.OVERLOADED, 2)
        assert error.retry_after_ms is not None
        assert error.retry_after_ms > 0
        await talker.say(Close(alias=0, generation=1, known=LONG))
        await talker.say(opening(session=b"2", alias=2, generation=4))
        await asyncio.sleep(PASS_S)
        assert edge.num_sessions == 2
        heard = await talker.hear_all(for_s=1)
        assert not [message for message in heard if isinstance(message, Error)]
        assert {message.alias for message in heard if isinstance(message, Commit)} >= {1, 2}


@in_virtual_time
async def test_a_duplicate_open_is_answered_again_and_changes_nothing() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(), opening())
        await asyncio.sleep(5.5 * PASS_S)
        await talker.say(opening())
        assert await talker.hear_text(40) == ANSWER
        assert edge.engine.stats.num_passes == 40


@in_virtual_time
async def test_texts_that_wait_are_counted_until_their_first_token() -> None:
    listener = MemoryListener()
    quota = Quota(max_queued_bytes=20)
    async with edge_for(listener, quota=quota) as edge, talk_to(listener) as talker:
        for number in range(2):
            await talker.say(opening(session=b"%d" % number, alias=number))
        error = await talker.hear(Error)
        assert (error.code, error.alias) == (ErrorCode.LIMIT, 1)
        assert "wait already" in error.text
        await talker.hear_text(1)
        await talker.say(opening(session=b"2", alias=2))
        await asyncio.sleep(PASS_S)
        assert edge.num_sessions == 2


@in_virtual_time
async def test_the_same_open_again_is_answered_again() -> None:
    """Our answer may be lost."""
    listener = MemoryListener()
    async with edge_for(listener, run_ahead=1), talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_text(1)
        await talker.hear_all(for_s=1)
        await talker.say(opening())
        answer = await talker.hear(Commit)
        assert (answer.generation, answer.position, answer.tokens) == (1, LONG + 1, ())


@in_virtual_time
async def test_an_overtaken_open_is_ignored() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening(generation=5), opening(generation=4))
        heard = await talker.hear_all(for_s=1)
        assert {message.generation for message in heard if isinstance(message, Commit)} == {5}
        assert not [message for message in heard if isinstance(message, Error)]


@in_virtual_time
async def test_open_again_resumes_where_the_device_is() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        assert await talker.hear_text(10) == ANSWER[:10]
        await talker.say(opening(generation=2, tokens=tuple(TEXT[: LONG + 4])))
        commit = await talker.hear(Commit)
        while commit.generation == 1:
            commit = await talker.hear(Commit)
        assert commit.position == LONG + 4
        assert list(commit.tokens) == TEXT[LONG + 4 : LONG + 4 + len(commit.tokens)]
        rest = await talker.hear_text(36 - len(commit.tokens), start=commit.position + len(commit.tokens))
        assert rest == ANSWER[4 + len(commit.tokens) :]
        assert edge.engine.stats.num_passes == 40, "what was decided is not decided again"


@pytest.mark.parametrize("length", [0, 1, 17, 39])
@in_virtual_time
async def test_an_edge_that_never_saw_the_session_goes_on_from_any_prefix(length: int) -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(generation=7, tokens=tuple(TEXT[: LONG + length])))
        first = await talker.hear(Commit)
        assert (first.position, first.tokens) == (LONG + length, ())
        assert await talker.hear_text(40 - length, start=LONG + length) == ANSWER[length:]
        await asyncio.sleep(1)
        assert edge.engine.stats.num_passes == 40 - length


@in_virtual_time
async def test_what_another_edge_went_on_with_is_the_text() -> None:
    """The prefix of a newer OPEN wins over our own, as far as the device has it (this one is made up)."""
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening())
        assert await talker.hear_text(10) == ANSWER[:10]
        other = [*TEXT[: LONG + 4], (TEXT[LONG + 4] + 1) % VOCAB_SIZE, 9, 9]
        await talker.say(opening(generation=2, tokens=tuple(other)))
        commit = await talker.hear(Commit)
        while commit.generation == 1:
            commit = await talker.hear(Commit)
        assert commit.position == len(other)
        text = await talker.hear_text(20, start=len(other))
        assert text == greedy(TARGET, other, 20)


@in_virtual_time
async def test_a_text_rewritten_in_mid_pass_is_not_spoilt_by_that_pass() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening())
        await asyncio.sleep(4.5 * PASS_S)  # the fifth pass is on its way
        other = [*TEXT[: LONG + 2], (TEXT[LONG + 2] + 1) % VOCAB_SIZE, 9]
        await talker.say(opening(generation=2, tokens=tuple(other)))
        commit = await talker.hear(Commit)
        while commit.generation == 1:
            commit = await talker.hear(Commit)
        assert await talker.hear_text(20, start=len(other)) == greedy(TARGET, other, 20)


# CLOSE, tombstones, leases


@in_virtual_time
async def test_a_late_duplicate_open_does_not_revive_a_closed_session() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(generation=3))
        await talker.hear_text(2)
        await talker.say(Close(alias=0, generation=3, known=LONG + 2))
        await asyncio.sleep(PASS_S)
        assert edge.num_sessions == 0
        await talker.hear_all(for_s=0.1)
        num_passes = edge.engine.stats.num_passes
        for generation in (2, 3, 4):
            await talker.say(opening(generation=generation))
        heard = await talker.hear_all(for_s=5)
        assert edge.num_sessions == 0
        assert edge.engine.stats.num_passes == num_passes
        assert all(isinstance(message, Error) and message.code is ErrorCode.CLOSED for message in heard)


@in_virtual_time
async def test_a_late_close_does_not_end_a_newer_session() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(generation=3), Close(alias=0, generation=2, known=LONG))
        assert await talker.hear_text(40) == ANSWER
        assert edge.num_sessions == 1


@in_virtual_time
async def test_tombstones_are_forgotten() -> None:
    listener = MemoryListener()
    async with edge_for(listener, lease_s=4) as edge, talk_to(listener) as talker:
        await talker.say(opening(), Close(alias=0, generation=1, known=LONG))
        await asyncio.sleep(10)
        await talker.say(opening())
        assert await talker.hear_text(5) == ANSWER[:5]
        assert edge.num_sessions == 1


@in_virtual_time
async def test_a_tombstone_stays_for_a_lease() -> None:
    listener = MemoryListener()
    async with edge_for(listener, lease_s=4), talk_to(listener) as talker:
        await talker.say(opening(), Close(alias=0, generation=1, known=LONG))
        await asyncio.sleep(6)
        await talker.hear_all(for_s=0)
        await talker.say(opening())
        assert (await talker.hear(Error)).code is ErrorCode.CLOSED


@in_virtual_time
async def test_tombstones_are_bounded() -> None:
    """Whoever opens and closes for ever loses the oldest of them early."""
    listener = MemoryListener()
    async with edge_for(listener, max_sessions=2), talk_to(listener) as talker:
        for number in range(12):
            await talker.say(
                opening(session=b"%d" % number, alias=number), Close(alias=number, generation=1, known=LONG)
            )
        await talker.hear_all(for_s=1)
        await talker.say(opening(session=b"11", alias=11, generation=2))
        assert (await talker.hear(Error)).code is ErrorCode.CLOSED
        await talker.say(opening(session=b"0", alias=0, generation=2))
        assert await talker.hear_text(5) == ANSWER[:5]


@in_virtual_time
async def test_a_tombstone_that_is_forgotten_does_not_take_its_alias_along() -> None:
    listener = MemoryListener()
    async with edge_for(listener, lease_s=4, run_ahead=8), talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_text(2)
        await talker.say(opening(session=b"next", generation=2))
        for _ in range(12):
            await asyncio.sleep(1)
            await talker.say(hint(PROMPT, known=LONG, generation=2))
        assert not [message for message in await talker.hear_all(for_s=1) if isinstance(message, Error)]


@in_virtual_time
async def test_a_silent_device_loses_its_lease_and_comes_back() -> None:
    listener = MemoryListener()
    async with edge_for(listener, lease_s=4, run_ahead=8) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        assert await talker.hear_text(8) == ANSWER[:8]
        await asyncio.sleep(3)
        assert edge.num_sessions == 1
        await asyncio.sleep(3)
        assert edge.num_sessions == 0
        await talker.say(hint(TEXT[: LONG + 8], known=LONG + 8))
        error = await talker.hear(Error)
        assert (error.code, error.alias) == (ErrorCode.UNKNOWN_SESSION, 0)
        await talker.say(opening(generation=2, tokens=tuple(TEXT[: LONG + 8])))
        assert await talker.hear_text(8, start=LONG + 8) == ANSWER[8:16]


@in_virtual_time
async def test_an_alias_can_be_given_to_the_next_session() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_text(2)
        await talker.say(opening(session=b"next", generation=2, tokens=(9, 9), prompt_length=2))
        commit = await talker.hear(Commit)
        while commit.generation == 1:
            commit = await talker.hear(Commit)
        assert await talker.hear_text(40, start=2) == greedy(TARGET, (9, 9), 40)
        assert edge.num_sessions == 1
        await talker.say(opening())  # a late duplicate of the first
        assert not [m for m in await talker.hear_all(for_s=1) if isinstance(m, Commit)]


# HINT


@in_virtual_time
async def test_hints_of_an_unknown_session_are_answered() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(hint(PROMPT, [1], known=LONG, alias=9, generation=6))
        error = await talker.hear(Error)
        assert (error.code, error.alias, error.generation) == (ErrorCode.UNKNOWN_SESSION, 9, 6)
        await talker.say(opening(), hint(PROMPT, ANSWER[:2], known=LONG, generation=2))
        error = await talker.hear(Error)  # its OPEN was lost
        assert (error.code, error.alias, error.generation) == (ErrorCode.UNKNOWN_SESSION, 0, 2)


@in_virtual_time
async def test_agreed_hints_save_passes() -> None:
    listener = MemoryListener()
    async with edge_for(listener, max_fed_hints=4) as edge, talk_to(listener) as talker:
        await talker.say(opening(), hint(PROMPT, ANSWER[:39], known=LONG))
        assert await talker.hear_text(40) == ANSWER
        assert edge.engine.stats.num_passes == 8
        assert edge.engine.stats.num_rows == LONG + 39


@pytest.mark.parametrize("wrong_at", [0, 1, 3])
@in_virtual_time
async def test_a_wrong_hint_is_never_committed(wrong_at: int) -> None:
    listener = MemoryListener()
    guesses = ANSWER[:6]
    guesses[wrong_at] = (guesses[wrong_at] + 1) % VOCAB_SIZE
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(), hint(PROMPT, guesses, known=LONG))
        await talker.hear(Commit)
        first = await talker.hear(Commit)
        assert list(first.tokens) == ANSWER[: wrong_at + 1]
        assert first.num_hinted == wrong_at
        rest = await talker.hear_text(39 - wrong_at, start=LONG + wrong_at + 1)
        assert [*first.tokens, *rest] == ANSWER
        assert edge.engine.stats.num_passes == 40 - wrong_at


@in_virtual_time
async def test_hints_of_an_older_generation_are_ignored() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(generation=2, patience_s=1000))
        await talker.hear_text(1)
        await talker.say(hint(TEXT[: LONG + 1], ANSWER[1:9], known=LONG + 1, generation=1))
        assert await talker.hear_all(for_s=5) == []
        assert edge.engine.stats.num_passes == 1


@in_virtual_time
async def test_hints_over_a_link_that_was_left_are_ignored() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as old, talk_to(listener) as new:
        await old.say(opening(patience_s=1000))
        await old.hear_text(1)
        await new.say(opening(generation=2, patience_s=1000, tokens=tuple(TEXT[: LONG + 1])))
        await new.hear_text(1, start=LONG + 1)
        await old.say(hint(TEXT[: LONG + 2], ANSWER[2:9], known=LONG + 2, generation=2))
        assert await new.hear_all(for_s=5) == []
        assert [type(message) for message in await old.hear_all(for_s=1)] == [Error]  # unknown on that link
        assert edge.engine.stats.num_passes == 2


@in_virtual_time
async def test_patience_waits_for_hints_and_no_longer() -> None:
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(patience_s=0.5))
        assert await talker.hear_text(1) == ANSWER[:1]  # a sign of life, at once
        began_s = loop.time()
        assert await talker.hear_text(1, start=LONG + 1) == ANSWER[1:2]
        assert loop.time() - began_s == pytest.approx(0.5 + PASS_S)
        began_s = loop.time()
        await talker.say(hint(TEXT[: LONG + 2], ANSWER[2:7], known=LONG + 2))
        assert await talker.hear_text(6, start=LONG + 2) == ANSWER[2:8]
        assert loop.time() - began_s == pytest.approx(PASS_S)
        assert edge.engine.stats.num_passes == 3


@in_virtual_time
async def test_an_edge_that_waits_for_hints_is_well() -> None:
    listener = MemoryListener()
    async with edge_for(listener, max_wait_s=0.5) as edge, talk_to(listener) as talker:
        await talker.say(opening(patience_s=1000))
        await talker.hear_text(1)
        for _ in range(5):
            await asyncio.sleep(1)
            assert edge.health().state is State.OK


@in_virtual_time
async def test_a_new_wish_for_patience_counts_at_once() -> None:
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    async with edge_for(listener, max_patience_s=0.7) as edge, talk_to(listener) as talker:
        await talker.say(opening(patience_s=60.0))
        await talker.hear_text(1)
        await talker.say(hint(TEXT[: LONG + 1], known=LONG + 1, patience_ms=0))
        began_s = loop.time()
        assert await talker.hear_text(3, start=LONG + 1) == ANSWER[1:4]
        assert loop.time() - began_s == pytest.approx(3 * PASS_S)
        await talker.say(hint(TEXT[: LONG + 4], known=LONG + 4, patience_ms=90_000))  # cut to 0.7 s
        await talker.hear_text(1, start=LONG + 4)  # of the pass that was running
        began_s = loop.time()
        await talker.hear_text(1, start=LONG + 5)
        assert loop.time() - began_s == pytest.approx(0.7 + PASS_S)
        assert edge.engine.stats.num_passes == 6


@in_virtual_time
async def test_nobody_waits_for_hints_to_the_last_token() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening(patience_s=1000, max_new_tokens=8), hint(PROMPT, ANSWER[:6], known=LONG))
        assert await talker.hear_text(8) == ANSWER[:8]
        assert edge.engine.stats.num_passes == 2


@in_virtual_time
async def test_patience_is_cut_to_what_the_edge_allows() -> None:
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    async with edge_for(listener, max_patience_s=0.1), talk_to(listener) as talker:
        await talker.say(opening(patience_s=1000))
        await talker.hear_text(5)
        assert loop.time() == pytest.approx(5 * PASS_S + 4 * 0.1)


@in_virtual_time
async def test_the_edge_runs_ahead_only_so_far() -> None:
    listener = MemoryListener()
    async with edge_for(listener, run_ahead=8) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        await asyncio.sleep(2)
        assert edge.engine.stats.num_passes == 8
        await talker.say(hint(TEXT[: LONG + 3], known=LONG + 3))  # acknowledges three
        await asyncio.sleep(2)
        assert edge.engine.stats.num_passes == 11
        await talker.say(hint([*TEXT, 1, 1], known=len(TEXT) + 2))  # knows more than there is: a lie
        await asyncio.sleep(2)
        assert edge.engine.stats.num_passes == 11


@in_virtual_time
async def test_a_gap_is_repeated_and_so_are_tails_for_a_while() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_text(10)
        await talker.say(hint(TEXT[: LONG + 10], known=LONG + 4))  # 4 to 9 are missing
        commit = await talker.hear(Commit)
        while commit.position > LONG + 4:
            commit = await talker.hear(Commit)
        assert list(commit.tokens) == TEXT[LONG + 4 : LONG + 4 + len(commit.tokens)]
        assert len(commit.tokens) >= 6
        after = await talker.hear(Commit)
        assert after.position == LONG + 4, "not acknowledged, so said again"
        await talker.say(hint(TEXT[: after.position + len(after.tokens)], known=LONG + 11))
        await asyncio.sleep(3 * PASS_S)
        assert max(m.position for m in await talker.hear_all(for_s=5) if isinstance(m, Commit)) > LONG + 10
        assert edge.engine.stats.num_passes == 40


@in_virtual_time
async def test_the_prompt_is_never_repeated() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_all(for_s=2)
        await talker.say(hint(PROMPT, known=0, position=LONG))
        assert (await talker.hear(Commit)).position == LONG


@in_virtual_time
async def test_a_stamp_comes_back_with_the_time_it_was_held() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(opening())
        await talker.hear_text(2)
        await asyncio.sleep(PASS_S / 2)
        await talker.hear_all(for_s=0)
        await talker.say(hint(TEXT[: LONG + 2], known=LONG + 2, stamp_ms=4321))
        commit = await talker.hear(Commit)
        assert (commit.echo_ms, commit.held_ms, commit.step_ms) == (4321, 10, 20)
        assert (await talker.hear(Commit)).echo_ms is None


# Hostile or broken devices, and neighbours


@in_virtual_time
async def test_garbage_gets_an_error_and_hurts_nobody() -> None:
    dice = random.Random(5)
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener, "a") as victim:
        await victim.say(opening())
        for _ in range(5):  # again and again, for an edge that forgives little hangs up
            async with talk_to(listener, "b") as hostile:
                valid = hostile._codec.encode(opening())
                with contextlib.suppress(LinkClosed):
                    for _ in range(300):
                        is_near = dice.random() < 0.5
                        data = bytearray(valid if is_near else dice.randbytes(dice.randint(1, 60)))
                        data[dice.randrange(len(data))] = dice.randrange(256)
                        await hostile.link.send(bytes(data))
                        if dice.random() < 0.1:
                            await asyncio.sleep(0.001)
                assert (await hostile.hear(Error)).code is ErrorCode.BAD_MESSAGE
                last = (await hostile.hear_all(for_s=1))[-1]
                assert isinstance(last, Error)
                assert last.text == "too many unreadable messages; hanging up"
                with pytest.raises(LinkClosed):
                    await hostile.link.receive()
        assert edge.counters.cut["bad messages"] == 5
        assert await victim.hear_text(40) == ANSWER


@in_virtual_time
async def test_a_few_unreadable_messages_are_forgiven() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, talk_to(listener) as talker:
        for _ in range(100):
            await talker.link.send(b"?")
            await asyncio.sleep(1)
        await talker.say(Ping(nonce=7))
        assert (await talker.hear(Pong)).nonce == 7
        assert edge.counters.num_bad_messages == 100


@in_virtual_time
async def test_messages_for_a_device_are_refused() -> None:
    listener = MemoryListener()
    async with edge_for(listener), talk_to(listener) as talker:
        await talker.say(Commit(alias=0, generation=0, position=0, tokens=()))
        error = await talker.hear(Error)
        assert error.code is ErrorCode.BAD_MESSAGE
        assert "Commit" in error.text


@in_virtual_time
async def test_no_identity_reaches_anothers_session() -> None:
    """Same session id, same alias, same generation: the key is the identity with it."""
    listener = MemoryListener()
    async with edge_for(listener, run_ahead=8) as edge, talk_to(listener, "bob") as bob:
        await bob.say(opening())
        assert await bob.hear_text(8) == ANSWER[:8]
        async with talk_to(listener, "mallory") as mallory:
            await mallory.say(
                hint(TEXT[: LONG + 8], known=LONG + 8),
                Close(alias=0, generation=1, known=LONG),
            )
            assert (await mallory.hear(Error)).code is ErrorCode.UNKNOWN_SESSION
            # Were it Bob's session, this would be refused for its other settings, and so reveal him.
            await mallory.say(opening(generation=2, tokens=(1, 2), prompt_length=2))
            assert await mallory.hear_text(8, start=2) == greedy(TARGET, (1, 2), 8)
            await mallory.say(Close(alias=0, generation=2, known=2))
            await asyncio.sleep(1)
        assert edge.num_sessions == 1
        assert await bob.hear_all(for_s=1) == []
        await bob.say(hint(TEXT[: LONG + 8], known=LONG + 8))
        assert await bob.hear_text(8, start=LONG + 8) == ANSWER[8:16]


class FragileTarget(SyntheticTarget):
    """Fails on a token."""

    POISON = 13

    def __init__(self, error: Exception) -> None:
        super().__init__(vocab_size=VOCAB_SIZE)
        self.error = error

    def forward(self, feeds: Sequence[Feed]) -> Any:
        if any(self.POISON in feed.tokens[:3] and feed.sequence.length == 0 for feed in feeds):
            raise self.error
        return super().forward(feeds)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ModelError("no memory left for this cache"), "no memory left"),
        (RuntimeError("a secret of the inside"), "step"),
    ],
)
@in_virtual_time
async def test_a_failing_step_ends_only_the_sessions_in_it(error: Exception, says: str) -> None:
    listener = MemoryListener()
    async with edge_for(listener, target=FragileTarget(error)) as edge, talk_to(listener) as talker:
        await talker.say(opening(session=b"bystander", alias=1, patience_s=1000))
        await talker.hear_text(1)
        await talker.say(opening(session=b"poison", alias=2, generation=2, tokens=(13, 13, 13)))
        told = await talker.hear(Error)
        assert (told.code, told.alias, told.generation) == (ErrorCode.INTERNAL, 2, 2)
        assert says in told.text
        assert "secret" not in told.text
        assert edge.num_sessions == 1
        await talker.say(hint(TEXT[: LONG + 1], ANSWER[1:39], known=LONG + 1, alias=1))
        assert await talker.hear_text(39, start=LONG + 1) == ANSWER[1:]
        await talker.say(opening(session=b"new", alias=3, generation=3))
        assert await talker.hear_text(40) == ANSWER


@in_virtual_time
async def test_an_edge_that_leaves_hangs_up_and_leaves_no_task() -> None:
    listener = MemoryListener()
    async with edge_for(listener):
        talker = Talker(await listener.dial())
        await talker.say(greeting(), opening())
        await talker.hear_text(3)
    await talker.hear_all(for_s=1)  # what came before
    with pytest.raises(LinkClosed):
        await talker.link.receive()


@in_virtual_time
async def test_the_smallest_messages_allowed_carry_a_long_repeat() -> None:
    """A commit must fit the edge's own limit, whatever it has to repeat."""
    listener = MemoryListener()
    answer = greedy(TARGET, PROMPT, 1500)
    async with (
        edge_for(listener, run_ahead=2000, max_message_bytes=8192, pass_s=0.001),
        talk_to(listener) as talker,
    ):
        await talker.say(opening(max_new_tokens=1500))
        await asyncio.sleep(2)
        await talker.hear_all(for_s=1)
        await talker.say(hint(PROMPT, known=LONG, position=LONG + 1500))
        assert await talker.hear_text(1500) == answer
