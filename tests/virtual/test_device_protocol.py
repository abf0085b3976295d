"""What a device says and does, message by message, when its edge is spoken by hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import weakref
from collections.abc import AsyncIterator, Sequence

import pytest

from cascade.device import Policy, ReconnectSettings, Stream
from cascade.errors import LinkClosed, LinkUnavailable, RefusedError
from cascade.events import Source
from cascade.links.base import Link
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import Close, Commit, Error, ErrorCode, Hello, Hint, Message, Open
from cascade.wire.text import HashedText

from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, Talker, device_for, greedy, read, welcome_device

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 40)
TEXT = [*PROMPT, *ANSWER]
LONG = len(PROMPT)


def commit(position: int, tokens: Sequence[int], *, generation: int = 1, num_hinted: int = 0) -> Commit:
    return Commit(
        alias=0, generation=generation, position=position, tokens=tuple(tokens), num_hinted=num_hinted
    )


@contextlib.asynccontextmanager
async def conversation(
    *, policy: Policy | None = None, count: int = 40, agreement: float = 1.0, run_ahead: int = 256
) -> AsyncIterator[tuple[Talker, Stream, asyncio.Task[list[int]]]]:
    """A device that has opened a stream at an edge spoken by hand; and its reader."""
    listener = MemoryListener()
    async with device_for(listener.dial, agreement=agreement) as device:
        stream = device.stream(PROMPT, max_new_tokens=count, policy=policy or Policy.cloud())
        assert isinstance(stream, Stream)

        async def read_ids() -> list[int]:
            return [token.id for token in await read(stream)]

        reader = asyncio.create_task(read_ids())
        edge = await welcome_device(listener, run_ahead=run_ahead)
        assert (await edge.hear(Open)).tokens == PROMPT
        try:
            yield edge, stream, reader
        finally:
            await edge.link.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


def of_kind(messages: Sequence[Message], kind: type[Message]) -> list[Message]:
    return [message for message in messages if isinstance(message, kind)]


@in_virtual_time
async def test_hello_open_and_first_hints_wait_for_nobody() -> None:
    listener = MemoryListener()
    async with device_for(listener.dial, agreement=1.0) as device:
        stream = device.stream(PROMPT, max_new_tokens=40, policy=Policy.hint_driven())
        edge = Talker(await listener.accept())
        heard = await edge.hear_all(for_s=0.1)
        assert [type(message) for message in heard[:3]] == [Hello, Open, Hint]
        first = heard[2]
        assert isinstance(first, Hint)
        assert first.position == LONG
        assert first.prefix_hash == HashedText(PROMPT).hash_before(LONG)
        assert first.tokens == tuple(ANSWER[: len(first.tokens)])
        stream.cancel()


@in_virtual_time
async def test_commits_of_another_generation_are_dropped() -> None:
    """A stalled edge that wakes up, or a second one: its text is not ours."""
    async with conversation(count=4) as (edge, _stream, reader):
        await edge.say(commit(LONG, [60, 61, 62, 63], generation=0))
        await edge.say(commit(LONG, [60, 61, 62, 63], generation=2))
        await edge.say(commit(LONG, [1, 2]))
        await edge.say(Error(code=ErrorCode.UNKNOWN_SESSION, text="", alias=0, generation=1))
        opened = await edge.hear(Open)
        assert opened.generation == 2
        assert opened.tokens == (*PROMPT, 1, 2)
        await edge.say(commit(LONG + 2, [60, 61], generation=1))  # from before
        await edge.say(commit(LONG + 2, [3, 4], generation=2))
        assert await reader == [1, 2, 3, 4]


@in_virtual_time
async def test_doubled_and_overlapping_commits_are_delivered_once() -> None:
    async with conversation(count=6) as (edge, stream, reader):
        await edge.say(commit(LONG, [1, 2]), commit(LONG, [1, 2]), commit(LONG, [1, 2, 3]))
        await edge.say(commit(LONG + 1, [2, 3]), commit(LONG, [1]), commit(LONG + 1, [2, 3, 4, 5, 6]))
        assert await reader == [1, 2, 3, 4, 5, 6]
        assert stream.summary.num_tokens == 6
        assert stream.summary.finish_reason == "length"


@in_virtual_time
async def test_a_gap_is_asked_for_and_nothing_behind_it_is_delivered() -> None:
    async with conversation(count=4) as (edge, stream, reader):
        await edge.say(commit(LONG, [1]), commit(LONG + 2, [3]))
        asked = await edge.hear(Hint)
        assert asked.known == LONG + 1
        assert asked.position > asked.known
        assert stream.tokens == [1]
        await edge.say(commit(LONG + 1, [2, 3, 4]))
        assert await reader == [1, 2, 3, 4]


@in_virtual_time
async def test_silence_is_asked_about_again_and_again() -> None:
    """And guesses are said again: they may be what was lost."""
    async with conversation(policy=Policy.ask_and_wait(4)) as (edge, _stream, _reader):
        await edge.say(commit(LONG, [], generation=1))
        heard = await edge.hear_all(for_s=5)
        hints = [message for message in heard if isinstance(message, Hint)]
        questions = [hint for hint in hints if not hint.tokens and hint.position > hint.known]
        guesses = [hint for hint in hints if hint.tokens]
        assert len(questions) >= 2
        assert len(guesses) >= 3
        assert {hint.tokens for hint in guesses} == {tuple(ANSWER[:4])}


@in_virtual_time
async def test_a_lost_hint_is_said_again() -> None:
    """The edge decides alone what was hinted long ago, so the hint never came: what follows is unusable."""
    async with conversation(policy=Policy.hint_driven()) as (edge, _stream, _reader):
        await edge.say(commit(LONG, []))
        first = await edge.hear(Hint)
        assert first.position == LONG
        heard: list[Message] = []
        for number in range(20):
            heard += await edge.hear_all(for_s=0.05)
            await edge.say(commit(LONG + number, ANSWER[number : number + 1]))
        repeated = {
            hint.position
            for hint in heard
            if isinstance(hint, Hint) and hint.tokens and hint.position == hint.known
        }
        assert repeated, "hints that begin at what is known, so that they stand alone"


@in_virtual_time
async def test_an_unknown_session_is_opened_again_with_all_its_tokens() -> None:
    async with conversation(count=4) as (edge, stream, reader):
        await edge.say(commit(LONG, [1, 2]))
        unknown = Error(code=ErrorCode.UNKNOWN_SESSION, text="open it again", alias=0, generation=1)
        await edge.say(unknown, unknown)
        opened = await edge.hear(Open)
        assert (opened.generation, opened.tokens) == (2, (*PROMPT, 1, 2))
        assert opened.prompt_length == LONG
        assert of_kind(await edge.hear_all(for_s=0.2), Open) == [], "the second says nothing new"
        await edge.say(commit(LONG + 2, [3, 4], generation=2))
        assert await reader == [1, 2, 3, 4]
        assert stream.summary.num_opens == 2


@in_virtual_time
async def test_a_refusal_reaches_the_app() -> None:
    async with conversation() as (edge, _stream, reader):
        await edge.say(commit(LONG, [1]))
        await edge.say(Error(code=ErrorCode.LIMIT, text="of the past", alias=0, generation=0))
        await edge.say(Error(code=ErrorCode.LIMIT, text="another stream", alias=5, generation=1))
        await edge.say(Error(code=ErrorCode.LIMIT, text="too long", alias=0, generation=1))
        with pytest.raises(RefusedError, match="too long") as refused:
            await reader
        assert refused.value.code == "limit"


@in_virtual_time
async def test_a_new_stream_hears_at_once_that_the_edge_is_full() -> None:
    async with conversation() as (edge, _stream, reader):
        await edge.say(
            Error(code=ErrorCode.OVERLOADED, text="full", alias=0, generation=1, retry_after_ms=1500)
        )
        with pytest.raises(RefusedError, match="full") as refused:
            await reader
        assert refused.value.code == "overloaded"
        assert refused.value.retry_after_s == 1.5


@in_virtual_time
async def test_a_text_in_progress_waits_for_room_as_long_as_the_edge_says() -> None:
    """And says nothing of its session meanwhile, for there is none."""
    async with conversation(policy=Policy.hint_driven()) as (edge, _stream, reader):
        loop = asyncio.get_running_loop()
        await edge.say(commit(LONG, ANSWER[:2]))
        for generation in (1, 2):
            await edge.hear_all(for_s=0.001)  # the drafter is at work, and has more to say soon
            await edge.say(
                Error(
                    code=ErrorCode.OVERLOADED,
                    text="full",
                    alias=0,
                    generation=generation,
                    retry_after_ms=3000,
                )
            )
            await edge.say(Error(code=ErrorCode.UNKNOWN_SESSION, text="", alias=0, generation=generation))
            refused_s = loop.time()
            assert await edge.hear_all(for_s=2.9) == []
            opened = await edge.hear(Open)
            assert loop.time() - refused_s == pytest.approx(3.0)
            assert (opened.generation, opened.tokens) == (generation + 1, (*PROMPT, *ANSWER[:2]))
        await edge.say(commit(LONG + 2, ANSWER[2:], generation=3))
        assert await reader == ANSWER


@in_virtual_time
async def test_a_full_edge_that_serves_none_of_us_is_left_for_the_next() -> None:
    first, second = MemoryListener("first"), MemoryListener("second")
    async with device_for(first.dial, second.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud())
        full = await welcome_device(first)
        await full.hear(Open)
        await full.say(
            Error(code=ErrorCode.OVERLOADED, text="full", alias=0, generation=1, retry_after_ms=60000)
        )
        edge = await welcome_device(second)
        opened = await edge.hear(Open)
        await edge.say(commit(LONG, [1, 2], generation=opened.generation))
        assert [token.id for token in await read(stream)] == [1, 2]
        assert asyncio.get_running_loop().time() < 2
        await edge.link.close()


@in_virtual_time
async def test_where_all_edges_are_full_the_app_hears_it() -> None:
    first, second = MemoryListener("first"), MemoryListener("second")
    async with device_for(first.dial, second.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud())
        for number, listener in enumerate((first, second)):
            full = await welcome_device(listener)
            await full.hear(Open)
            await full.say(Error(code=ErrorCode.OVERLOADED, text="full", alias=0, generation=number + 1))
        with pytest.raises(RefusedError, match="full"):
            await read(stream)


@in_virtual_time
async def test_an_edge_that_serves_others_of_our_streams_is_not_left() -> None:
    first, second = MemoryListener("first"), MemoryListener("second")
    async with device_for(first.dial, second.dial) as device:
        streams = [device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud()) for _ in range(2)]
        readers = [asyncio.create_task(read(stream)) for stream in streams]
        edge = await welcome_device(first)
        for _ in range(2):
            await edge.hear(Open)
        await edge.say(commit(LONG, [1]))
        await edge.say(
            Error(code=ErrorCode.OVERLOADED, text="full", alias=1, generation=2, retry_after_ms=2000)
        )
        again = await edge.hear(Open)
        assert (again.alias, again.generation) == (1, 3)
        await edge.say(commit(LONG + 1, [2]))
        await edge.say(Commit(alias=1, generation=3, position=LONG, tokens=(1, 2)))
        for reader in readers:
            assert [token.id for token in await reader] == [1, 2]
        await edge.link.close()


@in_virtual_time
async def test_messages_that_an_edge_cannot_use_are_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = MemoryListener()
    async with device_for(listener.dial) as device:
        edge = await welcome_device(listener)
        await edge.say(Error(code=ErrorCode.BAD_MESSAGE, text="field 4 is missing"))
        await asyncio.sleep(0.1)
        assert device.num_complaints == 1
        assert "field 4 is missing" in caplog.text
        await edge.link.close()


@in_virtual_time
async def test_what_cannot_be_read_is_passed_over() -> None:
    async with conversation(count=2) as (edge, _stream, reader):
        await edge.link.send(b"\xff\x00garbage")
        await edge.link.send(b"")
        await edge.say(Close(alias=0, generation=1, known=0))  # not for a device
        await edge.say(commit(LONG, [1, 2]))
        assert await reader == [1, 2]


@in_virtual_time
async def test_the_end_is_said() -> None:
    async with conversation(count=2) as (edge, _stream, reader):
        await edge.say(commit(LONG, [1, 2]))
        assert await reader == [1, 2]
        closed = await edge.hear_all(for_s=10)
        assert closed == [Close(alias=0, generation=1, known=LONG + 2)] * 3, "one may be lost"


@pytest.mark.parametrize("run_ahead", [1, 2, 16, 256])
@in_virtual_time
async def test_commits_are_acknowledged_at_half_the_run_ahead(run_ahead: int) -> None:
    async with conversation(count=300, run_ahead=run_ahead) as (edge, _stream, _reader):
        known = [LONG]
        for position in range(LONG, LONG + 260):
            await edge.say(commit(position, [1]))
            for message in await edge.hear_all(for_s=0.01):
                assert isinstance(message, Hint)
                assert not message.tokens
                known.append(message.known)
        gaps = {later - earlier for earlier, later in itertools.pairwise(known)}
        assert gaps == {max(1, run_ahead // 2)}


@in_virtual_time
async def test_hints_carry_the_acknowledgement() -> None:
    async with conversation(policy=Policy.hint_driven(), run_ahead=4) as (edge, _stream, _reader):
        for number in range(20):
            await edge.say(commit(LONG + number, ANSWER[number : number + 1]))
            await asyncio.sleep(0.05)
        hints = [message for message in await edge.hear_all(for_s=0) if isinstance(message, Hint)]
        assert max(hint.known for hint in hints) >= LONG + 18


@in_virtual_time
async def test_a_correction_drops_what_was_guessed_behind_it() -> None:
    async with conversation(policy=Policy.hint_driven()) as (edge, _stream, _reader):
        await edge.hear_all(for_s=0.1)
        wrong = (ANSWER[0] + 1) % VOCAB_SIZE
        await edge.say(commit(LONG, [wrong]))
        corrected = [*PROMPT, wrong]
        expected = greedy(TARGET, corrected, 30)
        heard = [m for m in await edge.hear_all(for_s=0.5) if isinstance(m, Hint) and m.tokens]
        assert heard[0].position == LONG + 1
        assert heard[0].prefix_hash == HashedText(corrected).hash_before(LONG + 1)
        guesses: list[int] = []
        for message in heard:
            start = message.position - LONG - 1
            guesses[start:] = message.tokens
        assert guesses == expected[: len(guesses)]
        assert len(guesses) > 5


@in_virtual_time
async def test_tokens_say_who_was_first() -> None:
    listener = MemoryListener()
    async with device_for(listener.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=4)
        edge = await welcome_device(listener)
        await edge.hear(Open)
        await edge.say(commit(LONG, [1, 2, 3], num_hinted=2), commit(LONG + 3, [4]))
        tokens = await read(stream)
        sources = [token.source for token in tokens]
        assert sources == [Source.HINTED, Source.HINTED, Source.DRIVEN, Source.DRIVEN]
        assert [token.position for token in tokens] == [3, 4, 5, 6]
        assert stream.summary.num_hinted == 2
        await edge.link.close()


@in_virtual_time
async def test_a_hello_without_answer_is_said_again() -> None:
    listener = MemoryListener()
    async with device_for(listener.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud())
        edge = Talker(await listener.accept())
        heard = await edge.hear_all(for_s=5)
        assert len(of_kind(heard, Hello)) >= 2
        assert len(of_kind(heard, Open)) >= 2
        stream.cancel()


@in_virtual_time
async def test_a_link_that_fell_silent_is_left_for_the_next_edge() -> None:
    first, second = MemoryListener("first"), MemoryListener("second")
    reconnect = ReconnectSettings(silent_s=2.0)
    async with device_for(first.dial, second.dial, reconnect=reconnect) as device:
        stream = device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud())
        dead = await welcome_device(first)
        await dead.say(commit(LONG, [1]))
        edge = await welcome_device(second)
        assert (await edge.hear(Open)).tokens == (*PROMPT, 1)
        await edge.say(commit(LONG + 1, [2], generation=2))
        assert [token.id for token in await read(stream)] == [1, 2]
        await edge.hear(Close)
        with pytest.raises(LinkClosed):
            await dead.hear(Close, within_s=1)


@in_virtual_time
async def test_a_link_that_broke_is_dialled_again_first() -> None:
    first, second = MemoryListener("first"), MemoryListener("second")
    async with device_for(first.dial, second.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=2, policy=Policy.cloud())
        edge = await welcome_device(first)
        await edge.say(commit(LONG, [1]))
        await asyncio.sleep(5)
        await edge.link.close()
        edge = await welcome_device(first)
        opened = await edge.hear(Open)
        assert opened.tokens == (*PROMPT, 1)
        await edge.say(commit(LONG + 1, [2], generation=opened.generation))
        assert [token.id for token in await read(stream)] == [1, 2]
        await edge.link.close()


@in_virtual_time
async def test_a_device_dials_until_somebody_listens_and_never_in_a_frenzy() -> None:
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    dialled_s: list[float] = []

    async def dial() -> Link:
        dialled_s.append(loop.time())
        if loop.time() < 30:
            raise LinkUnavailable("not yet")
        return await listener.dial()

    async with device_for(dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=1, policy=Policy.cloud())
        edge = await welcome_device(listener)
        await edge.say(commit(LONG, [1]))
        assert [token.id for token in await read(stream)] == [1]
        assert 30 <= loop.time() < 31
        assert 60 <= len(dialled_s) < 300  # every 0.25 s on average
        await edge.link.close()


@in_virtual_time
async def test_streams_are_heard_in_turn() -> None:
    """After a link that broke all have much to say."""
    listener = MemoryListener()
    async with device_for(listener.dial, agreement=1.0) as device:
        streams = [device.stream(PROMPT, max_new_tokens=40, policy=Policy.hint_driven()) for _ in range(3)]
        edge = await welcome_device(listener)
        await edge.hear_all(for_s=1)
        await edge.link.close()
        edge = Talker(await listener.accept())
        heard = await edge.hear_all(for_s=0.001)
        assert [(type(message), message.alias) for message in heard if isinstance(message, Open | Hint)] == [
            (kind, alias) for kind in (Open, Hint) for alias in range(3)
        ]
        for stream in streams:
            stream.cancel()


@in_virtual_time
async def test_an_edge_that_welcomes_and_hangs_up_is_not_dialled_in_a_frenzy() -> None:
    listener = MemoryListener()
    num_dialled = 0
    async with device_for(listener.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=1, policy=Policy.cloud())

        async def rude_edge() -> None:
            nonlocal num_dialled
            while True:
                edge = await welcome_device(listener)
                num_dialled += 1
                await asyncio.sleep(0.001)
                await edge.link.close()

        rude = asyncio.create_task(rude_edge())
        await asyncio.sleep(10)
        rude.cancel()
        await asyncio.gather(rude, return_exceptions=True)
        stream.cancel()
    assert num_dialled < 200


@in_virtual_time
async def test_goodbyes_end_with_the_link_on_which_the_stream_was() -> None:
    """On the next one its alias may be another's."""
    listener = MemoryListener()
    async with device_for(listener.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=1, policy=Policy.cloud())
        edge = await welcome_device(listener)
        await edge.say(commit(LONG, [1]))
        await read(stream)
        await edge.hear(Close)
        await edge.link.close()
        edge = await welcome_device(listener)
        again = device.stream(PROMPT, max_new_tokens=1, policy=Policy.cloud())
        assert isinstance(stream, Stream)
        assert isinstance(again, Stream)
        assert again.alias == stream.alias
        heard = await edge.hear_all(for_s=0.9)
        assert [type(message) for message in heard] == [Open]
        again.cancel()
        await edge.link.close()


@in_virtual_time
async def test_a_stream_that_ended_while_offline_is_closed_and_then_forgotten() -> None:
    listener = MemoryListener()
    async with device_for(listener.dial, agreement=1.0) as device:
        stream = device.stream(PROMPT, max_new_tokens=20, policy=Policy.hint_driven())
        edge = await welcome_device(listener)
        await edge.hear(Open)
        await edge.link.close()
        listener_down = await listener.accept()  # dialled again; nobody answers
        stream.cancel()
        await listener_down.close()
        edge = await welcome_device(listener)
        heard = await edge.hear_all(for_s=60)
        assert of_kind(heard, Open) == []
        assert of_kind(heard, Hint) == []
        again = device.stream(PROMPT, max_new_tokens=1)
        assert isinstance(again, Stream)
        assert again.alias == 0
        gone = weakref.ref(stream)
        del stream, again
        await edge.link.close()
        gc.collect()
        assert gone() is None, "no timer holds it"
