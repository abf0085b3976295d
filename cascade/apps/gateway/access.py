"""Who may ask: API keys, origins of web pages, and the names that this machine is called by."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from ...errors import SettingsError
from ...links.websocket import bearer_token
from .failures import ApiError

__all__ = ["Access", "read_keys"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PREFLIGHT_S = 600


def read_keys(path: Path) -> tuple[str, ...]:
    """A key a line; empty lines and lines that begin with # are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text"
        raise SettingsError("keys", f"cannot read {path}: {reason}") from None
    keys = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not keys:
        raise SettingsError("keys", f"{path} has no key; write one a line (openssl rand -hex 32 makes one)")
    return keys


class Access:
    """Keys are kept as hashes and never shown. Without any, everybody who reaches the port may ask.

    A page in somebody's browser reaches the port too. So a request that a page made needs an allowed origin,
    and on a port that only this machine reaches the request must call it by one of the machine's own names:
    otherwise any site could have its name lead here.
    """

    def __init__(self, *, keys: Iterable[str], origins: tuple[str, ...], is_local: bool) -> None:
        self._hashes = tuple(_hash(key) for key in keys)
        self._origins = origins
        self._is_local = is_local

    @property
    def needs_key(self) -> bool:
        return bool(self._hashes)

    def check_page(self, request: web.Request) -> None:
        """For everything: may this origin, under this name?"""
        host = urlsplit(f"//{request.host}").hostname or ""
        if self._is_local and host not in LOCAL_NAMES:
            text = f"this gateway is called localhost or 127.0.0.1, not {host[:64]!r}"
            raise ApiError(HTTPStatus.FORBIDDEN, "wrong_host", text)
        origin = request.headers.get("Origin", "")
        if origin and not self._is_allowed(origin) and not _is_same(origin, request):
            text = f"pages of {origin[:64]!r} may not ask here; start the gateway with --cors {origin[:64]}"
            raise ApiError(HTTPStatus.FORBIDDEN, "origin_not_allowed", text)

    def check_key(self, request: web.Request) -> None:
        """For whatever costs something."""
        if not self._hashes:
            return
        given = _hash(bearer_token(request))
        # All of them are compared, so that the time tells nothing.
        if sum(hmac.compare_digest(given, known) for known in self._hashes) == 0:
            text = "this gateway needs one of its API keys: send Authorization: Bearer KEY"
            raise ApiError(HTTPStatus.UNAUTHORIZED, "invalid_api_key", text)

    def headers(self, request: web.Request) -> dict[str, str]:
        """What allows a page of another origin to read the answer."""
        origin = request.headers.get("Origin", "")
        if not origin or not self._is_allowed(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
            "Vary": "Origin",
        }

    def preflight(self, request: web.Request) -> web.Response:
        headers = self.headers(request) | {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", ""),
            "Access-Control-Max-Age": str(PREFLIGHT_S),
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    def _is_allowed(self, origin: str) -> bool:
        return "*" in self._origins or origin in self._origins


def _is_same(origin: str, request: web.Request) -> bool:
    """Our own page."""
    return origin == f"{request.scheme}://{request.host}"


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
