"""Nobody opens a session, reads, speaks or resumes as another: the shipped access list, on both brokers.

Mallory has an account of her own, and knows all but the others' passwords: names, topics, link numbers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import trustme
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto, Tls
from cascade import Device, EdgeServer, Policy
from cascade.apps.certificates import Certificates, client_context
from cascade.device import Vocabulary
from cascade.errors import LinkUnavailable, RefusedError
from cascade.links.base import Link
from cascade.links.mqtt import MqttDialer, MqttListener, MqttSettings
from cascade.links.mqtt_frames import FRAME_VERSION, Frame, Kind, device_in, device_out, pool_open, status
from cascade.links.mqtt_presence import list_edges
from cascade.testing import PacedRunner, SyntheticTarget

from .places import ACCOUNTS, BROKERS, QUICK, AnyBroker, mosquitto

HASTY = MqttSettings(timeout_s=0.6)
SETTLE_S = 0.3
"""What a broker lets through comes in a millisecond or two; so long we look that nothing does."""

OpenBroker = Callable[[], AbstractAsyncContextManager[AnyBroker]]
each_broker = pytest.mark.parametrize("open_broker", BROKERS)


@asynccontextmanager
async def kettle_at_the_edge(broker: AnyBroker) -> AsyncIterator[tuple[Link, Link]]:
    """The kettle's link: its end, and the edge's."""
    async with MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK) as listener:
        dial = MqttDialer(broker.url_for("kettle"), edge="edge-1", settings=QUICK)
        device, edge = await asyncio.gather(dial(), listener.accept())
        yield device, edge
        await device.close()


@asynccontextmanager
async def mallory_at(broker: AnyBroker, **options: Any) -> AsyncIterator[tuple[aiomqtt.Client, list[str]]]:
    """Her connection, and the topics of all that she hears."""
    heard: list[str] = []
    async with aiomqtt.Client(
        broker.host, broker.port, username="mallory", password=ACCOUNTS["mallory"], **options
    ) as client:

        async def listen() -> None:
            async for message in client.messages:
                heard.append(str(message.topic))

        task = asyncio.create_task(listen())
        yield client, heard
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def works(device: Link, edge: Link) -> bool:
    """Nothing that came before disturbs what comes now."""
    await device.send(b"ping")
    assert await edge.receive() == b"ping"
    await edge.send(b"pong")
    assert await device.receive() == b"pong"
    return True


@each_broker
@pytest.mark.parametrize("account", [None, ("kettle", "guess"), ("nobody", "guess"), ("kettle", "")])
async def test_without_an_account_nobody_comes_in(
    open_broker: OpenBroker, account: tuple[str, str] | None
) -> None:
    name, password = account or (None, None)
    async with open_broker() as broker:
        dial = MqttDialer(broker.url, edge="edge-1", device="kettle", username=name, password=password)
        with pytest.raises(RefusedError, match="check the password") as caught:
            await dial()
        assert caught.value.code == "unauthorized"
        with pytest.raises(RefusedError):
            await MqttListener(broker.url, "edge-1", username=name, password=password).__aenter__()
        with pytest.raises(RefusedError):
            await list_edges(broker.url, username=name, password=password)


@each_broker
async def test_no_account_opens_a_link_as_another(open_broker: OpenBroker) -> None:
    async with (
        open_broker() as broker,
        MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK) as listener,
    ):
        accepting = asyncio.create_task(listener.accept())
        for edge_name in ("edge-1", None):  # None: any edge of the pool
            dial = MqttDialer(broker.url_for("mallory"), device="kettle", edge=edge_name, settings=HASTY)
            with pytest.raises((LinkUnavailable, RefusedError), match=r"may this account|access list"):
                await dial()
        assert not accepting.done()
        dial = MqttDialer(broker.url_for("mallory"), edge="edge-1", settings=QUICK)
        link, edge = await asyncio.gather(dial(), accepting)
        assert edge.peer == "mallory", "as herself she is welcome"
        await link.close()


@each_broker
async def test_no_account_reads_anothers_topics(open_broker: OpenBroker) -> None:
    async with open_broker() as broker, kettle_at_the_edge(broker) as (device, edge):  # noqa: SIM117
        async with mallory_at(broker) as (client, heard):
            for wanted in (
                "#",
                "cascade/#",
                "+/+/+/+/+",
                device_out("kettle"),
                device_in("edge-1", "+"),
                device_in("edge-1", "kettle"),
                pool_open("default", "+"),
                status("devices", "kettle"),
                status("devices", "+"),
                "$share/x/" + device_out("kettle"),
                "$share/x/cascade/v1/devices/+/out",
            ):
                await client.subscribe(wanted)
            assert await works(device, edge)
            await asyncio.sleep(SETTLE_S)
            assert {topic for topic in heard if not topic.startswith("cascade/v1/edges/")} == set()
            assert {topic.rpartition("/")[2] for topic in heard} <= {"status", "info"}


@each_broker
async def test_retained_messages_come_to_who_may_read_them_only(open_broker: OpenBroker) -> None:
    async with open_broker() as broker, kettle_at_the_edge(broker):  # noqa: SIM117
        async with mallory_at(broker) as (client, heard):
            await asyncio.sleep(SETTLE_S)
            assert heard == [], "she has subscribed to nothing"
            await client.subscribe(status("edges", "+"))
            await asyncio.sleep(SETTLE_S)
            assert heard == [status("edges", "edge-1")]


@each_broker
async def test_no_account_speaks_as_another(open_broker: OpenBroker) -> None:
    async with open_broker() as broker, kettle_at_the_edge(broker) as (device, edge):
        number: int = device.number  # type: ignore[attr-defined]  # the worst case: she knows it
        async with mallory_at(broker) as (client, _heard):
            for topic in (
                device_in("edge-1", "kettle"),
                pool_open("default", "kettle"),
                device_out("kettle"),
            ):
                for kind in (Kind.DATA, Kind.DIAL, Kind.CLOSE, Kind.REFUSE):
                    for qos in (0, 1):
                        await client.publish(topic, Frame(kind, number, 0, b"forged").encode(), qos)
            for topic in (status("devices", "kettle"), status("edges", "edge-1")):
                await client.publish(topic, b"offline", 1, retain=True)
            await asyncio.sleep(SETTLE_S)
            assert await works(device, edge)
        edges = await list_edges(broker.url_for("mallory"))
        assert [(one.name, one.is_online) for one in edges] == [("edge-1", True)]


@each_broker
async def test_no_last_will_speaks_as_another(open_broker: OpenBroker) -> None:
    async with open_broker() as broker, kettle_at_the_edge(broker) as (device, edge):
        number: int = device.number  # type: ignore[attr-defined]
        close = Frame(Kind.CLOSE, number).encode()
        for topic, payload in (
            (device_in("edge-1", "kettle"), close),
            (device_out("kettle"), close),
            (status("devices", "kettle"), b"offline"),
            (status("edges", "edge-1"), b"offline"),
        ):
            try:
                async with mallory_at(broker, will=aiomqtt.Will(topic, payload, 1, True)) as (client, _):
                    hang_up_rudely(client)
                    await asyncio.sleep(SETTLE_S)
            except aiomqtt.MqttError:
                pass  # she was not let in with such a will, or complains about her own end
        assert await works(device, edge)


@each_broker
async def test_no_device_is_an_edge(open_broker: OpenBroker) -> None:
    async with open_broker() as broker, kettle_at_the_edge(broker) as (device, edge):
        for name in ("edge-1", "mallory"):
            false_edge = MqttListener(broker.url_for("mallory"), name, settings=QUICK)
            try:
                await false_edge.__aenter__()
            except RefusedError:
                continue
            dial = MqttDialer(broker.url_for("kettle"), edge="mallory", settings=HASTY)
            with pytest.raises(LinkUnavailable):
                await dial()
            await false_edge.close()
            assert false_edge._links == {}
        if not edge.is_closed:  # type: ignore[attr-defined]
            assert await works(device, edge)


@each_broker
async def test_no_edge_speaks_as_another_edge(open_broker: OpenBroker) -> None:
    async with open_broker() as broker:
        with_wrong_name = MqttListener(broker.url_for("edge-2"), "edge-1", settings=QUICK)
        try:
            await with_wrong_name.__aenter__()
        except RefusedError:
            return
        dial = MqttDialer(broker.url_for("kettle"), edge="edge-1", settings=HASTY)
        with pytest.raises(LinkUnavailable):
            await dial()
        await with_wrong_name.close()


@each_broker
async def test_a_session_belongs_to_the_topic_not_to_what_hello_says(open_broker: OpenBroker) -> None:
    target = SyntheticTarget()
    async with (
        open_broker() as broker,
        MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK) as listener,
        EdgeServer.of(target, PacedRunner(lambda rows: 0.002)) as edge,
    ):
        edge.listen(listener)
        sessions = set()
        for name in ("kettle", "mallory"):
            async with Device(
                [MqttDialer(broker.url_for(name), edge="edge-1", settings=QUICK)],
                vocabulary=Vocabulary(size=target.vocab_size, fingerprint=target.vocab_fingerprint),
                identity="kettle",  # what she says about herself
                seed=1,  # so both choose the same session id
            ) as device:
                stream = device.stream([1, 2], max_new_tokens=3, policy=Policy.cloud())
                assert len([token async for token in stream]) == 3
            sessions = {session.key for session in edge._sessions}
        assert {identity for identity, _ in sessions} == {"kettle", "mallory"}
        assert len({session_id for _, session_id in sessions}) == 1


@pytest.mark.needs_mosquitto
async def test_answers_go_by_the_topic_not_by_the_response_topic() -> None:
    async with mosquitto() as broker, kettle_at_the_edge(broker) as (device, edge):
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = device_out("kettle")
        async with mallory_at(broker, protocol=aiomqtt.ProtocolVersion.V5) as (client, heard):
            await client.subscribe(device_out("mallory"))
            number: int = device.number  # type: ignore[attr-defined]
            dial = Frame(Kind.DIAL, number, FRAME_VERSION, device_out("kettle").encode()).encode()
            await client.publish(device_in("edge-1", "mallory"), dial, 1, properties=properties)
            await asyncio.sleep(SETTLE_S)
            assert heard == [device_out("mallory")]
        assert await works(device, edge)


@pytest.mark.needs_mosquitto
async def test_a_certificate_is_an_account_and_others_are_refused(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    server = ours.issue_cert("127.0.0.1")
    files = Tls(
        ca=tmp_path / "ca.pem",
        certificate=tmp_path / "server.pem",
        key=tmp_path / "server.key",
        needs_client_certificate=True,
    )
    ours.cert_pem.write_to_path(files.ca)
    server.cert_chain_pems[0].write_to_path(files.certificate)
    server.private_key_pem.write_to_path(files.key)

    def client(ca: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        ours.configure_trust(context)
        ca.issue_cert(f"{name}.example.org", common_name=name).configure_cert(context)
        return context

    async with Mosquitto(tls=files) as broker:
        edge_context = client(ours, "edge-1")
        async with MqttListener(broker.url, "edge-1", ssl_context=edge_context, settings=QUICK) as listener:
            dial = MqttDialer(broker.url, device="kettle", edge="edge-1", ssl_context=client(ours, "kettle"))
            device, edge = await asyncio.gather(dial(), listener.accept())
            assert edge.peer == "kettle"
            assert await works(device, edge)
            for context, name in (
                (client(theirs, "kettle"), "kettle"),  # not our CA
                (trusting(ours), "kettle"),  # no certificate at all
                (client(ours, "mallory"), "kettle"),  # ours, of another name
            ):
                stranger = MqttDialer(
                    broker.url, device=name, edge="edge-1", ssl_context=context, settings=HASTY
                )
                with pytest.raises((LinkUnavailable, RefusedError)):
                    await stranger()
            with pytest.raises(LinkUnavailable, match="certificate"):
                await MqttDialer(broker.url, device="kettle", edge="edge-1")()  # does not trust our CA
            assert await works(device, edge)
            await device.close()


async def test_the_embedded_broker_speaks_tls_and_whoever_does_not_know_its_ca_says_no_password(
    tmp_path: Path,
) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    certificate, key, ca = tmp_path / "broker.crt", tmp_path / "broker.key", tmp_path / "ca.crt"
    issued = ours.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    ours.cert_pem.write_to_path(ca)
    async with EmbeddedBroker(
        accounts=ACCOUNTS, ssl_context=Certificates(certificate, key).context
    ) as broker:
        assert broker.url.startswith("mqtts://")
        async with MqttListener(
            broker.url_for("edge-1"), "edge-1", ssl_context=trusting(ours), settings=QUICK
        ) as listener:
            dial = MqttDialer(broker.url_for("kettle"), edge="edge-1", ssl_context=client_context(ca))
            device, edge = await asyncio.gather(dial(), listener.accept())
            assert await works(device, edge)
            stranger = MqttDialer(broker.url_for("kettle"), edge="edge-1", ssl_context=trusting(theirs))
            with pytest.raises(LinkUnavailable, match="certificate verify failed"):
                await stranger()
            wrong = MqttDialer(
                broker.url, username="kettle", password="wrong", ssl_context=trusting(ours), settings=QUICK
            )
            with pytest.raises(RefusedError, match="check the password"):
                await wrong()
            in_the_clear = MqttDialer(
                broker.url_for("kettle").replace("mqtts", "mqtt"), edge="edge-1", settings=HASTY
            )
            with pytest.raises(LinkUnavailable):
                await in_the_clear()
            assert await works(device, edge)
            await device.close()


@each_broker
async def test_secrets_never_reach_a_log(open_broker: OpenBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("mqtt", "amqtt", "transitions"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with open_broker() as broker:
        wrong = MqttDialer(broker.url, username="kettle", password="guess me not", edge="edge-1")
        listener = MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK)
        said = [repr(wrong), repr(wrong.__dict__), repr(listener), repr(listener.__dict__), repr(broker)]
        with pytest.raises(RefusedError) as caught:
            await wrong()
        said.append(str(caught.value))
        async with kettle_at_the_edge(broker) as (device, edge):
            assert await works(device, edge)
            said += [repr(device), repr(device.__dict__), repr(edge.__dict__)]
    said.append("\n".join(r.getMessage() for r in caplog.records if r.name.startswith(("cascade", "mqtt"))))
    for secret in (*ACCOUNTS.values(), "guess me not"):
        assert not any(secret in text for text in said)


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def hang_up_rudely(client: aiomqtt.Client) -> None:
    """As a crash would, so that the broker says the last will."""
    raw = client._client.socket()
    assert isinstance(raw, socket.socket)
    raw.shutdown(socket.SHUT_RDWR)
