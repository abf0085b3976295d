"""MQTT: links through a broker. `MqttDialer` for devices, `MqttListener` for edges; the bytes are in
`docs/mqtt.md`.

Each end has one connection to the broker and one task that reads it; links are told apart by topic. Who a
device is says the topic that it writes to, which the broker's access list ties to its account, and where an
answer goes follows from the same topic: what a message says about itself decides neither.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import aiomqtt

from ..errors import LinkClosed, LinkError, LinkUnavailable, RefusedError, SettingsError, WireError
from .base import Link
from .inbox import Inbox
from .mqtt_client import Account, Arrival, BrokerClient, MqttSettings
from .mqtt_frames import (
    FRAME_VERSION,
    LINK_BITS,
    ROOT,
    Frame,
    Kind,
    check_name,
    device_in,
    device_out,
    info,
    pool_open,
    status,
)
from .mqtt_link import MqttLink

__all__ = ["MqttDialer", "MqttListener", "MqttSettings"]

log = logging.getLogger(__name__)

ONLINE, OFFLINE = b"online", b"offline"
DEFAULT_POOL = "default"
MAX_DIALS = 64
"""Devices that have dialled and were not accepted yet; more are told to come back."""
MAX_LINKS = 16_384
DIAL_EVERY_S = 1.0
"""A DIAL that nobody answers is said again: the edge may be on its way back to the broker."""
TELL_EVERY_S = 5.0
"""How often an edge looks whether there is something new to say about itself."""

Info = Mapping[str, Any]


class MqttDialer:
    """Dials through a broker: `Device([MqttDialer("mqtt://kettle:secret@broker", edge="hall")], ...)`.

    Without `edge`, any edge of the `pool` may answer. `device` is our name, by default the account's, to
    which the broker's access list ties it. `about` is published beside our state, for whoever looks after
    devices.
    """

    def __init__(
        self,
        url: str,
        *,
        edge: str | None = None,
        pool: str | None = None,
        device: str | None = None,
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        about: Info | None = None,
        settings: MqttSettings | None = None,
    ) -> None:
        self._account = Account.from_url(
            url, username=username, password=password, ssl_context=ssl_context, settings=settings
        )
        device = device or self._account.username
        if not device:
            raise SettingsError("device", "is needed where there is no account: the name of this device")
        if edge is not None and pool is not None:
            raise SettingsError("pool", "goes without `edge`: dial one edge, or any of a pool")
        self.device = check_name("device", device)
        self._edge = None if edge is None else check_name("edge", edge)
        self._pool = check_name("pool", pool or DEFAULT_POOL)
        self._about = about

    @property
    def url(self) -> str:
        """Of the broker, without account."""
        return self._account.url

    async def __call__(self) -> Link:
        """`LinkUnavailable`: no broker or no edge answers; `RefusedError`: the broker does not want us."""
        state = status("devices", self.device)
        client = await self._account.connect(will=aiomqtt.Will(state, OFFLINE, 1, True))
        end = _DeviceEnd(client, self._account.settings, self.device)
        try:
            await client.subscribe([device_out(self.device)])
            await client.publish(state, ONLINE, qos=1, is_retained=True)
            if self._about is not None:
                about = json.dumps(dict(self._about))
                await client.publish(info("devices", self.device), about, qos=1, is_retained=True)
            if self._edge is not None:
                return await end.dial(device_in(self._edge, self.device), self._edge)
            return await end.dial(pool_open(self._pool, self.device), None)
        except LinkClosed as error:
            await end.hang_up()
            raise LinkUnavailable(f"the broker at {self.url} hung up on us: {error}") from None
        except TimeoutError:
            await end.hang_up()
            where = f"edge {self._edge!r}" if self._edge else f"an edge of pool {self._pool!r}"
            raise LinkUnavailable(
                f"cannot reach {where} through {self.url}: the broker is there, nobody answered; is the edge "
                f"connected to it, and may this account call itself {self.device!r}?"
            ) from None
        except BaseException:
            await end.hang_up()
            raise


class _DeviceEnd:
    """A device's connection, and the one link on it."""

    def __init__(self, client: BrokerClient, settings: MqttSettings, device: str) -> None:
        self._client = client
        self._settings = settings
        self._device = device
        self._number = secrets.randbits(LINK_BITS)
        self._edge: str | None = None
        self._link: MqttLink | None = None
        self._answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The name of the edge that took us."""
        self._pump = asyncio.create_task(self._read(), name="mqtt-device")

    async def dial(self, topic: str, edge: str | None) -> Link:
        """Ask until an edge answers. Raises `TimeoutError` when none does."""
        self._edge = edge
        if edge is not None:
            await self._client.subscribe([status("edges", edge)])
        dial = Frame(Kind.DIAL, self._number, FRAME_VERSION).encode()
        async with asyncio.timeout(self._settings.timeout_s):
            while not self._answer.done():
                await self._client.publish(topic, dial, qos=1)
                await asyncio.wait([self._answer], timeout=DIAL_EVERY_S)
        self._edge = self._answer.result()
        self._link = MqttLink(
            self._client,
            peer=self._edge,
            number=self._number,
            topic=device_in(self._edge, self._device),
            max_payload_bytes=self._settings.max_payload_bytes,
            expiry_s=self._settings.hint_expiry_s,
            on_closed=lambda _link: self.hang_up(),
        )
        if edge is None:
            await self._client.subscribe([status("edges", self._edge)])
        return self._link

    async def hang_up(self) -> None:
        """Leave the broker. The will stays unsaid, so say it."""
        self._give_up(LinkClosed("the link was closed"))
        try:
            async with asyncio.timeout(1.0):
                await self._client.publish(status("devices", self._device), OFFLINE, qos=1, is_retained=True)
        except (LinkClosed, TimeoutError):
            pass  # the broker says it for us
        await self._client.close()
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _read(self) -> None:
        await self._client.pump(self._on_message)
        self._give_up(LinkClosed("the connection to the broker is gone"))

    def _give_up(self, error: Exception) -> None:
        if self._link is not None:
            self._link.lose()
        elif not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # whoever dialled may have gone

    def _on_message(self, arrival: Arrival) -> None:
        if self._edge is not None and arrival.topic == status("edges", self._edge):
            if arrival.payload == OFFLINE:
                text = f"cannot reach edge {self._edge!r}: the broker says that it is offline"
                self._give_up(LinkUnavailable(text))
            elif self._link is not None and not arrival.is_retained:
                self._link.lose()  # it has come anew, and knows nothing of us
            return
        try:
            frame = Frame.decode(arrival.payload)
        except WireError as error:
            log.info("not a frame on %s: %s", arrival.topic, error)
            return
        if frame.link != self._number:
            return  # of an earlier life
        if frame.kind is Kind.ACCEPT:
            self._on_accept(frame)
        elif frame.kind is Kind.REFUSE:
            self._give_up(LinkUnavailable(f"the edge refused: {frame.body[:200].decode(errors='replace')}"))
        elif self._link is not None:
            self._link.on_frame(frame)

    def _on_accept(self, frame: Frame) -> None:
        try:
            edge = check_name("edge", frame.body.decode(errors="replace"))
        except SettingsError:
            return
        if not self._answer.done() and self._edge in (None, edge):
            self._answer.set_result(edge)
        elif self._edge != edge:
            # A second edge of the pool, too late.
            self._client.post(device_in(edge, self._device), Frame(Kind.CLOSE, self._number).encode())


class MqttListener:
    """An edge's ear at a broker: `async with MqttListener(url, "hall") as listener: edge.listen(listener)`.

    Once it has reached the broker it comes back to it, however often that is lost; devices dial again.
    `about` is asked now and then what to publish beside our state: model, numerics, load. A device has one
    link: its newest dial counts.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        pool: str = DEFAULT_POOL,
        username: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        about: Callable[[], Info] | None = None,
        settings: MqttSettings | None = None,
    ) -> None:
        self.name = check_name("name", name)
        self._pool = check_name("pool", pool)
        self._account = Account.from_url(
            url, username=username, password=password, ssl_context=ssl_context, settings=settings
        )
        if self._account.username not in (None, name):
            text = (
                "edge %r has the account %r; with the shipped access list it must be called like its account"
            )
            log.warning(text, name, self._account.username)
        self._settings = self._account.settings
        self._about = about
        self._arrivals: Inbox[Link] = Inbox(MAX_DIALS)
        self._links: dict[str, MqttLink] = {}
        """By device."""
        self._client: BrokerClient | None = None
        self._task: asyncio.Task[None] | None = None
        self._random = random.SystemRandom()
        self.num_connections = 0
        """How often it has reached the broker."""

    @property
    def url(self) -> str:
        """Of the broker, without account."""
        return self._account.url

    async def __aenter__(self) -> MqttListener:
        self._client = await self._connect()
        self._task = asyncio.create_task(self._stay(self._client), name=f"mqtt-{self.name}")
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def accept(self) -> Link:
        return await self._arrivals.get()

    async def close(self) -> None:
        """Hang up on everybody, and leave the broker."""
        self._arrivals.close()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.gather(*(link.close() for link in tuple(self._links.values())))
        client = self._client
        if client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await client.publish(status("edges", self.name), OFFLINE, qos=1, is_retained=True)
            except (LinkClosed, TimeoutError):
                pass  # the broker says it for us
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if client is not None:
            await client.close()  # the task may not have begun

    async def _connect(self) -> BrokerClient:
        state = status("edges", self.name)
        client = await self._account.connect(will=aiomqtt.Will(state, OFFLINE, 1, True))
        try:
            opens = pool_open(self._pool, "+")
            if client.is_v5:
                # One edge of the pool is asked; in 3.1.1 all are, and the first to answer wins.
                opens = f"$share/cascade/{opens}"
            await client.subscribe([device_in(self.name, "+"), opens, status("devices", "+"), state])
            if self._about is not None:
                await self._tell(client, self._about())
            await client.publish(state, ONLINE, qos=1, is_retained=True)
        except BaseException:
            await client.close()
            raise
        self.num_connections += 1
        return client

    async def _stay(self, client: BrokerClient) -> None:
        while True:
            self._client = client
            teller = asyncio.create_task(self._keep_telling(client), name=f"mqtt-about-{self.name}")
            try:
                await client.pump(self._on_message)
            finally:
                self._client = None
                for link in self._links.values():
                    link.lose()
                self._links.clear()
                teller.cancel()
                await asyncio.gather(teller, return_exceptions=True)
                await client.close()
            log.warning("edge %s lost the broker at %s; it tries to come back", self.name, self.url)
            client = await self._come_back()

    async def _come_back(self) -> BrokerClient:
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(self._random.uniform(0, self._settings.backoff_s(attempt)))
            try:
                return await self._connect()
            except (LinkError, RefusedError) as error:
                # Even a refusal may pass: a broker that is being set up knows no accounts yet.
                log.warning("edge %s: %s", self.name, error)

    async def _keep_telling(self, client: BrokerClient) -> None:
        if self._about is None:
            return
        told = self._about()
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            about = self._about()
            if about != told:
                await self._tell(client, about)
                told = about

    async def _tell(self, client: BrokerClient, about: Info) -> None:
        # Whoever has to choose an edge wants to know its pool, too.
        text = json.dumps({**about, "pool": self._pool})
        await client.publish(info("edges", self.name), text, qos=1, is_retained=True)

    def _on_message(self, arrival: Arrival) -> None:
        """From the pump: never waits, never raises. The topic says from whom it is, and what."""
        match arrival.topic.removeprefix(f"{ROOT}/").split("/"):
            case ["edges", self.name, "in", device] | ["pool", self._pool, "open", device]:
                self._on_payload(device, arrival.payload)
            case ["devices", device, "status"]:
                if not arrival.is_retained:  # it went, or it has come anew and will dial
                    self._drop(device)
            case ["edges", self.name, "status"]:
                is_wrong = arrival.payload == OFFLINE and not arrival.is_retained
                if is_wrong and self._client is not None and not self._arrivals.is_closed:
                    # The will of a connection of ours that is long over.
                    self._client.post(arrival.topic, ONLINE, qos=1, is_retained=True)
            case _:
                pass

    def _on_payload(self, device: str, payload: bytes) -> None:
        client = self._client
        try:
            check_name("device", device)
            frame = Frame.decode(payload)
        except (WireError, SettingsError) as error:
            log.info("not a frame from %s: %s", device[:64], error)
            return
        link = self._links.get(device)
        if client is None:
            return
        if frame.kind is Kind.DIAL:
            self._on_dial(client, device, frame)
        elif link is not None and link.number == frame.link:
            link.on_frame(frame)
            if link.is_closed:
                self._links.pop(device, None)
        elif frame.kind in (Kind.DATA, Kind.PROBE):
            client.post(device_out(device), Frame(Kind.CLOSE, frame.link).encode())  # we know nothing of it

    def _on_dial(self, client: BrokerClient, device: str, frame: Frame) -> None:
        topic = device_out(device)
        link = self._links.get(device)
        refusal = ""
        if frame.number != FRAME_VERSION:
            refusal = f"this edge speaks version {FRAME_VERSION} of the MQTT frames, not {frame.number}"
        elif link is None or link.number != frame.link:
            self._drop(device)
            link = MqttLink(
                client,
                peer=device,
                number=frame.link,
                topic=topic,
                max_payload_bytes=self._settings.max_payload_bytes,
                on_closed=self._forget,
            )
            if len(self._links) >= MAX_LINKS or not self._arrivals.offer(link):
                refusal = "too many devices dial at once; try again"
            else:
                self._links[device] = link
        kind, body = (Kind.REFUSE, refusal) if refusal else (Kind.ACCEPT, self.name)
        client.post(topic, Frame(kind, frame.link, FRAME_VERSION, body.encode()).encode(), qos=1)

    def _drop(self, device: str) -> None:
        """Its link is over. Should the device be there after all, it hears so and dials again."""
        link = self._links.pop(device, None)
        if link is not None:
            link.lose()
            if self._client is not None:
                self._client.post(link.topic, Frame(Kind.CLOSE, link.number).encode())

    async def _forget(self, link: MqttLink) -> None:
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
