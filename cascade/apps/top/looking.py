"""One look at an address: its `/metrics` and `/health`, or why there are none."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ...errors import LinkUnavailable, RefusedError, SettingsError
from ...links.listening import os_reason

__all__ = ["Look", "http_url", "look", "parse_metrics"]

TIMEOUT_S = 5.0
MAX_BYTES = 8 << 20
LINE = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Labels = frozenset[tuple[str, str]]
NONE: Labels = frozenset()


@dataclass(frozen=True, slots=True)
class Look:
    """What an address said at one moment."""

    time_s: float
    metrics: Mapping[str, Mapping[Labels, float]]
    health: Mapping[str, Any]

    @property
    def is_gateway(self) -> bool:
        return "cascade_gateway_connected" in self.metrics

    def value(self, name: str, **labels: str) -> float:
        """0 where it is not there: a counter that nobody has counted yet."""
        return self.metrics.get(f"cascade_{name}", {}).get(frozenset(labels.items()), 0.0)

    def known(self, name: str) -> float | None:
        """None where it is not there: what was never measured."""
        return self.metrics.get(f"cascade_{name}", {}).get(NONE)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Label's value -> figure."""
        found = self.metrics.get(f"cascade_{name}", {})
        return {dict(labels)[label]: value for labels, value in found.items() if label in dict(labels)}


async def look(session: aiohttp.ClientSession, url: str, *, context: ssl.SSLContext | None = None) -> Look:
    """Raises `LinkUnavailable` or `RefusedError`, with what to do about it."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            text = await _get(session, f"{url}/metrics", context)
            health = await _get(session, f"{url}/health", context)
    except TimeoutError:
        raise LinkUnavailable(f"{url} did not answer within {TIMEOUT_S:g} s; is it overloaded?") from None
    except aiohttp.ClientConnectorError as error:
        advice = "see that `cascade serve` or `cascade gateway` runs there; its --http says where it listens"
        raise LinkUnavailable(f"nobody answers at {url}: {os_reason(error.os_error)}; {advice}") from None
    except (aiohttp.ClientError, OSError, UnicodeDecodeError) as error:
        reason = str(error) or type(error).__name__
        raise LinkUnavailable(f"{url} does not speak HTTP as we do: {reason[:200]}") from None
    metrics = parse_metrics(text)
    if not any(name.startswith("cascade_") for name in metrics):
        raise LinkUnavailable(f"{url}/metrics is somebody else's; name an edge or a gateway of Cascade")
    try:
        facts = json.loads(health)
    except ValueError:
        facts = {}
    now_s = asyncio.get_running_loop().time()
    return Look(now_s, metrics, facts if isinstance(facts, dict) else {})


def http_url(address: str) -> str:
    """`ws://edge:8080` and `edge:8080` are understood as well."""
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme.lower(), parts.scheme.lower())
    if scheme not in ("http", "https") or not parts.hostname:
        text = f"{address[:64]!r} is no address of an edge or gateway; write http://host:port"
        raise SettingsError("address", text)
    return f"{scheme}://{parts.netloc}"


def parse_metrics(text: str) -> dict[str, dict[Labels, float]]:
    """Prometheus' text format: name -> labels -> figure. What is no line of it is passed over."""
    found: dict[str, dict[Labels, float]] = {}
    for line in text.splitlines():
        match = LINE.match(line)
        if match is not None:
            try:
                value = float(match["value"])
            except ValueError:
                continue
            found.setdefault(match["name"], {})[frozenset(_labels(match["labels"] or ""))] = value
    return found


def _labels(text: str) -> Iterator[tuple[str, str]]:
    for name, value in LABEL.findall(text):
        yield name, re.sub(r"\\.", lambda escape: ESCAPED.get(escape[0], escape[0]), value)


async def _get(session: aiohttp.ClientSession, url: str, context: ssl.SSLContext | None) -> str:
    async with session.get(url, ssl=context or True) as answer:
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text = f"{url} is for operators: give an operator's token (CASCADE_TOKEN, or --token)"
            raise RefusedError("unauthorized", f"{text}, or one of the gateway's API keys")
        if answer.status == HTTPStatus.NOT_FOUND:
            raise LinkUnavailable(f"there is no {url}; name an edge or a gateway of Cascade")
        return (await answer.content.read(MAX_BYTES)).decode()
