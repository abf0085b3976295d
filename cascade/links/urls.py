"""From an address to a way of dialling it. What a kind of link needs is imported when it is asked for."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from ..errors import SettingsError
from .base import Dialer
from .memory import memory_dialer

__all__ = ["SCHEMES", "account_in", "dialer_for"]

Maker = Callable[..., Dialer]
"""(url, parts, identity, token, ssl_context, proxy) -> dialer"""


def dialer_for(
    url: str,
    *,
    identity: str = "device",
    token: str = "",
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
) -> Dialer:
    """A dialer for an edge's address.

    - `ws://`, `wss://`, `http://` and `https://`: a WebSocket;
    - `mqtt://user:password@broker:port/edge` and `mqtts://`: through a broker, to one edge; without an edge's
      name, or with `?pool=NAME`, to any edge of a pool;
    - `memory:` or `memory:name`: an edge in this process, for tests and notebooks.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # parsed when read
    except ValueError as error:
        raise SettingsError("url", f"{_shown(url)} is no address: {error}") from None
    make = _MAKERS.get(parts.scheme.lower())
    if make is None:
        raise SettingsError("url", f"{_shown(url)} begins with none of {', '.join(SCHEMES)}{_meant(url)}")
    return make(url, parts, identity=identity, token=token, ssl_context=ssl_context, proxy=proxy)


def account_in(url: str) -> str:
    """The account's name in a URL, or nothing; whether the URL is right is somebody else's question."""
    try:
        return unquote(urlsplit(url).username or "")
    except ValueError:
        return ""


def _memory(_url: str, parts: SplitResult, *, identity: str, **_options: object) -> Dialer:
    return memory_dialer(parts.netloc or parts.path.strip("/"), device=identity)


def _websocket(
    url: str,
    parts: SplitResult,
    *,
    identity: str,
    token: str,
    ssl_context: ssl.SSLContext | None,
    proxy: str | None,
) -> Dialer:
    if not parts.hostname:
        raise SettingsError("url", f"{_shown(url)} names no host; write ws://host:port")
    try:
        from .websocket import WebSocketDialer
    except ImportError as error:
        raise SettingsError("url", "a WebSocket needs aiohttp: pip install 'cascade-edge[device]'") from error
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme.lower(), parts.scheme.lower())
    return WebSocketDialer(
        parts._replace(scheme=scheme).geturl(), token=token, ssl_context=ssl_context, proxy=proxy
    )


def _mqtt(
    url: str, parts: SplitResult, *, identity: str, ssl_context: ssl.SSLContext | None, **_options: object
) -> Dialer:
    try:
        from .mqtt import MqttDialer
    except ImportError as error:
        raise SettingsError("url", "MQTT needs aiomqtt: pip install 'cascade-edge[device]'") from error
    pools = parse_qs(parts.query).get("pool", [])
    return MqttDialer(
        f"{parts.scheme}://{parts.netloc}",
        edge=parts.path.strip("/") or None,
        pool=pools[0] if pools else None,
        device=None if parts.username else identity,  # with an account the broker knows who we are
        ssl_context=ssl_context if parts.scheme == "mqtts" else None,
    )


_MAKERS: dict[str, Maker] = {
    "ws": _websocket,
    "wss": _websocket,
    "http": _websocket,
    "https": _websocket,
    "mqtt": _mqtt,
    "mqtts": _mqtt,
    "memory": _memory,
}
SCHEMES = ("ws://", "wss://", "http://", "https://", "mqtt://", "mqtts://", "memory:")


def _meant(url: str) -> str:
    """What somebody wanted who wrote a host and a port."""
    is_bare = "://" not in url and "@" not in url and url.rpartition(":")[2].isdecimal()
    return f"; write ws://{url[:64]}" if is_bare else ""


def _shown(url: str) -> str:
    """For an error: an address may hold a password, before its last @."""
    scheme, separator, rest = url.partition("://")
    shown = f"{scheme}://…@{rest.rpartition('@')[2]}" if separator and "@" in rest else url
    return repr(shown[:64])
