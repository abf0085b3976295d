"""What only the MQTT link has: frames, room, pools, presence, limits, sockets, brokers that come and go."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from brokers.access import CONF
from brokers.mosquitto import Mosquitto
from cascade import Device, EdgeServer, RefusedError
from cascade.device import Vocabulary
from cascade.errors import LinkClosed, LinkUnavailable, MessageTooLong, SettingsError, WireError
from cascade.links.base import Link
from cascade.links.mqtt import MqttDialer, MqttListener, MqttSettings
from cascade.links.mqtt_client import Account, speaks_v5
from cascade.links.mqtt_frames import (
    FRAME_VERSION,
    HEADER_BYTES,
    NUMBERS,
    Frame,
    Kind,
    check_name,
    device_in,
    device_out,
    pool_open,
    status,
)
from cascade.links.mqtt_link import MqttLink
from cascade.links.mqtt_presence import EdgePresence, choose_edge, list_edges
from cascade.links.mqtt_window import WINDOW_BYTES, WINDOW_MESSAGES, SendWindow
from cascade.testing import PacedRunner, SyntheticTarget

from ..brokers.places import BROKERS, QUICK, AnyBroker, embedded, mosquitto
from ..helpers import in_virtual_time, tasks_left

HASTY = MqttSettings(timeout_s=0.5, backoff_first_s=0.01, backoff_ceiling_s=0.1)
pytestmark = pytest.mark.timeout(60)
each_broker = pytest.mark.parametrize("open_broker", BROKERS)


def dialer(broker: AnyBroker, name: str = "kettle", **options: Any) -> MqttDialer:
    options.setdefault("settings", QUICK)
    if "pool" not in options:
        options.setdefault("edge", "edge-1")
    return MqttDialer(broker.url_for(name), **options)


def listener_at(broker: AnyBroker, name: str = "edge-1", **options: Any) -> MqttListener:
    options.setdefault("settings", QUICK)
    return MqttListener(broker.url_for(name), name, **options)


# Frames and names


@pytest.mark.parametrize("kind", list(Kind))
def test_a_frame_is_its_bytes(kind: Kind) -> None:
    frame = Frame(kind, 0xBEEF, 0x12, b"body")
    header = "92 beef" if kind is Kind.DATA else f"{kind:02x} beef 12"
    assert frame.encode() == bytes.fromhex(header) + b"body"
    assert Frame.decode(frame.encode()) == frame


@pytest.mark.parametrize("data", [b"", b"\x03", b"\x80", b"\x80\0", b"\x03\0\0", bytes(9), b"\x08\0\0\0"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Frame.decode(data)


@pytest.mark.parametrize("name", ["kettle-7", "a", "phone@example.org", "x" * 64, "00:1a:7d"])
def test_names_that_are_one_level_of_a_topic(name: str) -> None:
    assert check_name("device", name) == name


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "a+", "$SYS", "x" * 65, "a b", "a\n", "a\0", "ä"])
def test_names_that_mean_something_to_a_broker_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="device"):
        check_name("device", name)


# The window


def test_a_window_fills_by_messages_and_by_bytes() -> None:
    window = SendWindow()
    for number in range(WINDOW_MESSAGES):
        assert window.has_room()
        assert window.take(10) == number
    assert not window.has_room()
    window.free(0)
    assert window.has_room()
    large = SendWindow()
    assert large.take(10 * WINDOW_BYTES) == 0, "one message always goes"
    assert not large.has_room()
    large.free(large.newest)
    assert large.has_room()


def test_a_window_knows_old_news_from_new_over_the_turn_of_numbers() -> None:
    window = SendWindow()
    for number in range(3 * NUMBERS):
        assert window.take(1) == number % NUMBERS
        window.free((number - 7) % NUMBERS)  # read long ago, or never sent
        if number % 5 == 4:
            window.free(number % NUMBERS)
            window.free(number % NUMBERS)
        assert window.has_room()
    for _ in range(WINDOW_MESSAGES):
        if window.has_room():
            newest = window.take(1)
    assert not window.has_room()
    window.free((newest + 1) % NUMBERS)  # of the future: a lie
    assert not window.has_room()
    window.free(newest)
    assert window.has_room()


class Wire:
    """Stands where the connection to a broker stands, and keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Frame, int]] = []

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, **_options: Any) -> None:
        self.sent.append((Frame.decode(payload), qos))

    async def hand_over(self, topic: str, payload: bytes) -> None:
        self.sent.append((Frame.decode(payload), 1))

    def post(self, topic: str, payload: bytes, *, qos: int = 0) -> None:
        self.sent.append((Frame.decode(payload), qos))

    def frames(self, kind: Kind) -> list[Frame]:
        return [frame for frame, _ in self.sent if frame.kind is kind]


