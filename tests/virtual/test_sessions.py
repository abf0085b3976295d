"""Devices and edges together, one behaviour at a time, over memory links in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest

from cascade.decoding import Sampling
from cascade.device import Device, Policy, ReconnectSettings, Stream, Vocabulary
from cascade.edge import EdgeServer
from cascade.errors import (
    CascadeError,
    ContextExceeded,
    LinkUnavailable,
    ModelError,
    RefusedError,
    SettingsError,
)
from cascade.events import Source
from cascade.links.base import Link
from cascade.models.base import Feed
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
)
from cascade.wire import Codec, Hint

from ..helpers import in_virtual_time, tasks_left
from .peers import PASS_S, PROMPT, VOCAB_SIZE, ask, device_for, edge_for, greedy, read

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 300)
POLICIES = [
    pytest.param(Policy.cloud(), id="cloud"),
    pytest.param(Policy.ask_and_wait(4), id="ask-and-wait"),
    pytest.param(Policy.hint_driven(), id="hint-driven"),
    pytest.param(Policy.hint_driven(patience_s=0.05), id="patient"),
]


class Gate:
    """A way to an edge that a test can close and open, and on which it sees what goes up."""

    def __init__(self, listener: MemoryListener) -> None:
        self.listener = listener
        self.is_open = True
        self.links: list[Link] = []
        self.num_lost = 0
        self.loses_hints: set[int] = set()
        """Which hints (counted from 0) are lost on the way."""
        self.num_hints = 0

    async def dial(self) -> Link:
        if not self.is_open:
            raise LinkUnavailable("closed by the test")
        link = _GateLink(self, await self.listener.dial())
        self.links.append(link)
        return link

    async def cut(self) -> None:
        self.is_open = False
        for link in self.links:
            await link.close()


class _GateLink:
    def __init__(self, gate: Gate, inner: Link) -> None:
        self._gate = gate
        self._inner = inner
        self.peer = inner.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if isinstance(message := Codec(VOCAB_SIZE).decode(data), Hint) and message.tokens:
            number, self._gate.num_hints = self._gate.num_hints, self._gate.num_hints + 1
            if number in self._gate.loses_hints:
                self._gate.num_lost += 1
                return
        await self._inner.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        return await self._inner.receive()

    async def close(self) -> None:
        await self._inner.close()


# The plain case


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@in_virtual_time
async def test_every_policy_gives_the_same_text(policy: Policy, temperature: float) -> None:
    listener = MemoryListener()
    sampling = Sampling(temperature=temperature, seed=4)
    async with edge_for(listener), device_for(listener.dial) as device:
        expected = await read(device.stream(PROMPT, max_new_tokens=60, **asdict(sampling)))
        stream = device.stream(PROMPT, max_new_tokens=60, **asdict(sampling), policy=policy)
        tokens = await read(stream)
        assert [token.id for token in tokens] == [token.id for token in expected]
        assert (expected[0].id == ANSWER[0]) == (temperature == 0)
        assert stream.tokens == [token.id for token in tokens]
        summary = stream.summary
        assert summary.num_tokens == 60
        assert summary.num_hinted == sum(token.source is Source.HINTED for token in tokens)
        assert (summary.num_hinted > 10) == (policy.window > 0)
        assert summary.num_opens == 1


@in_virtual_time
async def test_a_stop_id_ends_the_text_and_belongs_to_it() -> None:
    listener = MemoryListener()
    stop = ANSWER[9]
    end = ANSWER.index(stop) + 1
    async with edge_for(listener) as edge, device_for(listener.dial, agreement=1.0) as device:
        for policy in (Policy.cloud(), Policy.hint_driven()):
            stream = device.stream(PROMPT, max_new_tokens=60, stop_ids=frozenset({stop}), policy=policy)
            assert [token.id for token in await read(stream)] == ANSWER[:end]
            assert stream.summary.finish_reason == "stop"
        await asyncio.sleep(1)
        assert edge.num_sessions == 0


@in_virtual_time
async def test_thirty_two_streams_at_once() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, device_for(listener.dial) as device:
        prompts = [[number + 1, 2, 3] for number in range(32)]
        policies = [param.values[0] for param in POLICIES]
        streams = [
            device.stream(prompt, max_new_tokens=30, policy=policies[number % 4])  # type: ignore[arg-type]
            for number, prompt in enumerate(prompts)
        ]
        answers = await asyncio.gather(*(read(stream) for stream in streams))
        for prompt, tokens in zip(prompts, answers, strict=True):
            assert [token.id for token in tokens] == greedy(TARGET, prompt, 30)
        assert edge.engine.stats.num_passes < 3 * 30, "they shared passes"


@in_virtual_time
async def test_two_devices_on_one_edge_do_not_meet() -> None:
    listener = MemoryListener()

    async def dial_as(name: str) -> Link:
        return await listener.dial(name)

    async with (
        edge_for(listener),
        device_for(lambda: dial_as("a")) as first,
        device_for(lambda: dial_as("b")) as second,
    ):
        # The same seed of both devices: the same session ids, aliases and generations.
        streams = [first.stream([1, 2], max_new_tokens=50), second.stream([3, 4], max_new_tokens=50)]
        assert isinstance(streams[0], Stream)
        assert isinstance(streams[1], Stream)
        assert streams[0]._outbox.session_id == streams[1]._outbox.session_id
        one, two = await asyncio.gather(*(read(stream) for stream in streams))
        assert [token.id for token in one] == greedy(TARGET, [1, 2], 50)
        assert [token.id for token in two] == greedy(TARGET, [3, 4], 50)


# Refusals


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"token": "wrong"}, "unauthorized"),
        ({"model": "another"}, "model"),
        ({"draft": SyntheticDraft(SyntheticTarget(vocab_size=128), agreement=0.5)}, "vocabulary"),
    ],
)
@in_virtual_time
async def test_a_device_that_is_not_welcome_hears_why(options: dict[str, Any], code: str) -> None:
    listener = MemoryListener()
    async with (
        edge_for(listener, authenticate=lambda who, token: token == "secret"),
        device_for(listener.dial, **({"token": "secret"} | options)) as device,
    ):
        with pytest.raises(RefusedError) as refused:
            await ask(device)
        assert refused.value.code == code
        with pytest.raises(RefusedError):  # dialling again would change nothing
            device.stream(PROMPT, max_new_tokens=5)


@in_virtual_time
async def test_the_answer_ends_at_the_contexts_end() -> None:
    target = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=20)
    listener = MemoryListener()
    async with edge_for(listener, target=target), device_for(listener.dial, agreement=1.0) as device:
        for policy in (Policy.cloud(), Policy.ask_and_wait(4), Policy.hint_driven()):
            stream = device.stream(PROMPT, max_new_tokens=100, policy=policy)
            assert [token.id for token in await read(stream)] == greedy(target, PROMPT, 17)
            assert stream.summary.finish_reason == "length"


@in_virtual_time
async def test_a_prompt_that_fills_the_context_is_refused() -> None:
    target = SyntheticTarget(vocab_size=VOCAB_SIZE, context_length=20)
    listener = MemoryListener()
    async with edge_for(listener, target=target), device_for(listener.dial) as device:
        with pytest.raises(RefusedError, match="context of 20") as refused:
            await read(device.stream([1] * 20, max_new_tokens=1, policy=Policy.cloud()))
        assert refused.value.code == "context"
        assert await ask(device, 5) == greedy(target, PROMPT, 5)


@in_virtual_time
async def test_an_overloaded_edge_says_when_to_try_again() -> None:
    listener = MemoryListener()
    async with edge_for(listener, max_sessions=1), device_for(listener.dial) as device:
        first = device.stream(PROMPT, max_new_tokens=300)
        tokens = aiter(first)
        await anext(tokens)
        with pytest.raises(RefusedError) as refused:
            await ask(device)
        assert refused.value.code == "overloaded"
        assert refused.value.retry_after_s is not None
        await tokens.aclose()
        await asyncio.sleep(refused.value.retry_after_s)
        assert await ask(device) == ANSWER[:40]


@in_virtual_time
async def test_impossible_requests_are_refused_before_anything_is_sent() -> None:
    listener = MemoryListener()
    device = device_for(listener.dial)
    with pytest.raises(CascadeError, match="async with"):
        device.stream(PROMPT, max_new_tokens=5)
    async with device:
        for prompt in ([], [VOCAB_SIZE], [-1]):
            with pytest.raises(SettingsError, match="prompt"):
                device.stream(prompt, max_new_tokens=5)
        with pytest.raises(SettingsError, match="max_new_tokens"):
            device.stream(PROMPT, max_new_tokens=0)
        for _ in range(256):
            device.stream(PROMPT, max_new_tokens=5)
        with pytest.raises(SettingsError, match="256 streams"):
            device.stream(PROMPT, max_new_tokens=5)
    with pytest.raises(CascadeError, match="async with"):
        device.stream(PROMPT, max_new_tokens=5)


@in_virtual_time
async def test_a_device_without_a_draft_streams_from_the_cloud() -> None:
    listener = MemoryListener()
    vocabulary = Vocabulary(size=VOCAB_SIZE, fingerprint=TARGET.vocab_fingerprint)
    async with edge_for(listener), Device([listener.dial], vocabulary=vocabulary) as device:
        assert await ask(device) == ANSWER[:40]
        with pytest.raises(SettingsError, match="draft"):
            device.stream(PROMPT, max_new_tokens=5, policy=Policy.hint_driven())
    with pytest.raises(SettingsError, match="edges"):
        Device([], vocabulary=vocabulary)


# Links and edges that go away


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_an_edge_restart_is_not_seen_in_the_text(policy: Policy) -> None:
    listener = MemoryListener()
    gate = Gate(listener)
    async with device_for(gate.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=120, policy=policy)
        reader = asyncio.create_task(read(stream))
        async with edge_for(listener):
            await asyncio.sleep(0.5)
        num_before = len(stream.tokens)
        assert 0 < num_before < 120
        gate.listener = MemoryListener()
        async with edge_for(gate.listener) as edge:
            assert [token.id for token in await reader] == ANSWER[:120]
            assert stream.summary.num_opens >= 2
            assert edge.engine.stats.num_passes <= 120 - num_before, (
                "the new edge goes on, it does not begin anew"
            )


@in_virtual_time
async def test_a_second_edge_takes_over() -> None:
    first, second = Gate(MemoryListener("first")), Gate(MemoryListener("second"))
    async with (
        edge_for(first.listener) as one,
        edge_for(second.listener) as two,
        device_for(first.dial, second.dial) as device,
    ):
        stream = device.stream(PROMPT, max_new_tokens=120)
        reader = asyncio.create_task(read(stream))
        await asyncio.sleep(0.4)
        await first.cut()
        num_before = len(stream.tokens)
        assert [token.id for token in await reader] == ANSWER[:120]
        assert num_before > 0
        assert one.engine.stats.num_passes > 0
        assert 0 < two.engine.stats.num_passes <= 120 - num_before


@in_virtual_time
async def test_the_same_edge_takes_a_session_up_where_it_was() -> None:
    gate = Gate(MemoryListener())
    async with edge_for(gate.listener) as edge, device_for(gate.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=100, policy=Policy.cloud())
        reader = asyncio.create_task(read(stream))
        for _ in range(5):
            await asyncio.sleep(0.3)
            await gate.cut()
            gate.is_open = True
        assert [token.id for token in await reader] == ANSWER[:100]
        assert stream.summary.num_opens > 3
        assert edge.engine.stats.num_passes == 100, "no token is decided twice"


@in_virtual_time
async def test_a_device_comes_back_after_its_lease() -> None:
    gate = Gate(MemoryListener())
    async with edge_for(gate.listener, lease_s=2, run_ahead=16) as edge, device_for(gate.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=100)
        reader = asyncio.create_task(read(stream))
        await asyncio.sleep(0.3)
        await gate.cut()
        await asyncio.sleep(3.5)
        assert edge.num_sessions == 0
        gate.is_open = True
        assert [token.id for token in await reader] == ANSWER[:100]


@in_virtual_time
async def test_a_device_may_start_before_its_edge() -> None:
    gate = Gate(MemoryListener())
    gate.is_open = False
    async with device_for(gate.dial) as device:
        reader = asyncio.create_task(ask(device))
        await asyncio.sleep(20)
        gate.is_open = True
        async with edge_for(gate.listener):
            assert await reader == ANSWER[:40]


@pytest.mark.parametrize("lost", [{0}, {1}, {3}, {0, 1, 2}])
@in_virtual_time
async def test_a_lost_hint_costs_a_few_passes_and_not_the_rest_of_the_chain(lost: set[int]) -> None:
    """With a perfect draft every hint builds on the one before: one lost makes all later ones useless, unless
    it is said again."""
    gate = Gate(MemoryListener())
    async with edge_for(gate.listener) as edge, device_for(gate.dial, agreement=1.0) as device:
        await ask(device, 100)
        num_clean = edge.engine.stats.num_passes
        gate.loses_hints = {gate.num_hints + number for number in lost}
        assert await ask(device, 100) == ANSWER[:100]
        assert gate.num_lost == len(lost)
        assert edge.engine.stats.num_passes <= 2 * num_clean + 12


@pytest.mark.parametrize("lost", [{0}, {1}])
@in_virtual_time
async def test_ask_and_wait_survives_a_lost_question(lost: set[int]) -> None:
    gate = Gate(MemoryListener())
    gate.loses_hints = lost
    async with edge_for(gate.listener), device_for(gate.dial, agreement=1.0) as device:
        loop = asyncio.get_running_loop()
        assert await ask(device, 20, policy=Policy.ask_and_wait(4)) == ANSWER[:20]
        assert loop.time() < 3


@pytest.mark.parametrize("run_ahead", [2, 8, 64])
@in_virtual_time
async def test_plain_streaming_never_stalls_on_acknowledgements(run_ahead: int) -> None:
    """No hints carry any; the run-ahead is short, and enough for this link."""
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    async with edge_for(listener, run_ahead=run_ahead), device_for(listener.dial) as device:
        began_s = loop.time()
        assert await ask(device, 300, policy=Policy.cloud()) == ANSWER
        assert loop.time() - began_s == pytest.approx(300 * PASS_S)


@in_virtual_time
async def test_an_edge_does_not_run_ahead_of_a_device_that_is_gone() -> None:
    gate = Gate(MemoryListener())
    async with edge_for(gate.listener, run_ahead=16) as edge, device_for(gate.dial) as device:
        stream = device.stream(PROMPT, max_new_tokens=300, policy=Policy.cloud())
        reader = asyncio.create_task(read(stream))
        await asyncio.sleep(0.5)
        await gate.cut()
        num_known = len(stream.tokens)
        await asyncio.sleep(5)
        assert edge.engine.stats.num_passes <= num_known + 16
        stream.cancel()
        await reader


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_a_lossy_link_loses_nothing(policy: Policy) -> None:
    listener = MemoryListener()
    bad = Conditions(delay_s=0.02, loss=0.3, duplication=0.2, reordering=0.2)
    links: list[EmulatedLink] = []

    async def dial() -> Link:
        links.append(EmulatedLink(await listener.dial(), up=bad, down=bad, seed=6, is_reliable=False))
        return links[-1]

    async with edge_for(listener), device_for(dial) as device:
        assert await ask(device, 200, policy=policy) == ANSWER[:200]
        assert sum(link.num_dropped for link in links) > 20


# Apps that leave, models that fail


@in_virtual_time
async def test_leaving_the_loop_early_closes_the_session_and_leaves_no_task() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, device_for(listener.dial) as device:
        await ask(device, 1)
        await asyncio.sleep(0.2)
        before = tasks_left()
        async for _token in device.stream(PROMPT, max_new_tokens=300, policy=Policy.hint_driven()):
            break
        await asyncio.sleep(0.2)
        assert edge.num_sessions == 0
        assert tasks_left() == before
        num_passes = edge.engine.stats.num_passes
        await asyncio.sleep(2)
        assert edge.engine.stats.num_passes == num_passes
        assert await ask(device) == ANSWER[:40]


@in_virtual_time
async def test_an_exception_in_the_apps_loop_ends_only_its_stream() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, device_for(listener.dial) as device:
        other = asyncio.create_task(ask(device, 100))

        async def app() -> None:
            async for token in device.stream(PROMPT, max_new_tokens=300):
                if token.position > 20:
                    raise ZeroDivisionError("the app's own mistake")

        with pytest.raises(ZeroDivisionError):
            await app()
        await asyncio.sleep(0.2)
        assert edge.num_sessions == 1
        assert await other == ANSWER[:100]


@in_virtual_time
async def test_cancelling_the_reader_closes_the_session() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge, device_for(listener.dial) as device:
        reader = asyncio.create_task(ask(device, 300))
        await asyncio.sleep(0.5)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await asyncio.sleep(0.2)
        assert edge.num_sessions == 0


@in_virtual_time
async def test_a_device_closed_in_mid_stream_ends_its_readers_and_tells_the_edge() -> None:
    listener = MemoryListener()
    async with edge_for(listener) as edge:
        async with device_for(listener.dial) as device:
            streams = [device.stream(PROMPT, max_new_tokens=300) for _ in range(3)]
            readers = [asyncio.create_task(read(stream)) for stream in streams]
            await asyncio.sleep(0.5)
        for reader, stream in zip(readers, streams, strict=True):
            tokens = await asyncio.wait_for(reader, 1)
            assert [token.id for token in tokens] == ANSWER[: len(tokens)]
            assert 0 < len(tokens) < 300
            assert stream.summary.finish_reason not in ("stop", "length")
        await asyncio.sleep(0.2)
        assert edge.num_sessions == 0


class FailingDraft(SyntheticDraft):
    """Works for a while."""

    def __init__(self, error: Exception, *, num_good: int) -> None:
        super().__init__(TARGET, agreement=0.8)
        self.error = error
        self.num_left = num_good

    def forward(self, feeds: Sequence[Feed]) -> Any:
        self.num_left -= 1
        if self.num_left < 0:
            raise self.error
        return super().forward(feeds)


@pytest.mark.parametrize("num_good", [0, 10])
@pytest.mark.parametrize("error", [ModelError("the draft broke"), RuntimeError("the draft broke")])
@pytest.mark.parametrize("policy", POLICIES[1:])
@in_virtual_time
async def test_a_failing_draft_costs_speed_and_nothing_else(
    policy: Policy, error: Exception, num_good: int
) -> None:
    listener = MemoryListener()
    draft = FailingDraft(error, num_good=num_good)
    async with edge_for(listener) as edge, device_for(listener.dial, draft=draft) as device:
        assert await asyncio.wait_for(ask(device, 100, policy=policy), 30) == ANSWER[:100]
        await asyncio.sleep(0.2)
        assert edge.num_sessions == 0
        assert await ask(device, policy=Policy.cloud()) == ANSWER[:40]


@in_virtual_time
async def test_a_draft_with_a_shorter_context_drafts_as_far_as_it_goes() -> None:
    listener = MemoryListener()
    short = FailingDraft(ContextExceeded(41, 40), num_good=40)
    async with edge_for(listener), device_for(listener.dial, draft=short) as device:
        stream = device.stream(PROMPT, max_new_tokens=100)
        assert [token.id for token in await read(stream)] == ANSWER[:100]
        assert 0 < stream.summary.num_hinted < 60


@pytest.mark.parametrize("num_prompt_tokens", [3, 1000])
@in_virtual_time
async def test_a_long_prefill_does_not_stop_hints(num_prompt_tokens: int) -> None:
    """A pass that takes its rows' time, and a first one of a second: it says nothing about the next ones."""
    listener = MemoryListener()
    link = Conditions(delay_s=0.05)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=link, down=link)

    runner = PacedRunner(lambda rows: 0.05 + 0.001 * rows)
    async with EdgeServer.of(TARGET, runner) as edge:
        edge.listen(listener)
        async with device_for(dial) as device:
            prompt = [number % 60 for number in range(num_prompt_tokens)]
            stream = device.stream(prompt, max_new_tokens=200)
            await read(stream)
    assert stream.summary.time_per_token_s < 0.042
    assert stream.summary.num_hinted > 40


