"""A gateway on a loopback port, with a device and a real edge behind it, over a WebSocket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from cascade.apps.gateway import Gateway, GatewayOptions
from cascade.apps.gateway.shaping import ShapedLink
from cascade.apps.serving import ServeOptions, Serving
from cascade.device import Device
from cascade.edge import BatchEngine, Engine
from cascade.links.base import Dialer
from cascade.links.websocket import WebSocketDialer
from cascade.models.echo import EchoModel
from cascade.models.runner import PacedRunner

PASS_S = 0.002
HELLO = [{"role": "user", "content": "Hello, café 🙂"}]
SAID = "You said: Hello, café 🙂"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Everything that is running."""

    gateway: Gateway
    device: Device
    edge: Serving

    @property
    def url(self) -> str:
        return self.gateway.url


@contextlib.asynccontextmanager
async def gateway(
    *,
    pass_s: float = PASS_S,
    slip: float = 0.2,
    keys: Sequence[str] = (),
    shaped: ShapedLink | None = None,
    engine: Engine | None = None,
    **options: Any,
) -> AsyncIterator[Place]:
    """An echo for a target, and one that slips for a draft."""
    engine = engine or BatchEngine(EchoModel(), PacedRunner(lambda rows: pass_s))
    async with Serving(engine, ServeOptions(port=0)) as edge:
        dialer: Dialer = WebSocketDialer(edge.link_url)
        if shaped is not None:
            dialer = shaped.around(dialer, is_reliable=True)
        draft, runner = EchoModel(slip=slip), PacedRunner(lambda rows: 0.0005)
        async with (
            Device([dialer], draft=draft, runner=runner) as device,
            Gateway(device, GatewayOptions(port=0, **options), keys=keys, shaped=shaped) as running,
        ):
            yield Place(gateway=running, device=device, edge=edge)


@contextlib.asynccontextmanager
async def gateway_without_edge(**options: Any) -> AsyncIterator[Gateway]:
    """Nobody listens where its device dials."""
    draft = EchoModel()
    async with (
        Device(
            [WebSocketDialer("ws://127.0.0.1:9")], draft=draft, runner=PacedRunner(lambda rows: 0.0)
        ) as device,
        Gateway(device, GatewayOptions(port=0, **options)) as running,
    ):
        yield running


async def post(
    url: str, content: Any = None, *, headers: dict[str, str] | None = None, **options: Any
) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of an answer."""
    options.setdefault("json", content)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=headers, **options) as answer,
    ):
        return answer.status, await answer.json(), dict(answer.headers)


async def get(url: str, *, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.json()
