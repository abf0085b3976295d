"""An edge on a loopback port, with everything around it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgpack

from cascade.apps.serving import ServeOptions, Serving
from cascade.device import Device, Policy
from cascade.edge import BatchEngine, EdgeSettings
from cascade.links.websocket import WebSocketDialer
from cascade.models.runner import PacedRunner
from cascade.testing import SyntheticDraft, SyntheticTarget

TARGET = SyntheticTarget()
PASS_S = 0.002
TOKENS = """
[phone]
tokens = ["phone-secret"]
[tablet]
tokens = ["tablet-secret", "tablet-secret-2"]
quota = { max_sessions = 2 }
[operator]
tokens = ["operator-secret"]
operator = true
"""


@contextlib.asynccontextmanager
async def serving(
    *,
    target: SyntheticTarget = TARGET,
    pass_s: float = PASS_S,
    kind: type[BatchEngine] = BatchEngine,
    edge: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Serving]:
    settings = EdgeSettings(**(edge or {}))
    engine = kind(target, PacedRunner(lambda rows: pass_s), settings)
    # Files are read when it is made, and that is for a thread where a loop is running.
    server = await asyncio.to_thread(Serving, engine, ServeOptions(port=0, edge=settings, **options))
    async with server:
        yield server


def write_tokens(folder: Path, text: str = TOKENS) -> Path:
    path = folder / "tokens.toml"
    path.write_text(text)
    return path


def device_at(server: Serving, *, token: str = "", agreement: float = 0.8, **options: Any) -> Device:
    return Device(
        [WebSocketDialer(server.link_url, token=token)],
        draft=SyntheticDraft(TARGET, agreement=agreement),
        runner=PacedRunner(lambda rows: 0.0005),
        **options,
    )


async def until(is_true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_true():  # noqa: ASYNC110 -- a condition of the server's has no event
            await asyncio.sleep(0.01)


async def ask(device: Device, count: int = 20, policy: Policy | None = None) -> list[int]:
    stream = device.stream([5, 6, 7], max_new_tokens=count, policy=policy)
    return [token.id async for token in stream]


async def get(server: Serving, path: str, *, token: str = "") -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.http_url + path, headers=bearer(token)) as answer,
    ):
        return answer.status, await answer.text()


async def post(
    server: Serving, content: Any, *, token: str = "", path: str = "/v1/verify", **options: Any
) -> tuple[int, Any]:
    """JSON in, unless told otherwise; the answer in its own form."""
    options.setdefault("json", content)
    headers = bearer(token) | options.pop("headers", {})
    async with (
        aiohttp.ClientSession() as session,
        session.post(server.http_url + path, headers=headers, **options) as answer,
    ):
        is_msgpack = answer.content_type == "application/msgpack"
        return answer.status, (msgpack.unpackb if is_msgpack else json.loads)(await answer.read())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