@in_virtual_time
async def test_two_devices_of_one_identity_do_not_take_each_others_sessions() -> None:
    listener = MemoryListener()
    async with (
        edge_for(listener) as edge,
        device_for(listener.dial, seed=1) as first,
        device_for(listener.dial, seed=2) as second,
    ):
        answers = await asyncio.gather(ask(first), ask(second))
        assert list(answers) == [ANSWER[:40]] * 2
        assert edge.engine.stats.num_passes < 60


@in_virtual_time
async def test_a_restarted_device_is_served_at_once() -> None:
    """Its generations begin at 1 again, and its aliases at 0."""
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    async with edge_for(listener):
        async with device_for(listener.dial) as device:
            for _ in range(10):
                await ask(device, 3)
        started_s = loop.time()
        async with device_for(listener.dial, seed=4) as device:
            assert await ask(device) == ANSWER[:40]
        assert loop.time() - started_s < 5


class FragileTarget(SyntheticTarget):
    """Fails as often as it is told to."""

    num_failures = 0

    def forward(self, feeds: Sequence[Feed]) -> Any:
        if self.num_failures:
            self.num_failures -= 1
            raise ModelError("no memory left")
        return super().forward(feeds)


@in_virtual_time
async def test_a_step_that_fails_at_the_edge_is_asked_for_again() -> None:
    listener = MemoryListener()
    target = FragileTarget(vocab_size=VOCAB_SIZE)
    async with edge_for(listener, target=target), device_for(listener.dial, agreement=0.3) as device:
        stream = device.stream(PROMPT, max_new_tokens=300)
        reader = asyncio.create_task(read(stream))
        for _ in range(5):  # more often than would be taken in a row
            await asyncio.sleep(0.8)
            target.num_failures = 1
        assert [token.id for token in await reader] == ANSWER
        assert stream.summary.num_opens == 6


