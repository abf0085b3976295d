"""Round trips of small messages over each kind of link, and bytes on the wire for each token.

All on loopback. Links take turns, so that a machine that slows down slows all of them down alike; a bare
socket in the same event loop stands beside them. mosquitto is a process of its own, the other brokers and
both ends share one loop. Bytes are TCP payload on the device's link, counted by a relay in front of it: MQTT
or WebSocket framing, flow control and acknowledgements of the link included.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto, find
from cascade.device import Device, Policy
from cascade.edge import EdgeServer, EdgeSettings
from cascade.errors import LinkClosed, LinkUnavailable
from cascade.lab.relay import CountingRelay
from cascade.links.base import Dialer, Link, Listener
from cascade.links.mqtt import MqttDialer, MqttListener, MqttSettings
from cascade.links.websocket import WebSocketDialer, WebSocketListener
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import Conditions, EmulatedLink, SyntheticDraft, SyntheticTarget

__all__ = ["run"]

MESSAGE_BYTES = 64
ECHOES = 200
"""In a round; its figure is their median."""
EDGE, DEVICE = "hall", "kettle"
ACCOUNTS = {EDGE: "edge's password", DEVICE: "device's password"}
AGREEMENT = 0.8
RTT_S = 0.100
PASS_S = 0.050
DRAFT_STEP_S = 0.005
WARM_UP_TOKENS = 20
"""Connecting and opening cost bytes once; what a token costs is measured behind them."""

Echo = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an edge listens, and how a device gets there through a port that may be a relay's."""

    listener: Listener
    port: int
    dialer: Callable[[int], Dialer]


def run(*, repeats: int = 15, quick: bool = False) -> dict[str, Any]:
    """Median round trip over each link, with spread and ratio to a bare socket; bytes for each token."""
    rounds, num_tokens = (3, 100) if quick else (repeats, 400)
    trips_ms, wire = asyncio.run(_measure(rounds, num_tokens))
    medians_ms = {name: statistics.median(values) for name, values in trips_ms.items()}
    bare_ms = medians_ms["bare socket"]
    return {
        "message_bytes": MESSAGE_BYTES,
        "rounds": rounds,
        "echoes_a_round": ECHOES,
        "missing": [] if _has_mosquitto() else ["mosquitto"],
        "round_trips": [
            {
                "link": name,
                "p50_ms": round(medians_ms[name], 3),
                "min_ms": round(min(values), 3),
                "max_ms": round(max(values), 3),
                "over_bare": round(medians_ms[name] / bare_ms, 1),
            }
            for name, values in trips_ms.items()
        ],
        "agreement": AGREEMENT,
        "rtt_ms": RTT_S * 1000,
        "tokens": num_tokens,
        "names": f"{EDGE}, {DEVICE}",
        "wire": wire,
    }


async def _measure(rounds: int, num_tokens: int) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(place()) for name, place in _places().items()}
        echoes: dict[str, Echo] = {"bare socket": await stack.enter_async_context(_bare_socket())}
        for name, place in places.items():
            echoes[name] = await stack.enter_async_context(_echo_over(place))
        trips_ms: dict[str, list[float]] = {name: [] for name in echoes}
        for echo in echoes.values():
            await _median_ms(echo)  # the first ones find cold caches
        for _ in range(rounds):
            for name, echo in echoes.items():
                trips_ms[name].append(await _median_ms(echo))
    wire = []
    for is_patient in (False, True):
        # A place has one edge; runs over different places do not disturb each other: they mostly sleep.
        async with AsyncExitStack() as stack:
            places = {name: await stack.enter_async_context(place()) for name, place in _places().items()}
            wire += await asyncio.gather(
                *(_bytes_a_token(name, place, num_tokens, is_patient) for name, place in places.items())
            )
    return trips_ms, wire


async def _median_ms(echo: Echo) -> float:
    samples_s = []
    for _ in range(ECHOES):
        message = os.urandom(MESSAGE_BYTES)
        start_s = time.perf_counter()
        answer = await echo(message)
        samples_s.append(time.perf_counter() - start_s)
        assert answer == message
    return statistics.median(samples_s) * 1000


class _Bare(asyncio.Protocol):
    """One end of a bare socket: the far one sends back what it gets, the near one waits for all of it."""

    def __init__(self, *, is_far: bool) -> None:
        self._is_far = is_far
        self._data = b""
        self._whole: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._is_far:
            self.transport.write(data)
            return
        self._data += data
        if self._whole is not None and len(self._data) >= MESSAGE_BYTES:
            self._whole.set_result(self._data)

    async def echo(self, message: bytes) -> bytes:
        self._data = b""
        self._whole = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return await self._whole