def link_on(wire: Wire) -> MqttLink:
    async def on_closed(_link: MqttLink) -> None:
        pass

    return MqttLink(
        wire,  # type: ignore[arg-type]
        peer="edge-1",
        number=7,
        topic="there",
        max_payload_bytes=100_000,
        on_closed=on_closed,
    )


@in_virtual_time
async def test_a_sender_without_room_asks_and_goes_on_when_all_was_lost() -> None:
    wire = Wire()
    link = link_on(wire)
    for _ in range(WINDOW_MESSAGES):
        await link.send(b"x")
    waiting = asyncio.create_task(link.send(b"one more"))
    await asyncio.sleep(3.5)
    probes = wire.frames(Kind.PROBE)
    assert [probe.number for probe in probes] == [WINDOW_MESSAGES - 1] * 3
    assert not waiting.done()
    link.on_frame(Frame(Kind.ROOM, 7, probes[0].number))
    await waiting
    assert wire.frames(Kind.DATA)[-1] == Frame(Kind.DATA, 7, WINDOW_MESSAGES, b"one more")


@in_virtual_time
async def test_a_closed_link_lets_go_of_a_sender_that_waits() -> None:
    link = link_on(Wire())
    for _ in range(WINDOW_MESSAGES):
        await link.send(b"x")
    waiting = asyncio.create_task(link.send(b"one more"))
    await asyncio.sleep(0.1)
    link.on_frame(Frame(Kind.CLOSE, 7))
    with pytest.raises(LinkClosed):
        await waiting


@in_virtual_time
async def test_a_reader_says_how_far_it_is_now_and_then_and_when_asked() -> None:
    wire = Wire()
    link = link_on(wire)
    link.on_frame(Frame(Kind.PROBE, 7, 9))
    assert [frame.number for frame in wire.frames(Kind.ROOM)] == [9], "nothing is here: all was read, or lost"
    for number in range(10, 60):
        link.on_frame(Frame(Kind.DATA, 7, number, b"x"))
    link.on_frame(Frame(Kind.PROBE, 7, 59))
    assert len(wire.frames(Kind.ROOM)) == 1, "nothing was read yet"
    for _ in range(32):
        await link.receive()
    assert [frame.number for frame in wire.frames(Kind.ROOM)] == [9, 41]
    await link.receive()
    link.on_frame(Frame(Kind.PROBE, 7, 59))
    assert wire.frames(Kind.ROOM)[-1].number == 42


@pytest.mark.parametrize(("num_messages", "size"), [(10_000, 1), (10_000, 90_000)])
@in_virtual_time
async def test_who_ignores_the_window_is_cut_off(num_messages: int, size: int) -> None:
    wire = Wire()
    link = link_on(wire)
    for number in range(num_messages):
        link.on_frame(Frame(Kind.DATA, 7, number % NUMBERS, bytes(size)))
    assert link.is_closed
    assert len(wire.frames(Kind.CLOSE)) == 1
    assert len(link._inbox) <= 2 * WINDOW_MESSAGES
    num_bytes = sum([len(await link.receive()) for _ in range(len(link._inbox))])
    assert num_bytes <= 2 * WINDOW_BYTES + 100_000


@in_virtual_time
async def test_what_must_arrive_has_qos_1_and_the_rest_0() -> None:
    wire = Wire()
    link = link_on(wire)
    await link.send(b"hint")
    await link.send(b"open", must_arrive=True)
    assert [qos for _, qos in wire.sent] == [0, 1]


@in_virtual_time
async def test_a_message_that_no_broker_would_take_is_refused_and_the_link_lives() -> None:
    link = link_on(Wire())
    with pytest.raises(MessageTooLong, match="100000 bytes is more than this link carries, which is 99997"):
        await link.send(bytes(100_000))
    await link.send(bytes(100_000 - HEADER_BYTES))
    assert not link.is_closed