@in_virtual_time
async def test_a_step_that_fails_for_ever_reaches_the_app_and_the_edge_goes_on() -> None:
    listener = MemoryListener()
    target = FragileTarget(vocab_size=VOCAB_SIZE)
    async with edge_for(listener, target=target) as edge, device_for(listener.dial) as device:
        asking = asyncio.create_task(ask(device, 300))
        await asyncio.sleep(0.5)
        target.num_failures = 1000
        with pytest.raises(RefusedError, match="no memory left") as refused:
            await asking
        assert refused.value.code == "internal"
        assert target.num_failures == 1000 - 4
        assert edge.num_sessions == 0
        target.num_failures = 0
        assert await ask(device) == ANSWER[:40]


@in_virtual_time
async def test_a_prompt_too_long_for_a_message_is_refused() -> None:
    """Larger than what the edge takes in one message: an error, not a stream that waits for ever."""
    listener = MemoryListener()
    async with (
        edge_for(listener, max_message_bytes=8192),
        device_for(listener.dial, reconnect=ReconnectSettings(silent_s=2.0)) as device,
    ):
        with pytest.raises(CascadeError):
            await asyncio.wait_for(read(device.stream([1] * 20_000, max_new_tokens=1)), 20)
        assert await ask(device) == ANSWER[:40]
        with pytest.raises(CascadeError):
            await asyncio.wait_for(read(device.stream([1] * 300_000, max_new_tokens=1)), 20)
        assert await ask(device) == ANSWER[:40]
