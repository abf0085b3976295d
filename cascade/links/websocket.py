"""HTTP: one WebSocket at `/v1/link` for each device, every binary frame a message.

TCP keeps order and loses nothing, and aiohttp sets TCP_NODELAY on both ends. What TCP does not do is say
that the other side is gone: frames of its own ping every `HEARTBEAT_S`, and sessions watch for silence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

from ..errors import LinkClosed, LinkUnavailable, RefusedError, SettingsError
from ..settings import MAX_MESSAGE_BYTES
from .base import Link
from .inbox import Inbox
from .listening import cannot_listen, os_reason

__all__ = [
    "LINK_PATH",
    "Identify",
    "WebSocketDialer",
    "WebSocketListener",
    "bearer_token",
    "certificate_name",
]

LINK_PATH = "/v1/link"
HEARTBEAT_S = 20.0
DIAL_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 10.0
"""A connection that has not asked for anything by then, or by twice that, is cut."""
CLOSE_TIMEOUT_S = 1.0
"""How long a polite goodbye may take; afterwards the socket is cut."""
MAX_ARRIVALS = 64
"""Devices that have connected and were not accepted yet; more are told to come back."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Identify = Callable[[str], str | None]
"""Bearer token -> the identity that it stands for; None: nobody's."""


class WebSocketDialer:
    """Dials one edge: `Device([WebSocketDialer("ws://edge:8080")], ...)`.

    `ssl_context` is for a CA or a client certificate of your own. HTTP proxies are taken from `proxy`, or
    from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise SettingsError("url", f"must begin with ws:// or wss://, not {url[:64]!r}")
        self.url = url.rstrip("/")
        if not self.url.endswith(LINK_PATH):
            self.url += LINK_PATH
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._ssl_context = ssl_context
        self._proxy = proxy

    async def __call__(self) -> Link:
        """Connect. `LinkUnavailable`: nobody answers; `RefusedError`: the edge does not know our token."""
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), trust_env=self._proxy is None
        )
        try:
            # TCP alone proves nothing: a proxy may be near, and a dead link behind it.
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                socket = await session.ws_connect(
                    self.url,
                    headers=self._headers,
                    ssl=self._ssl_context or True,
                    proxy=self._proxy,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            await session.close()
            if error.status == HTTPStatus.UNAUTHORIZED:
                text = f"{self.url} does not know this token; give one that it knows (--token, CASCADE_TOKEN)"
                raise RefusedError("unauthorized", text) from None
            raise LinkUnavailable(
                f"{self.url} answered {error.status} instead of opening a link; "
                "is that an edge? `cascade serve` prints the address of one"
            ) from None
        except TimeoutError:
            await session.close()
            raise LinkUnavailable(f"cannot reach {self.url}: no answer within {DIAL_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            await session.close()
            raise LinkUnavailable(
                f"cannot reach {self.url}: {_reason(error)}; see that an edge runs there (`cascade serve`)"
            ) from None
        except BaseException:
            await session.close()
            raise
        return _WebSocketLink(socket, peer="", session=session)


def bearer_token(request: web.Request) -> str:
    """The token that a request brings; empty when it brings none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def certificate_name(request: web.Request) -> str:
    """Who the client's certificate says it is (its common name); empty without one."""
    certificate: dict[str, Any] | None = request.get_extra_info("peercert")
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


