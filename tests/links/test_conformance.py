"""What every link has to do, over all kinds of links there are: real sockets where the link has them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass

import pytest

from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto
from cascade import Device, EdgeServer, Policy, RefusedError, Sampling
from cascade.device import ReconnectSettings
from cascade.edge import Authenticator
from cascade.errors import LinkClosed, LinkUnavailable
from cascade.links.base import Dialer, Link, Listener
from cascade.links.mqtt import MqttDialer, MqttListener, MqttSettings
from cascade.links.proxy import LinkProxy
from cascade.links.websocket import WebSocketDialer, WebSocketListener
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
)
from cascade.wire import PROTOCOL_VERSION, Codec, Error, ErrorCode, Hello

from ..virtual.schedules import Ask, target_alone

ACCOUNTS = {"edge-1": "edge's secret", "device-1": "device's secret"}

SLOW = Conditions(delay_s=0.002, jitter_s=0.001, rate_bytes_per_s=50e6, queue_bytes=200_000)


@dataclass(frozen=True)
class Place:
    """Where an edge listens, and how devices get there."""

    listener: Listener
    dial: Dialer
    dial_as_stranger: Dialer | None = None
    """With a token or password that is nobody's; None where the link asks for none."""


OpenPlace = Callable[[], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def memory_place() -> AsyncIterator[Place]:
    listener = MemoryListener()
    yield Place(listener, listener.dial)
    await listener.close()


@asynccontextmanager
async def websocket_place() -> AsyncIterator[Place]:
    async with WebSocketListener(identify={"secret": "device-1"}.get) as listener:
        dialers = [WebSocketDialer(listener.url, token=token) for token in ("secret", "guess")]
        yield Place(listener, *dialers)


@asynccontextmanager
async def emulated_place() -> AsyncIterator[Place]:
    """Made worse on purpose, and a link like any other."""
    async with memory_place() as place:

        async def dial() -> Link:
            return EmulatedLink(await place.dial(), up=SLOW, down=SLOW)

        yield Place(place.listener, dial)


@asynccontextmanager
async def proxied_place() -> AsyncIterator[Place]:
    """Through a proxy that shapes the bytes and knows nothing of messages."""
    async with WebSocketListener(identify={"secret": "device-1"}.get) as listener:
        host, _, port = listener.url.removeprefix("ws://").partition("/")[0].partition(":")
        async with LinkProxy((host, int(port)), up=SLOW, down=SLOW) as proxy:
            url = "ws://{}:{}".format(*proxy.address)
            yield Place(listener, *(WebSocketDialer(url, token=token) for token in ("secret", "guess")))


@asynccontextmanager
async def amqtt_place() -> AsyncIterator[Place]:
    async with EmbeddedBroker(accounts=ACCOUNTS) as broker, mqtt_place(broker, "auto") as place:
        yield place


def mosquitto_place(version: str) -> OpenPlace:
    @asynccontextmanager
    async def open_place() -> AsyncIterator[Place]:
        async with Mosquitto(accounts=ACCOUNTS) as broker, mqtt_place(broker, version) as place:
            yield place

    return open_place


@asynccontextmanager
async def mqtt_place(broker: EmbeddedBroker | Mosquitto, version: str) -> AsyncIterator[Place]:
    settings = MqttSettings(version=version)
    async with MqttListener(broker.url_for("edge-1"), "edge-1", settings=settings) as listener:
        yield Place(
            listener,
            MqttDialer(broker.url_for("device-1"), edge="edge-1", settings=settings),
            MqttDialer(broker.url, username="device-1", password="guess", edge="edge-1", settings=settings),
        )


PLACES = [
    pytest.param(memory_place, id="memory"),
    pytest.param(emulated_place, id="emulated"),
    pytest.param(websocket_place, id="websocket"),
    pytest.param(proxied_place, id="proxied"),
    pytest.param(amqtt_place, id="amqtt"),
    pytest.param(mosquitto_place("3.1.1"), id="mosquitto-3.1.1", marks=pytest.mark.needs_mosquitto),
    pytest.param(mosquitto_place("5"), id="mosquitto-5", marks=pytest.mark.needs_mosquitto),
]


@pytest.fixture(params=PLACES)
def open_place(request: pytest.FixtureRequest) -> OpenPlace:
    found: OpenPlace = request.param
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until it is so; the test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110  (nothing to wait for: the condition is over plain state)
        await asyncio.sleep(0)


async def both_ends(place: Place) -> tuple[Link, Link]:
    device, edge = await asyncio.gather(place.dial(), place.listener.accept())
    return device, edge


async def test_messages_arrive_in_order_both_ways(open_place: OpenPlace) -> None:
    async with open_place() as place:
        device, edge = await both_ends(place)
        for sender, receiver in ((device, edge), (edge, device)):
            sent = [os.urandom(number % 50) for number in range(300)]

            async def send_all(link: Link = sender, messages: list[bytes] = sent) -> None:
                for message in messages:
                    await link.send(message)

            task = asyncio.create_task(send_all())
            assert [await receiver.receive() for _ in sent] == sent
            await task
        await device.close()


async def test_large_messages_come_whole(open_place: OpenPlace) -> None:
    async with open_place() as place:
        device, edge = await both_ends(place)
        large = os.urandom(3 * 65_536)  # a prompt of 64 Ki tokens and more
        await device.send(large)
        assert await edge.receive() == large
        await edge.send(large)
        assert await device.receive() == large
        await device.close()


@pytest.mark.parametrize("who", ["device", "edge"])
async def test_closing_is_seen_on_both_ends(open_place: OpenPlace, who: str) -> None:
    async with open_place() as place:
        device, edge = await both_ends(place)
        closing, other = (device, edge) if who == "device" else (edge, device)
        waiting = asyncio.create_task(other.receive())
        await closing.close()
        await closing.close()  # harmless
        with pytest.raises(LinkClosed):
            await waiting
        for link in (closing, other):
            with pytest.raises(LinkClosed):
                await link.receive()
            with pytest.raises(LinkClosed):
                await link.send(b"late")


async def test_a_slow_reader_holds_the_sender(open_place: OpenPlace) -> None:
    async with open_place() as place:
        device, edge = await both_ends(place)
        num_sent = 0

        async def flood() -> None:
            nonlocal num_sent
            while True:
                await device.send(bytes(60_000))
                num_sent += 1

        task = asyncio.create_task(flood())
        before = -1
        while num_sent != before:  # until nothing moves any more
            before = num_sent
            await asyncio.sleep(0.2)  # real sockets: only time tells that the buffers below are full
        assert not task.done()
        assert num_sent < 2_000
        for _ in range(before):
            assert len(await edge.receive()) == 60_000
        await until(lambda: num_sent > before)  # there is room again
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await device.close()
        await edge.close()


async def test_nobody_there_is_a_clear_error(open_place: OpenPlace) -> None:
    async with open_place() as place:
        await place.listener.close()
        with pytest.raises(LinkUnavailable, match=r"listen|reach"):
            await place.dial()


@asynccontextmanager
async def serving(
    place: Place, target: SyntheticTarget, authenticate: Authenticator | None = None
) -> AsyncIterator[EdgeServer]:
    runner = PacedRunner(lambda rows: 0.002)
    async with EdgeServer.of(target, runner, authenticate=authenticate) as edge:
        edge.listen(place.listener)
        yield edge


def make_device(place: Place, target: SyntheticTarget, token: str = "") -> Device:
    return Device(
        [place.dial],
        draft=SyntheticDraft(target, agreement=0.8),
        runner=PacedRunner(lambda rows: 0.0005),
        reconnect=ReconnectSettings(first_s=0.01, ceiling_s=0.05),
        token=token,
    )


async def test_the_text_is_the_targets_own(open_place: OpenPlace) -> None:
    target = SyntheticTarget(seed=5)
    asks = [
        Ask(
            prompt=(1, 2, 3 + number),
            max_new_tokens=60,
            sampling=Sampling(temperature=number % 2, seed=number),
            stop_ids=frozenset(),
            policy=[Policy.hint_driven(), Policy.cloud(), Policy.ask_and_wait(4)][number % 3],
        )
        for number in range(6)
    ]
    async with open_place() as place, serving(place, target) as edge, make_device(place, target) as device:

        async def read(ask: Ask) -> list[int]:
            stream = device.stream(
                ask.prompt, max_new_tokens=ask.max_new_tokens, **asdict(ask.sampling), policy=ask.policy
            )
            return [token.id async for token in stream]

        answers = await asyncio.gather(*(read(ask) for ask in asks))
        assert answers == [target_alone(target, ask) for ask in asks]
        await until(lambda: edge.num_sessions == 0)  # the goodbyes are on their way


async def test_a_long_prompt_is_one_message(open_place: OpenPlace) -> None:
    target = SyntheticTarget(seed=6)
    prompt = tuple(number % 64 for number in range(32_768))  # 64 KiB
    ask = Ask(prompt, 10, Sampling(), frozenset(), Policy.hint_driven())
    async with open_place() as place, serving(place, target), make_device(place, target) as device:
        stream = device.stream(prompt, max_new_tokens=10)
        assert [token.id async for token in stream] == target_alone(target, ask)


async def test_a_broken_link_is_a_pause(open_place: OpenPlace) -> None:
    target = SyntheticTarget(seed=7)
    links: list[Link] = []
    ask = Ask((4, 5), 120, Sampling(temperature=1.0, seed=9), frozenset(), Policy.hint_driven())
    async with open_place() as place, serving(place, target):

        async def dial() -> Link:
            links.append(await place.dial())
            return links[-1]

        async with make_device(Place(place.listener, dial), target) as device:
            stream = device.stream(ask.prompt, max_new_tokens=120, **asdict(ask.sampling))
            answer = []
            async for token in stream:
                answer.append(token.id)
                if len(answer) in (20, 60):
                    await links[-1].close()
        assert answer == target_alone(target, ask)
        assert stream.summary.num_opens == len(links) == 3


async def test_a_wrong_token_is_refused(open_place: OpenPlace) -> None:
    target = SyntheticTarget()

    def authenticate(identity: str, token: str) -> bool:
        return token == "right"

    async with open_place() as place, serving(place, target, authenticate):
        async with make_device(place, target, token="wrong") as device:
            with pytest.raises(RefusedError, match="unauthorized"):
                await anext(aiter(device.stream([1], max_new_tokens=1)))
        async with make_device(place, target, token="right") as device:
            assert len([token async for token in device.stream([1], max_new_tokens=3)]) == 3


@pytest.mark.parametrize("open_guarded_place", PLACES[2:])
async def test_a_stranger_is_refused_by_the_link_itself(open_guarded_place: OpenPlace) -> None:
    async with open_guarded_place() as place:
        assert place.dial_as_stranger is not None
        with pytest.raises(RefusedError) as caught:
            await place.dial_as_stranger()
        assert caught.value.code == "unauthorized"
        assert "guess" not in str(caught.value)
        device, edge = await both_ends(place)  # it does not disturb those who may
        await device.send(b"hello")
        assert await edge.receive() == b"hello"
        await device.close()


async def test_a_wrong_version_is_refused(open_place: OpenPlace) -> None:
    target = SyntheticTarget()
    codec = Codec(target.vocab_size)
    hello = Hello(
        version=PROTOCOL_VERSION + 1,
        identity="device-1",
        token="",
        model="",
        vocab_fingerprint=target.vocab_fingerprint,
        vocab_size=target.vocab_size,
    )
    async with open_place() as place, serving(place, target):
        device = await place.dial()
        await device.send(codec.encode(hello), must_arrive=True)
        answer = codec.decode(await device.receive())
        assert isinstance(answer, Error)
        assert answer.code is ErrorCode.VERSION
        with pytest.raises(LinkClosed):  # the edge hangs up
            await device.receive()
        await device.close()


async def test_lost_messages_cost_time_and_no_token(open_place: OpenPlace) -> None:
    target = SyntheticTarget(seed=8)
    ask = Ask((6, 7), 60, Sampling(temperature=1.0, seed=3), frozenset(), Policy.hint_driven())
    lossy = Conditions(loss=0.2, delay_s=0.002)
    links: list[EmulatedLink] = []
    async with open_place() as place, serving(place, target):

        async def dial() -> Link:
            links.append(EmulatedLink(await place.dial(), up=lossy, down=lossy, seed=1, is_reliable=False))
            return links[-1]

        async with make_device(Place(place.listener, dial), target) as device:
            stream = device.stream(
                ask.prompt, max_new_tokens=60, temperature=ask.sampling.temperature, seed=ask.sampling.seed
            )
            assert [token.id async for token in stream] == target_alone(target, ask)
    assert sum(link.num_dropped for link in links) > 0


async def test_a_device_comes_again_and_again(open_place: OpenPlace) -> None:
    async with open_place() as place:
        for number in range(5):
            device, edge = await both_ends(place)
            await device.send(b"%d" % number)
            assert await edge.receive() == b"%d" % number
            await (device if number % 2 else edge).close()
            await (edge if number % 2 else device).close()
