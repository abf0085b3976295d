"""One connection to an MQTT broker: who we are there, which MQTT it speaks, and publishing that ends when it
ends.

aiomqtt neither reconnects nor routes, and a publish that waits does not notice that the connection is gone;
`BrokerClient` adds the last, the link and the listener the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ..errors import CascadeError, LinkClosed, LinkUnavailable, RefusedError, SettingsError
from ..settings import check_choice, check_int, check_number
from .listening import os_reason

__all__ = ["Account", "Arrival", "BrokerClient", "MqttSettings", "OnMessage", "speaks_v5"]

paho_log = logging.getLogger(f"{__name__}.paho")
paho_log.setLevel(logging.CRITICAL)  # what it complains about, we raise

PORT = 1883
TLS_PORT = 8883
NO_DELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""paho never sets it, and Nagle with delayed acknowledgements costs 40 ms a message each way."""
MAX_ARRIVALS = 4096
"""Messages that wait for the pump; it only hands on, so they hardly ever do. More are dropped."""
MAX_UNACKNOWLEDGED = 16
"""Of QoS 1; paho keeps 20 on their way and queues what is more without end."""
MAX_POSTS = 1024
"""Answers that wait for a congested socket; more are dropped, and asked for again."""
GOODBYE_S = 1.0
"""How long a polite end may take."""

KNOCK = bytes.fromhex("10 0d 00 04 4d 51 54 54 05 02 00 0a 00 00 00")
"""CONNECT: MQTT, version 5, clean start, keep alive 10 s, no properties, no client id."""
CONNACK = 0x20
WRONG_VERSION, WRONG_VERSION_V311 = 132, 1
UNAUTHORIZED = frozenset({134, 135, 140})
"""MQTT 5 reason codes; paho translates those of 3.1.1."""
REFUSED = 128
"""Grants of a subscription from here on are none."""


MAX_DOUBLINGS = 64
"""Of the ceiling: far beyond any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """How to use a broker. The defaults fit mosquitto, EMQX and amqtt as they come."""

    version: str = "auto"
    """`auto` takes MQTT 5 where the broker has it and 3.1.1 elsewhere; `5` and `3.1.1` insist."""
    keepalive_s: int = 20
    """After 1.5 times this silence the broker declares us gone, and says so to the other side."""
    timeout_s: float = 10.0
    """For a broker to answer, and for an edge to accept."""
    max_payload_bytes: int = 1_000_000
    """Of one MQTT message. AWS IoT Core takes 131,072, EMQX 1 MB; a larger one costs the connection."""
    hint_expiry_s: int = 3
    """MQTT 5: the broker drops what has waited for a slow edge for so long. 0 is never."""
    backoff_first_s: float = 0.1
    """The ceiling of the first wait."""
    backoff_ceiling_s: float = 5.0
    """An edge comes back to a lost broker after a random wait below a ceiling that doubles up to this."""

    def __post_init__(self) -> None:
        check_choice("version", self.version, ("auto", "5", "3.1.1"))
        check_int("keepalive_s", self.keepalive_s, low=1, high=65_535)
        check_number("timeout_s", self.timeout_s, low=0.01)
        check_int("max_payload_bytes", self.max_payload_bytes, low=1024, high=268_435_455)
        check_int("hint_expiry_s", self.hint_expiry_s, low=0)
        check_number("backoff_first_s", self.backoff_first_s, low=0)
        check_number("backoff_ceiling_s", self.backoff_ceiling_s, low=0)

    def backoff_s(self, attempt: int) -> float:
        """The ceiling before this attempt, from 1 on; a float holds no power of hours of attempts."""
        doubled_s: float = self.backoff_first_s * 2 ** min(attempt, MAX_DOUBLINGS)
        return min(self.backoff_ceiling_s, doubled_s)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that the broker handed us."""

    topic: str
    payload: bytes
    is_retained: bool


OnMessage = Callable[[Arrival], None]


