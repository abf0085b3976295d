"""HTTP: one WebSocket at `/v1/link` for each device, every binary frame a message.

TCP keeps order and loses nothing, and aiohttp sets TCP_NODELAY on both ends. What TCP does not do is say
that the other side is gone: frames of its own ping every `HEARTBEAT_S`, and sessions watch for silence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType

import aiohttp
from aiohttp import web

from ..errors import LinkClosed, LinkUnavailable, RefusedError, SettingsError
from .base import Link
from .inbox import Inbox

__all__ = ["LINK_PATH", "Identify", "WebSocketDialer", "WebSocketListener"]

LINK_PATH = "/v1/link"
MAX_MESSAGE_BYTES = 1 << 20
HEARTBEAT_S = 20.0
DIAL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
"""How long a polite goodbye may take; afterwards the socket is cut."""
MAX_ARRIVALS = 64
"""Devices that have connected and were not accepted yet; more are told to come back."""

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
                raise RefusedError("unauthorized", f"{self.url} does not know this token") from None
            raise LinkUnavailable(f"{self.url} answered {error.status} instead of opening a link") from None
        except TimeoutError:
            await session.close()
            raise LinkUnavailable(f"cannot reach {self.url}: no answer within {DIAL_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            await session.close()
            raise LinkUnavailable(f"cannot reach {self.url}: {_reason(error)}") from None
        except BaseException:
            await session.close()
            raise
        return _WebSocketLink(socket, peer="", session=session)


class WebSocketListener:
    """An edge's ear on HTTP: `async with WebSocketListener() as listener: edge.listen(listener)`.

    With `identify`, a device has to bring a bearer token, and its identity is what the token stands for,
    whatever it says about itself. Port 0 takes a free one; `url` says which.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        identify: Identify | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._identify = identify
        self._arrivals: Inbox[Link] = Inbox(MAX_ARRIVALS)
        self._links: set[_WebSocketLink] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where devices dial."""
        scheme = "ws" if self._ssl_context is None else "wss"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}{LINK_PATH}"

    async def __aenter__(self) -> WebSocketListener:
        app = web.Application()
        app.router.add_get(LINK_PATH, self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._ssl_context)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            reason = _reason(error)
            raise LinkUnavailable(
                f"cannot listen on {self._host}:{self._port}: {reason}; choose another port, or 0 for any"
            ) from None
        self._port = self._runner.addresses[0][1]
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
        await asyncio.gather(*(link.close() for link in tuple(self._links)))
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        peer = ""
        if self._identify is not None:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            known = self._identify(token.strip()) if scheme.lower() == "bearer" else None
            if known is None:
                return web.Response(
                    status=HTTPStatus.UNAUTHORIZED,
                    headers={"WWW-Authenticate": "Bearer"},
                    text="a bearer token that this edge knows is needed\n",
                )
            peer = known
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, timeout=CLOSE_TIMEOUT_S
        )
        if not socket.can_prepare(request).ok:
            return web.Response(status=HTTPStatus.UPGRADE_REQUIRED, text="this is a WebSocket endpoint\n")
        await socket.prepare(request)
        link = _WebSocketLink(socket, peer=peer)
        if not self._arrivals.offer(link):
            await socket.close(code=aiohttp.WSCloseCode.TRY_AGAIN_LATER)
            return socket
        self._links.add(link)
        try:
            await link.wait_closed()
        finally:
            self._links.discard(link)
        return socket


class _WebSocketLink:
    """Either end of a connection."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
        *,
        peer: str,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self.peer = peer
        self._socket = socket
        self._session = session
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
        if self._closed.is_set():
            return
        self._closed.set()
        try:
            await self._socket.close()
        except (aiohttp.ClientError, ConnectionError, RuntimeError):
            pass  # it was gone already
        finally:
            if self._session is not None:
                await self._session.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
