"""`Device.connect` over real links: the address alone is enough."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from brokers.embedded import EmbeddedBroker
from cascade import Device, EdgeServer, RefusedError
from cascade.errors import LinkUnavailable
from cascade.links.base import Listener
from cascade.links.mqtt import MqttListener
from cascade.links.websocket import WebSocketListener
from cascade.testing import PacedRunner, SyntheticTarget

TARGET = SyntheticTarget()


@asynccontextmanager
async def serving(listener: Listener) -> AsyncIterator[None]:
    async with EdgeServer.of(TARGET, PacedRunner(lambda rows: 0.001)) as edge:
        edge.listen(listener)
        yield


async def check(*urls: str, token: str = "") -> None:
    """Plain and drafted answers, by a device that knows nothing but the addresses."""
    answers = []
    for draft in (None, "suffix"):
        async with Device.connect(*urls, draft=draft, token=token) as device:
            answers.append(await device.generate([1, 2, 3], max_new_tokens=30))
    assert answers[0].tokens == answers[1].tokens
    assert len(answers[0].tokens) == 30


async def test_websockets_under_both_names() -> None:
    def identify(token: str) -> str | None:
        return "kettle" if token == "secret" else None

    async with WebSocketListener(identify=identify) as listener, serving(listener):
        await check(listener.url, token="secret")
        await check(listener.url.replace("ws://", "http://").removesuffix("/v1/link"), token="secret")
        with pytest.raises(RefusedError, match="unauthorized"):
            await check(listener.url, token="guess")


async def test_a_broker_and_the_name_of_an_edge() -> None:
    accounts = {"hall": "edge-secret", "kettle": "p@ss/word"}
    async with (
        EmbeddedBroker(accounts=accounts, edges=["hall"], devices=["kettle"]) as broker,
        MqttListener(broker.url_for("hall"), "hall") as listener,
        serving(listener),
    ):
        await check(f"{broker.url_for('kettle')}/hall")
        await check(broker.url_for("kettle"))


async def test_the_next_address_where_one_does_not_answer() -> None:
    async with WebSocketListener() as listener, serving(listener):
        await check("ws://127.0.0.1:1", listener.url)
    with pytest.raises(LinkUnavailable, match=r"within 0.3 s.*127\.0\.0\.1:1"):
        async with Device.connect("ws://127.0.0.1:1", connect_timeout_s=0.3):
            pass
