"""A private stream stays on the device: a test that watches the link, and one that takes the link away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cascade.decoding import Sampling, pick
from cascade.device import AnswerStream, Device
from cascade.errors import ContextExceeded, LinkUnavailable, ModelError, SettingsError
from cascade.events import Source
from cascade.links.base import Link
from cascade.models.base import Feed, LanguageModel
from cascade.models.runner import constant_cost
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget

from ..helpers import in_virtual_time, tasks_left
from .peers import DRAFT_S, PROMPT, VOCAB_SIZE, ask, edge_for, greedy, read
from .test_sessions import FailingDraft
from .test_texts import Tracked, says, words

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
DRAFT = SyntheticDraft(TARGET, agreement=0.8)
ALONE = greedy(DRAFT, PROMPT, 60)


class Watched:
    """A link that remembers every byte that goes up."""

    def __init__(self, inner: Link, sent: list[bytes]) -> None:
        self._inner, self._sent, self.peer = inner, sent, inner.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        self._sent.append(data)
        await self._inner.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        return await self._inner.receive()

    async def close(self) -> None:
        await self._inner.close()


async def no_edge() -> Link:
    raise LinkUnavailable("there is none")


def device_with(draft: LanguageModel | None, *, dial: Any = no_edge, **options: Any) -> Device:
    runner = None if draft is None else PacedRunner(constant_cost(DRAFT_S))
    return Device([dial], draft=draft, runner=runner, seed=3, **options)


@in_virtual_time
async def test_not_a_byte_is_sent() -> None:
    listener = MemoryListener()
    sent: list[bytes] = []

    async def dial() -> Link:
        return Watched(await listener.dial(), sent)

    async with edge_for(listener) as edge, device_with(DRAFT, dial=dial) as device:
        await asyncio.sleep(1)
        assert len(sent) == 1, "HELLO, which the device says before it knows of any stream"
        streams = [device.stream(PROMPT, max_new_tokens=60, private=True) for _ in range(3)]
        answers = await asyncio.gather(*(read(stream) for stream in streams))
        cancelled = device.stream(PROMPT, max_new_tokens=60, private=True)
        await asyncio.sleep(3 * DRAFT_S)
        cancelled.cancel()
        await asyncio.sleep(60)
        assert len(sent) == 1
        assert (edge.engine.stats.num_passes, edge.num_sessions) == (0, 0)
        for tokens in answers:
            assert [token.id for token in tokens] == ALONE
        # The watcher sees what there is to see.
        assert await ask(device) == greedy(TARGET, PROMPT, 40)
        assert len(sent) > 5


@in_virtual_time
async def test_the_draft_alone_decides_without_any_edge() -> None:
    async with device_with(DRAFT) as device:
        stream = device.stream(PROMPT, max_new_tokens=60, private=True)
        tokens = await read(stream)
        assert [token.id for token in tokens] == stream.tokens == ALONE
        assert {token.source for token in tokens} == {Source.KEPT}
        assert [token.position for token in tokens] == list(range(len(PROMPT), len(PROMPT) + 60))
        summary = stream.summary
        assert (summary.num_kept, summary.num_opens, summary.bytes_up, summary.bytes_down) == (60, 0, 0, 0)
        assert summary.finish_reason == "length"
        assert summary.time_per_token_s == pytest.approx(DRAFT_S)
        assert summary.rtt_s is None
        assert summary.tokens_per_pass is None
        assert summary.estimated_cloud_s_per_token is None


@in_virtual_time
async def test_under_the_streams_own_noise() -> None:
    sampling = Sampling(temperature=1.0, seed=11)
    text, sequence = list(PROMPT), DRAFT.new_sequence()
    for _ in range(30):
        logits = DRAFT.forward([Feed(sequence, text[sequence.length :], 1)])
        text.append(pick(logits[0], sampling, len(text)))
    async with device_with(DRAFT) as device:
        answer = await device.generate(PROMPT, max_new_tokens=30, temperature=1.0, seed=11, private=True)
        assert list(answer.tokens) == text[len(PROMPT) :]


@in_virtual_time
async def test_text_stop_strings_and_chats_stay_too() -> None:
    text = words()
    first = text.chat([{"role": "user", "content": "Go"}])
    draft = Tracked(text, says(text, first, "one two STOP").script)
    async with device_with(draft, tokenizer=text) as device:
        messages = [{"role": "user", "content": "Go"}]
        assert (await device.generate(messages, max_new_tokens=50, private=True)).text == "one two STOP"
        stopped = await device.generate(messages, max_new_tokens=50, stop="STOP", private=True)
        assert (stopped.text, stopped.summary.finish_reason) == ("one two ", "stop")
        chat = device.chat(private=True)
        assert (await chat.generate("Go", max_new_tokens=50)).text == "one two STOP"
        assert (await chat.generate("On", max_new_tokens=4)).summary.num_kept == 4
        await asyncio.sleep(DRAFT_S)
        assert draft.num_held == 1, "the chat's"
    assert draft.num_held == 0


@pytest.mark.parametrize("draft", [None, "suffix"])
@in_virtual_time
async def test_without_a_draft_that_can_answer_it_is_refused(draft: str | None) -> None:
    async with edge_for(MemoryListener()) as edge, Device.connect("memory:", draft=draft) as device:
        with pytest.raises(SettingsError, match="draft model") as refused:
            device.stream(PROMPT, max_new_tokens=5, private=True)
        assert refused.value.field == "private"
        await asyncio.sleep(1)
        assert edge.num_sessions == 0


@in_virtual_time
async def test_a_draft_that_fails_fails_the_stream_and_asks_nobody() -> None:
    sent: list[bytes] = []
    listener = MemoryListener()

    async def dial() -> Link:
        return Watched(await listener.dial(), sent)

    draft = FailingDraft(RuntimeError("no memory left"), num_good=5)
    async with edge_for(listener), device_with(draft, dial=dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=60, private=True)
        with pytest.raises(ModelError, match="no memory left"):
            await read(stream)
        assert len(stream.tokens) == 5
        assert stream.summary.finish_reason == "error"
        assert len(sent) == 1


@in_virtual_time
async def test_a_full_context_is_an_error_that_says_so() -> None:
    short = SyntheticDraft(SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=10), agreement=0.8)
    async with device_with(short) as device:
        with pytest.raises(ContextExceeded, match="context of 10"):
            await device.generate(PROMPT, max_new_tokens=60, private=True)


@in_virtual_time
async def test_leaving_the_loop_and_leaving_the_device_end_it() -> None:
    streams: list[AnswerStream] = []
    async with device_with(DRAFT) as device:
        before = tasks_left()
        async for _token in device.stream(PROMPT, max_new_tokens=10_000, private=True):
            break
        await asyncio.sleep(2 * DRAFT_S)
        assert tasks_left() == before
        streams = [device.stream(PROMPT, max_new_tokens=10_000, private=True) for _ in range(3)]
        await asyncio.sleep(0.5)
    for stream in streams:
        assert stream.is_settled
        assert 0 < len(await read(stream)) < 1000
