"""A broker inside this process: amqtt on loopback, with accounts and the access list that we ship.

For a try, for tests, for a handful of devices in a house. It speaks MQTT 3.1.1 and keeps nothing on disk;
what it cannot do is in `brokers/README.md`. Starts in milliseconds.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
import urllib.parse
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.errors import BrokerError

from cascade.errors import LinkUnavailable
from cascade.links.listening import cannot_listen

from .access import AccessList, access_list_text
from .accounts import new_password

__all__ = ["EmbeddedBroker"]

log = logging.getLogger(__name__)

LISTENER = "default"
STOP_S = 5.0
"""How long a polite end may take."""


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker: ...`; `broker.url_for(name)` is where it listens, with account.

    `accounts` are names with passwords, those of `edges` among them; what has none is given one. Names in
    `edges` and `gateways` may do what those may, all others what a device or a thing may. Port 0 takes a free
    one.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        accounts: Mapping[str, str] | None = None,
        devices: Iterable[str] = ("device-1",),
        edges: Iterable[str] = ("edge-1",),
        gateways: Iterable[str] = (),
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`ssl_context` is a server's, with its certificate; without one there is no TLS."""
        self.host = host
        self.port = port
        self.edges = tuple(edges)
        self.gateways = tuple(gateways)
        self.accounts = dict(accounts or {})
        for name in (*self.edges, *self.gateways, *devices):
            self.accounts.setdefault(name, new_password())
        self._ssl_context = ssl_context
        self._broker: _Broker | None = None

    def __repr__(self) -> str:
        return f"EmbeddedBroker({self.url!r}, accounts={sorted(self.accounts)})"

    @property
    def url(self) -> str:
        """Without account."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def _scheme(self) -> str:
        return "mqtt" if self._ssl_context is None else "mqtts"

    def url_for(self, name: str) -> str:
        """With this account's name and password: a secret."""
        password = urllib.parse.quote(self.accounts[name], safe="")
        return f"{self._scheme}://{urllib.parse.quote(name, safe='')}:{password}@{self.host}:{self.port}"

    async def __aenter__(self) -> EmbeddedBroker:
        # What a client does wrong is a warning in its own log; here it is noise.
        for name in ("amqtt", "transitions"):
            logger = logging.getLogger(name)
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.CRITICAL)
        access = AccessList(access_list_text(self.edges, self.gateways))
        broker = _Broker(f"{self.host}:{self.port}", self.accounts, access, self._ssl_context)
        try:
            await broker.start()
        except BrokerError as error:
            cause = error.__cause__
            await broker.end()
            if isinstance(cause, OSError):
                raise cannot_listen(self.host, self.port, cause) from None
            raise LinkUnavailable(f"the embedded broker does not start: {cause or error}") from None
        self._broker = broker
        self.port = broker.port
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.end()


class _Broker(Broker):  # type: ignore[misc]
    """amqtt, with our rules in three places in which its own leave something open.

    They answer without waiting, which amqtt relies on: it walks over its subscriptions meanwhile.
    """

    def __init__(
        self,
        address: str,
        accounts: Mapping[str, str],
        access: AccessList,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        listener = {"type": "tcp", "bind": address, "ssl": ssl_context is not None}
        super().__init__({"listeners": {LISTENER: listener}, "plugins": {}})
        self._ssl_context = ssl_context
        self._accounts = accounts
        self._access = access
        self._connections: set[asyncio.Task[Any]] = set()

    @property
    def port(self) -> int:
        return int(self._servers[LISTENER].instance.sockets[0].getsockname()[1])

    def _create_ssl_context(self, _listener: Any) -> ssl.SSLContext | None:
        return self._ssl_context

    async def end(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                if self.transitions.state == "started":
                    await self.shutdown()
                else:
                    await self.plugins_manager.close()
        except TimeoutError:
            log.warning("the embedded broker did not stop in time; its connections are cut")
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """amqtt leaves sockets open on some of its ways out."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await super().stream_connected(reader, writer, listener_name)
        except asyncio.CancelledError:
            pass  # asyncio would log it as a failure of the callback
        finally:
            self._connections.discard(task)
            writer.close()

    async def _authenticate(self, session: Any, _listener: Any) -> bool:
        password = self._accounts.get(session.username or "")
        given = session.password or ""
        is_known = password is not None and hmac.compare_digest(password.encode(), given.encode())
        # A last will is published without asking anybody: so ask now.
        return is_known and (not session.will_flag or self._may(session, "write", session.will_topic))

    async def _topic_filtering(self, session: Any, topic: str, action: Action) -> bool:
        return self._may(session, "write" if action is Action.PUBLISH else "read", topic)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        """amqtt hands a client that connects what matches anybody's subscription."""
        wanted, qos = subscription
        handler = self._get_handler(session)
        if handler is None or all(known is not session for known, _ in self._subscriptions.get(wanted, ())):
            return
        await asyncio.gather(
            *(
                handler.mqtt_publish(topic, retained.data, min(qos, retained.qos or qos), retain=True)
                for topic, retained in tuple(self._retained_messages.items())
                if self._matches(topic, wanted)  # a filter that was granted matches nothing else
            ),
            return_exceptions=True,
        )

    def _may(self, session: Any, access: str, topic: str | None) -> bool:
        return bool(topic) and self._access.allows(session.username or "", access, topic or "")