@asynccontextmanager
async def _bare_socket() -> AsyncIterator[Echo]:
    """One TCP connection, nothing above it; asyncio sets TCP_NODELAY by itself."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Bare(is_far=True), "127.0.0.1", 0)
    transport, near = await loop.create_connection(
        lambda: _Bare(is_far=False), *server.sockets[0].getsockname()
    )
    try:
        yield near.echo
    finally:
        transport.close()
        server.close()


@asynccontextmanager
async def _echo_over(place: Place) -> AsyncIterator[Echo]:
    device, edge = await asyncio.gather(place.dialer(place.port)(), place.listener.accept())

    async def answer() -> None:
        try:
            while True:
                await edge.send(await edge.receive())
        except LinkClosed:
            pass

    async def echo(message: bytes) -> bytes:
        await device.send(message)
        return await device.receive()

    task = asyncio.create_task(answer())
    try:
        yield echo
    finally:
        await device.close()
        await task


async def _bytes_a_token(name: str, place: Place, num_tokens: int, is_patient: bool) -> dict[str, Any]:
    target = SyntheticTarget(seed=1)
    one_way = Conditions(delay_s=RTT_S / 2)
    links: list[Link] = []
    async with CountingRelay("127.0.0.1", place.port) as relay:
        dial_relay = place.dialer(relay.port)

        async def dial() -> Link:
            links.append(EmulatedLink(await dial_relay(), up=one_way, down=one_way))
            return links[-1]

        edge = EdgeServer.of(
            target, PacedRunner(constant_cost(PASS_S)), settings=EdgeSettings(max_fed_hints=16)
        )
        device = Device(
            [dial],
            draft=SyntheticDraft(target, agreement=AGREEMENT, seed=2),
            runner=PacedRunner(constant_cost(DRAFT_STEP_S)),
            seed=1,
        )
        async with edge, device:
            edge.listen(place.listener)
            policy = Policy.hint_driven(patience_s=RTT_S + 0.010 if is_patient else 0.0)
            stream = device.stream([1, 2, 3], max_new_tokens=num_tokens, policy=policy)
            up = down = position = 0
            async for token in stream:
                position = token.position
                if token.position == 2 + WARM_UP_TOKENS:
                    up, down = relay.num_bytes_up, relay.num_bytes_down
            num_counted = position - 2 - WARM_UP_TOKENS
            all_bytes = relay.num_bytes
            up, down = relay.num_bytes_up - up, relay.num_bytes_down - down
        summary = stream.summary
    return {
        "link": name,
        "policy": "patient" if is_patient else "patience 0",
        "bytes_per_token": round((up + down) / num_counted, 1),
        "up": round(up / num_counted, 1),
        "down": round(down / num_counted, 1),
        "payload_per_token": round((summary.bytes_up + summary.bytes_down) / num_tokens, 1),
        "with_setup_per_token": round(all_bytes / num_tokens, 1),
        "ms_per_token": round(summary.time_per_token_s * 1000, 1),
        "num_opens": summary.num_opens,
    }


def _places() -> dict[str, Callable[[], Any]]:
    places: dict[str, Callable[[], Any]] = {"websocket": _websocket_place}
    if _has_mosquitto():
        places["mosquitto, MQTT 5"] = lambda: _mqtt_place(Mosquitto(accounts=ACCOUNTS, edges=[EDGE]), "5")
        places["mosquitto, MQTT 3.1.1"] = lambda: _mqtt_place(
            Mosquitto(accounts=ACCOUNTS, edges=[EDGE]), "3.1.1"
        )
    places["amqtt, MQTT 3.1.1"] = lambda: _mqtt_place(
        EmbeddedBroker(accounts=ACCOUNTS, edges=[EDGE], devices=[]), "3.1.1"
    )
    return places


@asynccontextmanager
async def _websocket_place() -> AsyncIterator[Place]:
    async with WebSocketListener() as listener:
        port = int(listener.url.split(":")[2].split("/")[0])
        yield Place(listener, port, lambda port: WebSocketDialer(f"ws://127.0.0.1:{port}"))


@asynccontextmanager
async def _mqtt_place(broker: EmbeddedBroker | Mosquitto, version: str) -> AsyncIterator[Place]:
    settings = MqttSettings(version=version)
    async with broker, MqttListener(broker.url_for(EDGE), EDGE, settings=settings) as listener:

        def dialer(port: int) -> Dialer:
            return MqttDialer(
                f"mqtt://127.0.0.1:{port}",
                username=DEVICE,
                password=ACCOUNTS[DEVICE],
                edge=EDGE,
                settings=settings,
            )

        yield Place(listener, broker.port, dialer)


def _has_mosquitto() -> bool:
    try:
        find()
    except LinkUnavailable:
        return False
    return True