class WebSocketListener:
    """An edge's ear on HTTP: `async with WebSocketListener() as listener: edge.listen(listener)`.

    With `identify`, a device has to bring a bearer token, and its identity is what the token stands for,
    whatever it says about itself; without, it is what its certificate says, where it has one. Port 0 takes
    a free one; `url` says which. `routes` are others' pages on the same port.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        identify: Identify | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        routes: Iterable[web.RouteDef] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._identify = identify
        self._max_message_bytes = max_message_bytes
        self._request_timeout_s = request_timeout_s
        self._routes = tuple(routes)
        self._arrivals: Inbox[Link] = Inbox(MAX_ARRIVALS)
        self._spoke: set[web.RequestHandler] = set()
        """Connections that have asked for something."""
        self._watch: asyncio.Task[None] | None = None
        self._links: dict[_WebSocketLink, str] = {}
        """And the token that each came in with."""
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where devices dial."""
        scheme = "ws" if self._ssl_context is None else "wss"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}{LINK_PATH}"

    async def __aenter__(self) -> WebSocketListener:
        app = web.Application(client_max_size=self._max_message_bytes, middlewares=[self._note])
        app.router.add_get(LINK_PATH, self._serve)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._ssl_context)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise cannot_listen(self._host, self._port, error) from None
        self._port = self._runner.addresses[0][1]
        self._watch = asyncio.create_task(self._cut_mute(self._runner), name="http-watch")
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
        """Stop listening and hang up on everybody."""
        self._arrivals.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in tuple(self._links)))
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def hang_up_on_strangers(self) -> None:
        """Tokens were revoked, or stand for somebody else: end the links that came in with them."""
        identify = self._identify
        if identify is not None:
            strangers = [link for link, token in self._links.items() if identify(token) != link.peer]
            await asyncio.gather(*(link.close() for link in strangers))

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._spoke.add(request.protocol)
        return await handler(request)

    async def _cut_mute(self, runner: web.AppRunner) -> None:
        """Whoever connects and asks for nothing holds a file of ours, and there are only so many."""
        mute: set[web.RequestHandler] = set()
        while runner.server is not None:
            await asyncio.sleep(self._request_timeout_s)
            connections = set(runner.server.connections)
            self._spoke &= connections
            for connection in connections - self._spoke:
                if connection in mute and connection.transport is not None:
                    connection.transport.abort()
            mute = connections - self._spoke

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        token = ""
        peer: str | None = certificate_name(request)
        if self._identify is not None:
            token = bearer_token(request)
            peer = self._identify(token)
        if peer is None:
            return web.Response(
                status=HTTPStatus.UNAUTHORIZED,
                headers={"WWW-Authenticate": "Bearer"},
                text="a bearer token that this edge knows is needed\n",
            )
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S,
            max_msg_size=self._max_message_bytes,
            timeout=CLOSE_TIMEOUT_S,
            compress=False,  # packed tokens do not shrink, and unpacking is work that strangers could order
        )
        if not socket.can_prepare(request).ok:
            return web.Response(status=HTTPStatus.UPGRADE_REQUIRED, text="this is a WebSocket endpoint\n")
        await socket.prepare(request)
        link = _WebSocketLink(socket, peer=peer, transport=request.transport)
        if not self._arrivals.offer(link):
            await socket.close(code=aiohttp.WSCloseCode.TRY_AGAIN_LATER)
            return socket
        self._links[link] = token
        try:
            await link.wait_closed()
        finally:
            del self._links[link]
        return socket


class _WebSocketLink:
    """Either end of a connection."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
        *,
        peer: str,
        session: aiohttp.ClientSession | None = None,
        transport: asyncio.Transport | None = None,
    ) -> None:
        self.peer = peer
        self._socket = socket
        self._session = session
        self._transport = transport
        self._closed = asyncio.Event()

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        if self._closed.is_set() or self._socket.closed:
            raise LinkClosed("the link was closed")
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise LinkClosed(f"the link broke: {_reason(error)}") from None

    async def receive(self) -> bytes:
        if not self._closed.is_set():
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                data: bytes = message.data
                return data
            await self.close()  # the end, an error, or text, which is none of ours
        raise LinkClosed("the link was closed")

    async def close(self) -> None:
        """Say goodbye; whoever does not read it is cut, or its unsent bytes would stay for ever."""
        if self._closed.is_set():
            return
        self._closed.set()
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await self._socket.close()
        except (aiohttp.ClientError, ConnectionError, RuntimeError, TimeoutError):
            pass  # it was gone already, or does not listen
        finally:
            if self._transport is not None:
                asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)
            if self._session is not None:
                await self._session.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error  # aiohttp says the address once more, and more
    return os_reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