@dataclass(slots=True)
class Account:
    """Where a broker is, and who we are there. Its repr has no secrets."""

    host: str
    port: int
    username: str | None
    settings: MqttSettings
    password: str | None = field(repr=False)
    ssl_context: ssl.SSLContext | None = field(repr=False)
    _is_v5: bool | None = field(default=None, init=False, repr=False)
    """Whether the broker was found to speak MQTT 5."""

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        username: str | None,
        password: str | None,
        ssl_context: ssl.SSLContext | None,
        settings: MqttSettings | None,
    ) -> Account:
        """`mqtt://[user:password@]host[:port]`, or `mqtts://` for TLS."""
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError:
            raise SettingsError("url", "is no URL; write mqtt://host:port or mqtts://host:port") from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            raise SettingsError("url", "must be mqtt://host:port, or mqtts://host:port for TLS")
        is_tls = parts.scheme == "mqtts"
        if ssl_context is not None and not is_tls:
            raise SettingsError("ssl_context", "goes with mqtts://, not with mqtt://")
        if is_tls and ssl_context is None:
            ssl_context = ssl.create_default_context()
        return cls(
            host=parts.hostname,
            port=port or (TLS_PORT if is_tls else PORT),
            username=username or (urllib.parse.unquote(parts.username) if parts.username else None),
            password=password or (urllib.parse.unquote(parts.password) if parts.password else None),
            ssl_context=ssl_context,
            settings=settings or MqttSettings(),
        )

    @property
    def url(self) -> str:
        """Without account."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtt' if self.ssl_context is None else 'mqtts'}://{host}:{self.port}"

    async def connect(self, *, will: aiomqtt.Will | None = None) -> BrokerClient:
        """Raises `LinkUnavailable` where no broker answers, and `RefusedError` where it does not want us."""
        client: _Client | None = None
        try:
            is_v5 = await self._speaks_v5()
            client = self._client(is_v5, will)
            await client.__aenter__()
        except BaseException as error:
            self._is_v5 = None  # the broker may be replaced by one that speaks another
            if client is not None:
                client._client.disconnect()  # aiomqtt would leave the socket open until the keep-alive ends
            if isinstance(error, aiomqtt.MqttError | OSError | TimeoutError):
                raise self._explained(error) from None
            raise
        return BrokerClient(client, is_v5=is_v5)

    async def _speaks_v5(self) -> bool:
        if self.settings.version != "auto":
            return self.settings.version == "5"
        if self._is_v5 is None:
            async with asyncio.timeout(self.settings.timeout_s):
                self._is_v5 = await speaks_v5(self.host, self.port, self.ssl_context)
        return self._is_v5

    def _client(self, is_v5: bool, will: aiomqtt.Will | None) -> _Client:
        client = _Client(
            self.host,
            self.port,
            username=self.username,
            password=self.password,
            # Whoever knows a client's id can throw it out of many brokers: nobody shall.
            identifier=f"cascade-{secrets.token_hex(7)}",
            protocol=aiomqtt.ProtocolVersion.V5 if is_v5 else aiomqtt.ProtocolVersion.V311,
            will=will,
            clean_session=None if is_v5 else True,
            timeout=self.settings.timeout_s,
            keepalive=self.settings.keepalive_s,
            tls_context=self.ssl_context,
            socket_options=NO_DELAY,
            logger=paho_log,
            max_queued_incoming_messages=MAX_ARRIVALS,
        )
        client.pending_calls_threshold = MAX_POSTS + MAX_ARRIVALS  # ours are bounded where they arise
        return client

    def _explained(self, error: Exception) -> CascadeError:
        code = _code(error)
        if code in UNAUTHORIZED:
            who = f"account {self.username!r}" if self.username else "anybody without account"
            text = f"the broker at {self.url} does not let in {who}; check the password, and the access list"
            return RefusedError("unauthorized", text)
        if code == WRONG_VERSION:
            return LinkUnavailable(
                f"the broker at {self.url} does not speak MQTT {self.settings.version}; "
                "version='auto' finds out what it speaks"
            )
        if isinstance(error, TimeoutError) or "timed out" in str(error):
            hint = "is it an MQTT broker"
            if self.ssl_context is not None:
                hint += ", and does it know the CA of our certificate"
            return LinkUnavailable(
                f"the broker at {self.url} took the connection and did not answer: {hint}?"
            )
        if isinstance(error, ssl.SSLError):
            return LinkUnavailable(
                f"no TLS with the broker at {self.url}: {os_reason(error)}; "
                "has it TLS on this port, and was the CA of its certificate given?"
            )
        reason = os_reason(error) if isinstance(error, OSError) else error
        return LinkUnavailable(
            f"cannot reach an MQTT broker at {self.url}: {reason}; "
            "`cascade broker` starts one on this machine"
        )


async def speaks_v5(host: str, port: int, ssl_context: ssl.SSLContext | None) -> bool:
    """Knock with a version 5 CONNECT that says nothing about us, and see whether the answer is one of version
    5.

    A broker of 3.1.1 has to refuse it by name. Brokers have been seen to wait for ever instead when such a
    CONNECT has an account or a will, so the real one is no good for finding out.
    """
    reader, writer = await asyncio.open_connection(host, port, ssl=ssl_context)
    try:
        writer.write(KNOCK)
        answer = await reader.readexactly(4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return False  # hung up on strangers: 3.1.1 will do for all we need
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
    return answer[0] == CONNACK and answer[3] not in (WRONG_VERSION, WRONG_VERSION_V311)


class BrokerClient:
    """A connection that is up, until it is lost; it does not come back."""

    def __init__(self, client: _Client, *, is_v5: bool) -> None:
        self.is_v5 = is_v5
        self.num_dropped = 0
        """Answers that found no room."""
        self._client = client
        self._is_lost = False
        self._waits: set[asyncio.Timeout] = set()
        """Publishes that wait for the socket or for the broker: all fail at once when the connection is lost.
        """
        self._unacknowledged = asyncio.Semaphore(MAX_UNACKNOWLEDGED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._aliases: dict[str, int] = {}

    async def subscribe(self, filters: Sequence[str]) -> None:
        """All of them, at QoS 1. Raises `RefusedError` where the broker grants one of them not."""
        try:
            grants = await self._client.subscribe([(name, 1) for name in filters])
        except (aiomqtt.MqttError, ValueError) as error:
            raise LinkClosed(f"the broker did not subscribe us: {error}") from None
        for name, grant in zip(filters, grants, strict=False):
            if _number(grant) >= REFUSED:  # a number in 3.1.1, a reason in 5
                raise RefusedError("unauthorized", f"the broker's access list does not let us read {name}")

    async def publish(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 0,
        is_retained: bool = False,
        expiry_s: int = 0,
        is_frequent: bool = False,
    ) -> None:
        """Wait until the socket took it (QoS 0), or the broker has it (QoS 1). Raises `LinkClosed`.

        A topic that is frequent is said once, and a number stands for it from then on, where the broker
        allows it.
        """
        if self._is_lost:
            raise LinkClosed("the connection to the broker is gone")
        properties: Properties | None = None
        if self.is_v5:
            alias, topic = self._alias(topic) if is_frequent else (0, topic)
            properties = _properties(expiry_s, alias)
        try:
            async with asyncio.timeout(None) as wait:
                self._waits.add(wait)
                try:
                    await self._client.publish(topic, payload, qos, is_retained, properties, timeout=math.inf)
                finally:
                    self._waits.discard(wait)
        except (aiomqtt.MqttError, TimeoutError) as error:
            raise LinkClosed(f"the connection to the broker is gone: {error}") from None

    def _alias(self, topic: str) -> tuple[int, str]:
        """The number that stands for a topic, and what of the topic has to be said."""
        alias = self._aliases.get(topic)
        if alias is not None:
            return alias, ""
        if len(self._aliases) >= self._client.topic_alias_maximum:
            return 0, topic
        alias = self._aliases[topic] = len(self._aliases) + 1
        return alias, topic

    async def hand_over(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 and return when it is on its way: what is sent next need not wait a round trip."""
        await self._unacknowledged.acquire()
        if self._is_lost:
            self._unacknowledged.release()
            raise LinkClosed("the connection to the broker is gone")
        task = self._spawn(self.publish(topic, payload, qos=1))
        task.add_done_callback(lambda _task: self._unacknowledged.release())
        await asyncio.sleep(0)  # the task begins now, so nothing overtakes it

    def post(self, topic: str, payload: bytes, *, qos: int = 0, is_retained: bool = False) -> None:
        """Publish an answer some time soon; for those who cannot wait. Nobody learns what came of it."""
        if len(self._tasks) >= MAX_POSTS:
            self.num_dropped += 1
        elif not self._is_lost:
            self._spawn(self.publish(topic, payload, qos=qos, is_retained=is_retained))

    async def pump(self, on_message: OnMessage) -> None:
        """Hand on what arrives, until the connection is lost. `on_message` must not raise."""
        try:
            async for message in self._client.messages:
                payload = message.payload
                if isinstance(payload, bytes | bytearray):  # what else there is in the type does not arrive
                    on_message(Arrival(str(message.topic), bytes(payload), bool(message.retain)))
        except aiomqtt.MqttError:
            pass
        finally:
            self._lose()

    async def close(self) -> None:
        """Say goodbye, so that the last will stays unsaid."""
        await asyncio.sleep(0)  # what was posted just now comes before it
        self._lose()
        self._client.timeout = GOODBYE_S
        try:
            await self._client.__aexit__(None, None, None)
            while True:  # to the reason of the end, or asyncio complains that nobody has read it
                await anext(self._client.messages)
        except aiomqtt.MqttError:
            pass  # it was gone already
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _lose(self) -> None:
        self._is_lost = True
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now_s)

    def _spawn(self, publish: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(publish, name="mqtt-publish")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the connection is gone: the pump says so


class _Client(aiomqtt.Client):
    """aiomqtt does not tell what the broker says about itself, and waits on when it hung up unanswered."""

    topic_alias_maximum = 0

    def _on_connect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: Any,
        properties: Properties | None = None,
    ) -> None:
        self.topic_alias_maximum = getattr(properties, "TopicAliasMaximum", 0)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: Any,
        userdata: Any,
        flags: Any,
        reason_code: Any,
        properties: Properties | None = None,
    ) -> None:
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._loop.call_soon_threadsafe(self._fail_if_unanswered)  # it may be the thread that connects

    def _fail_if_unanswered(self) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("it hung up before it had answered"))
            self._connected.exception()  # whoever connected may have gone


def _properties(expiry_s: int, alias: int) -> Properties | None:
    if not (expiry_s or alias):
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry_s:
        properties.MessageExpiryInterval = expiry_s
    if alias:
        properties.TopicAlias = alias
    return properties


def _number(grant: Any) -> int:
    return int(getattr(grant, "value", grant))


def _code(error: Exception) -> int | None:
    code = getattr(error, "rc", None)
    return code if isinstance(code, int) else getattr(code, "value", None)
