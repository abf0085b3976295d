"""Addresses of edges, and what is said about bad ones."""

from __future__ import annotations

import asyncio

import pytest

from cascade.errors import LinkUnavailable, SettingsError
from cascade.links.memory import MemoryListener
from cascade.links.mqtt import MqttDialer
from cascade.links.urls import dialer_for
from cascade.links.websocket import WebSocketDialer

from ..helpers import in_virtual_time


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("ws://edge:8080", "ws://edge:8080/v1/link"),
        ("wss://edge", "wss://edge/v1/link"),
        ("http://edge:80/", "ws://edge:80/v1/link"),
        ("HTTPS://edge/v1/link", "wss://edge/v1/link"),
        ("https://[::1]:8443/at/home", "wss://[::1]:8443/at/home/v1/link"),
    ],
)
def test_web_addresses_lead_to_a_websocket(url: str, dialled: str) -> None:
    dialer = dialer_for(url, token="secret")
    assert isinstance(dialer, WebSocketDialer)
    assert dialer.url == dialled


@pytest.mark.parametrize(
    ("url", "device", "edge", "pool"),
    [
        ("mqtt://kettle:p%40ss@broker/hall", "kettle", "hall", "default"),
        ("mqtt://broker:1884/hall/", "toaster", "hall", "default"),
        ("mqtts://kettle@broker", "kettle", None, "default"),
        ("MQTT://kettle@broker/?pool=attic", "kettle", None, "attic"),
    ],
)
def test_mqtt_addresses_name_a_broker_and_an_edge(url: str, device: str, edge: str | None, pool: str) -> None:
    dialer = dialer_for(url, identity="toaster")
    assert isinstance(dialer, MqttDialer)
    assert (dialer.device, dialer._edge, dialer._pool) == (device, edge, pool)
    assert dialer.url.endswith(("broker:1883", "broker:1884", "broker:8883"))


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://kettle@broker/hall?pool=attic",
        "mqtt:///hall",
        "mqtt://kettle@broker/two/edges",
        "",
        "edge:8080",
        "ftp://edge",
        "ws://",
        "ws://edge:port",
        "ws:/edge",
        "//edge",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError):
        dialer_for(url)


@pytest.mark.parametrize("url", ["ftp://me:p4ss@edge", "ws://me:p4ss@edge:port", "mqqt://me:p@4ss@edge/e"])
def test_errors_do_not_show_passwords(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        dialer_for(url)
    assert "4ss" not in str(refused.value)
    assert "edge" in str(refused.value)


@in_virtual_time
async def test_memory_finds_the_edge_that_listens() -> None:
    kitchen, cellar = MemoryListener("kitchen"), MemoryListener("cellar")
    with pytest.raises(LinkUnavailable, match="listening: nobody"):
        await dialer_for("memory:")()

    accepting = asyncio.create_task(kitchen.accept())
    await asyncio.sleep(0)
    for url in ("memory:", "memory:kitchen", "memory://kitchen"):
        link = await dialer_for(url, identity="kettle")()
        theirs = await accepting
        assert (link.peer, theirs.peer) == ("kitchen", "kettle")
        accepting = asyncio.create_task(kitchen.accept())

    other = asyncio.create_task(cellar.accept())
    await asyncio.sleep(0)
    with pytest.raises(LinkUnavailable, match="cellar, kitchen"):
        await dialer_for("memory:")()
    with pytest.raises(LinkUnavailable, match="'attic'"):
        await dialer_for("memory:attic")()
    await kitchen.close()
    await asyncio.gather(accepting, return_exceptions=True)
    assert (await dialer_for("memory:")()).peer == "cellar"
    await other
    await cellar.close()