# URLs, accounts, settings


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "http://broker",
        "mqtt://",
        "mqtt://broker/topic",
        "mqtt://broker:x",
        "mqtt://broker:99999",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="url"):
        MqttDialer(url, device="kettle")


def test_accounts_in_urls_are_not_shown() -> None:
    dial = MqttDialer("mqtt://kettle:p%40ss@broker:7777", edge="hall")
    assert dial.device == "kettle"
    assert dial.url == "mqtt://broker:7777"
    assert dial._account.password == "p@ss"
    assert "p@ss" not in repr(dial._account)
    assert MqttDialer("mqtt://broker", device="kettle").url == "mqtt://broker:1883"
    assert MqttDialer("mqtts://[::1]", device="kettle").url == "mqtts://[::1]:8883"


def test_a_device_needs_a_name_and_one_place_to_dial() -> None:
    with pytest.raises(SettingsError, match="device"):
        MqttDialer("mqtt://broker")
    with pytest.raises(SettingsError, match="pool"):
        MqttDialer("mqtt://broker", device="kettle", edge="hall", pool="house")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "3.1"),
        ("keepalive_s", 0),
        ("timeout_s", 0),
        ("max_payload_bytes", 10),
        ("hint_expiry_s", -1),
    ],
)
def test_impossible_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        MqttSettings(**{name: value})


# Brokers


