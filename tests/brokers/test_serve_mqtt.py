"""`cascade serve --mqtt`: the same edge at a broker, beside its own port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from brokers.embedded import EmbeddedBroker
from cascade.device import Device
from cascade.errors import RefusedError
from cascade.links.mqtt import MqttDialer
from cascade.links.mqtt_presence import list_edges
from cascade.models.runner import PacedRunner
from cascade.testing import SyntheticDraft

from ..serving.servers import TARGET, ask, device_at, serving, write_tokens


def mqtt_device(broker: EmbeddedBroker, *, token: str = "") -> Device:
    return Device(
        [MqttDialer(broker.url_for("phone"), edge="hall")],
        draft=SyntheticDraft(TARGET, agreement=0.8),
        runner=PacedRunner(lambda rows: 0.0005),
        identity="whatever it says",
        token=token,
    )


async def test_devices_come_through_the_broker_and_the_port_alike() -> None:
    async with (
        EmbeddedBroker(edges=["hall"], devices=["phone"], port=0) as broker,
        serving(name="hall", mqtt=broker.url_for("hall")) as server,
        mqtt_device(broker) as far,
        device_at(server) as near,
    ):
        assert server.mqtt_url == broker.url
        first, second = await asyncio.gather(ask(far), ask(near))
        assert first == second
        assert "phone" in server.edge.counters.by_identity  # the broker's account, not what HELLO says
        (edge,) = await list_edges(broker.url_for("phone"))
        assert (edge.name, edge.is_online, edge.model) == ("hall", True, TARGET.numerics)


async def test_with_a_token_file_a_device_at_the_broker_needs_its_token_too(tmp_path: Path) -> None:
    path = write_tokens(tmp_path)
    async with (
        EmbeddedBroker(edges=["hall"], devices=["phone"], port=0) as broker,
        serving(name="hall", mqtt=broker.url_for("hall"), tokens=path),
    ):
        async with mqtt_device(broker, token="phone-secret") as device:
            assert len(await ask(device)) == 20
        for wrong in ("", "guess", "tablet-secret"):
            async with mqtt_device(broker, token=wrong) as device:
                with pytest.raises(RefusedError, match="wrong token"):
                    await ask(device)