@each_broker
async def test_tcp_nodelay_is_set_on_our_end(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        device, _edge = await asyncio.gather(dialer(broker)(), listener.accept())
        for end in (device, listener):
            raw = socket_of(end)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await device.close()


async def test_tcp_nodelay_is_set_on_the_embedded_brokers_end() -> None:
    async with embedded() as broker, listener_at(broker):
        assert broker._broker is not None
        (writer,) = [handler.writer._writer for _session, handler in broker._broker._sessions.values()]
        raw = writer.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.needs_mosquitto
async def test_tcp_nodelay_is_set_on_mosquittos_end() -> None:
    assert "\nset_tcp_nodelay true\n" in (CONF / "mosquitto" / "mosquitto.conf").read_text()
    async with mosquitto() as broker, listener_at(broker):
        assert broker.pid is not None
        sockets = sockets_of(broker.pid)
        assert sockets, "mosquitto holds the listener's connection"
        assert all(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for raw in sockets)
        for raw in sockets:
            raw.close()


def sockets_of(pid: int) -> list[socket.socket]:
    """Connected TCP sockets of a child process, to look at."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd_getfd = 438  # the same on every architecture
    process = os.pidfd_open(pid)
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        number = libc.syscall(pidfd_getfd, process, int(entry.name), 0)
        if number < 0:
            pytest.skip(f"this system does not let us look: {os.strerror(ctypes.get_errno())}")
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            os.close(number)
            continue
        raw = socket.socket(fileno=number)
        try:
            raw.getpeername()
        except OSError:
            raw.close()  # it listens
        else:
            found.append(raw)
    os.close(process)
    return found


async def test_publishing_ends_when_the_connection_does() -> None:
    """Neither aiomqtt nor paho would tell who waits for an acknowledgement."""
    hang_up = asyncio.Event()

    async def accept_and_fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes.fromhex("20 02 00 00"))  # CONNACK
        await hang_up.wait()
        writer.close()

    server = await asyncio.start_server(accept_and_fall_silent, "127.0.0.1", 0)
    account = Account.from_url(
        f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        username=None,
        password=None,
        ssl_context=None,
        settings=MqttSettings(version="3.1.1"),
    )
    client = await account.connect()
    pump = asyncio.create_task(client.pump(lambda arrival: None))
    waiting = [asyncio.create_task(client.publish("there", b"data", qos=1)) for _ in range(3)]
    waiting += [asyncio.create_task(client.hand_over("there", b"data")) for _ in range(40)]
    await asyncio.sleep(0.05)
    assert not waiting[0].done()
    hang_up.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, LinkClosed) for outcome in outcomes[:3])
    assert any(isinstance(outcome, LinkClosed) for outcome in outcomes[3:]), "some found no room"
    await pump
    await client.close()
    server.close()


@each_broker
async def test_what_the_broker_speaks_is_found_out(open_broker: Any) -> None:
    async with open_broker() as broker:
        is_v5 = isinstance(broker, Mosquitto)
        assert await speaks_v5(broker.host, broker.port, None) is is_v5
        async with listener_at(broker) as listener:
            assert listener._client is not None
            assert listener._client.is_v5 is is_v5
        if not is_v5:
            insisting = dialer(broker, settings=MqttSettings(version="5", timeout_s=0.5))
            with pytest.raises(LinkUnavailable, match=r"does not speak MQTT 5|did not answer"):
                await insisting()


@each_broker
@pytest.mark.parametrize("num_edges", [1, 2])
async def test_any_edge_of_a_pool_may_answer_and_one_serves(open_broker: Any, num_edges: int) -> None:
    async with open_broker() as broker:
        listeners = [listener_at(broker, f"edge-{number + 1}") for number in range(num_edges)]
        for listener in listeners:
            await listener.__aenter__()
        served = []
        for _ in range(12):
            link = await dialer(broker, pool="default")()
            served.append(link.peer)
            edge = await listeners[int(link.peer[-1]) - 1].accept()
            await link.send(b"up")
            assert await edge.receive() == b"up"
            await edge.send(b"down")
            assert await link.receive() == b"down"
            if num_edges == 2 and not isinstance(broker, Mosquitto):
                # In 3.1.1 both are asked; who came too late is told so, though the device is still there.
                late = await listeners[2 - int(link.peer[-1])].accept()
                with pytest.raises(LinkClosed):
                    await late.receive()
            await link.close()
            with pytest.raises(LinkClosed):
                await edge.receive()
        if isinstance(broker, Mosquitto):
            assert set(served) == {f"edge-{number + 1}" for number in range(num_edges)}, "work is shared"
        for listener in listeners:
            await listener.close()


@each_broker
async def test_no_edge_in_the_pool_is_explained(open_broker: Any) -> None:
    async with open_broker() as broker:
        with pytest.raises(LinkUnavailable, match=r"cannot reach an edge of pool 'house'.*nobody answered"):
            await dialer(broker, pool="house", settings=HASTY)()
        with pytest.raises(LinkUnavailable, match=r"cannot reach edge 'edge-1'.*nobody answered"):
            await dialer(broker, settings=HASTY)()
    assert tasks_left() == []


async def test_no_broker_is_explained() -> None:
    with pytest.raises(
        LinkUnavailable, match=r"cannot reach an MQTT broker at mqtt://127\.0\.0\.1:1.*cascade broker"
    ):
        await MqttDialer("mqtt://127.0.0.1:1", device="kettle")()
    with pytest.raises(LinkUnavailable, match="cascade broker"):
        await MqttListener("mqtt://127.0.0.1:1", "edge-1").__aenter__()


async def test_something_else_on_the_port_is_explained() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side has had enough
        writer.close()
        gone.release()

    gone = asyncio.Semaphore(0)

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for version in ("auto", "3.1.1"):
        settings = MqttSettings(timeout_s=0.2, version=version)
        with pytest.raises(LinkUnavailable, match="did not answer: is it an MQTT broker"):
            await MqttDialer(f"mqtt://127.0.0.1:{port}", device="kettle", settings=settings)()
        await gone.acquire()
    server.close()


async def test_a_connection_that_ends_unanswered_is_no_reason_to_wait() -> None:
    """As through a proxy, or at a balancer, behind which the broker is down: only a timeout would tell."""

    async def read_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(read_and_hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for version in ("auto", "3.1.1", "5"):
        settings = MqttSettings(timeout_s=3600, version=version)
        with pytest.raises(LinkUnavailable, match="it hung up before it had answered"):
            await MqttDialer(f"mqtt://127.0.0.1:{port}", device="kettle", settings=settings)()
    server.close()
    assert tasks_left() == []


@each_broker
async def test_a_device_that_vanishes_is_noticed_at_once(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        device, edge = await asyncio.gather(dialer(broker)(), listener.accept())
        vanish(device)
        with pytest.raises(LinkClosed):
            await edge.receive()
        with pytest.raises(LinkClosed):
            await device.receive()
        await device.close()


@each_broker
async def test_an_edge_that_vanishes_is_noticed_at_once(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        device, edge = await asyncio.gather(dialer(broker)(), listener.accept())
        vanish(listener)
        with pytest.raises(LinkClosed):
            await device.receive()
        with pytest.raises(LinkClosed):
            await edge.receive()
        await device.close()
        # It comes back by itself, and says so.
        device, edge = await dial_until_it_works(broker, listener)
        await device.send(b"again")
        assert await edge.receive() == b"again"
        await device.close()
        assert listener.num_connections == 2


@each_broker
async def test_a_device_leaves_the_broker_when_its_link_was_lost(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        device, edge = await asyncio.gather(dialer(broker)(), listener.accept())
        await edge.close()
        with pytest.raises(LinkClosed):
            await device.receive()
        await device.close()
        await device.close()
        assert [name for name in tasks_left() if name == "mqtt-device"] == []
        async with aiomqtt.Client(
            broker.host, broker.port, username="edge-1", password=broker.accounts["edge-1"]
        ) as client:
            await client.subscribe(status("devices", "+"))
            assert (await anext(aiter(client.messages))).payload == b"offline"


@each_broker
async def test_a_false_word_about_our_state_is_put_right(open_broker: Any) -> None:
    """As the will of a connection that was lost long ago does."""
    async with open_broker() as broker, listener_at(broker) as listener:
        async with aiomqtt.Client(
            broker.host, broker.port, username="edge-1", password=broker.accounts["edge-1"]
        ) as client:
            await client.publish(status("edges", "edge-1"), b"offline", 1, retain=True)
        device, edge = await dial_until_it_works(broker, listener)
        await device.send(b"here")
        assert await edge.receive() == b"here"
        await device.close()


async def dial_until_it_works(broker: AnyBroker, listener: MqttListener) -> tuple[Link, Link]:
    async with asyncio.timeout(5):
        while True:
            try:
                device = await dialer(broker)()
            except LinkUnavailable:
                await asyncio.sleep(0.01)
                continue
            while (edge := await listener.accept()).number != device.number:  # type: ignore[attr-defined]
                pass  # of a dial that the device gave up
            return device, edge


@each_broker
async def test_the_newest_dial_counts(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        first, first_edge = await asyncio.gather(dialer(broker)(), listener.accept())
        second, second_edge = await asyncio.gather(dialer(broker)(), listener.accept())
        for link in (first, first_edge):
            with pytest.raises(LinkClosed):
                await link.receive()
        await second.send(b"still here")
        assert await second_edge.receive() == b"still here"
        await second.close()
        await first.close()


@each_broker
async def test_frames_of_an_earlier_life_say_nothing(open_broker: Any) -> None:
    async with open_broker() as broker, listener_at(broker) as listener:
        device, edge = await asyncio.gather(dialer(broker)(), listener.accept())
        stale = (device.number + 1) % 2**16  # type: ignore[attr-defined]
        async with aiomqtt.Client(
            broker.host, broker.port, username="kettle", password=broker.accounts["kettle"]
        ) as client:
            await client.subscribe(device_out("kettle"))
            topic = device_in("edge-1", "kettle")
            for payload in (
                Frame(Kind.DATA, stale, 0, b"stale").encode(),
                Frame(Kind.CLOSE, stale).encode(),
                b"garbage",
                b"",
                Frame(Kind.ACCEPT, stale).encode(),
            ):
                await client.publish(topic, payload, 1)
            answer = await anext(aiter(client.messages))
            assert Frame.decode(bytes(answer.payload)) == Frame(Kind.CLOSE, stale)
        await device.send(b"fresh")
        assert await edge.receive() == b"fresh"
        await device.close()


@each_broker
async def test_other_frames_are_refused_by_name(open_broker: Any) -> None:
    async with (
        open_broker() as broker,
        listener_at(broker),
        aiomqtt.Client(
            broker.host, broker.port, username="kettle", password=broker.accounts["kettle"]
        ) as client,
    ):
        await client.subscribe(device_out("kettle"))
        dial = Frame(Kind.DIAL, 5, FRAME_VERSION + 1).encode()
        await client.publish(pool_open("default", "kettle"), dial, 1)
        answer = Frame.decode(bytes((await anext(aiter(client.messages))).payload))
    assert (answer.kind, answer.link) == (Kind.REFUSE, 5)
    assert b"speaks version 1 of the MQTT frames, not 2" in answer.body


async def test_a_prompt_that_the_broker_would_not_take_fails_its_stream_alone() -> None:
    target = SyntheticTarget(context_length=10_000)
    vocabulary = Vocabulary(size=target.vocab_size, fingerprint=target.vocab_fingerprint)
    settings = MqttSettings(max_payload_bytes=4096)
    async with (
        embedded() as broker,
        listener_at(broker) as listener,
        EdgeServer.of(target, PacedRunner(lambda rows: 0.001)) as edge,
        Device([dialer(broker, settings=settings)], vocabulary=vocabulary) as device,
    ):
        edge.listen(listener)
        with pytest.raises(MessageTooLong, match="shorten the prompt"):
            await anext(aiter(device.stream([1] * 4000, max_new_tokens=1)))
        short = device.stream([1, 2], max_new_tokens=5)
        assert len([token async for token in short]) == 5


@each_broker
async def test_a_wrong_password_ends_the_device_with_the_reason(open_broker: Any) -> None:
    target = SyntheticTarget()
    vocabulary = Vocabulary(size=target.vocab_size, fingerprint=target.vocab_fingerprint)
    async with open_broker() as broker:
        dial = MqttDialer(broker.url, username="kettle", password="guess", edge="edge-1")
        async with Device([dial], vocabulary=vocabulary) as device:
            with pytest.raises(RefusedError, match="check the password"):
                await anext(aiter(device.stream([1], max_new_tokens=1)))


# Presence


@each_broker
async def test_edges_are_listed_with_what_they_say(open_broker: Any) -> None:
    async with open_broker() as broker:
        assert await list_edges(broker.url_for("kettle")) == []
        first = listener_at(broker, about=lambda: {"model": "m", "num_sessions": 1, "max_sessions": 4})
        async with first, listener_at(broker, "edge-2", pool="attic"):
            one, two = await list_edges(broker.url_for("kettle"))
            assert (one.name, one.is_online, one.model, one.pool) == ("edge-1", True, "m", "default")
            assert one.load == 0.25
            assert (two.name, two.is_online, two.load) == ("edge-2", True, None)
        one, two = await list_edges(broker.url_for("kettle"))
        assert not one.is_online
        assert not two.is_online


async def test_what_an_edge_says_is_not_believed_blindly() -> None:
    async with (
        embedded() as broker,
        listener_at(broker),
        aiomqtt.Client(
            broker.host, broker.port, username="edge-1", password=broker.accounts["edge-1"]
        ) as client,
    ):
        for payload in (b"[" * 100_000, b"no json", json.dumps([1]), json.dumps({"model": 1})):
            await client.publish("cascade/v1/edges/edge-1/info", payload, 1, retain=True)
            (edge,) = await list_edges(broker.url_for("kettle"))
            assert (edge.is_online, edge.model, edge.load) == (True, "", None)


def test_the_least_loaded_edge_that_fits_is_chosen() -> None:
    def edge(name: str, load: int, numerics: str = "n", *, is_online: bool = True) -> EdgePresence:
        about = {"numerics": numerics, "num_sessions": load, "max_sessions": 10}
        return EdgePresence(name=name, is_online=is_online, about=about)

    edges = [edge("a", 5), edge("b", 2), edge("c", 1, "other"), edge("d", 0, is_online=False)]
    assert choose_edge(edges) is edges[2]
    assert choose_edge(edges, numerics="n") is edges[1]
    assert choose_edge(edges, numerics="none") is None
    assert choose_edge([EdgePresence(name="silent", is_online=True), edges[0]]) is edges[0]


async def test_the_account_keeps_secrets() -> None:
    account = Account.from_url(
        "mqtt://kettle:hidden@broker", username=None, password=None, ssl_context=None, settings=None
    )
    assert "hidden" not in repr(account)
    assert "hidden" not in account.url


def vanish(end: Any) -> None:
    """As if the process had been killed."""
    socket_of(end).shutdown(socket.SHUT_RDWR)


def socket_of(end: Any) -> socket.socket:
    """Of a link of a device, or of a listener."""
    raw = end._client._client._client.socket()
    assert isinstance(raw, socket.socket)
    return raw
