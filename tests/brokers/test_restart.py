"""The broker dies in the middle of an answer: a pause for the app, and the same text."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from brokers.mosquitto import Mosquitto
from cascade import Device, EdgeServer, EdgeSettings, Policy, Sampling
from cascade.device import ReconnectSettings
from cascade.links.mqtt import MqttDialer, MqttListener
from cascade.testing import PacedRunner, SyntheticDraft, SyntheticTarget

from ..virtual.schedules import Ask, target_alone
from .places import QUICK, BrokerProcess, mosquitto


def amqtt_process(folder: Path) -> AbstractAsyncContextManager[BrokerProcess]:
    return BrokerProcess(folder)


def mosquitto_process(_folder: Path) -> AbstractAsyncContextManager[Mosquitto]:
    return mosquitto()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(amqtt_process, id="amqtt"),
        pytest.param(mosquitto_process, id="mosquitto", marks=pytest.mark.needs_mosquitto),
    ],
)
async def test_a_killed_broker_is_a_pause(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    target = SyntheticTarget(seed=11)
    ask = Ask((1, 2, 3), 400, Sampling(temperature=1.0, seed=4), frozenset(), Policy.hint_driven())
    async with (
        start(tmp_path) as broker,
        MqttListener(broker.url_for("edge-1"), "edge-1", settings=QUICK) as listener,
        EdgeServer.of(target, PacedRunner(lambda rows: 0.002), settings=EdgeSettings(run_ahead=16)) as edge,
        Device(
            [MqttDialer(broker.url_for("kettle"), edge="edge-1", settings=QUICK)],
            draft=SyntheticDraft(target, agreement=0.8),
            runner=PacedRunner(lambda rows: 0.0005),
            reconnect=ReconnectSettings(first_s=0.01, ceiling_s=0.2),
        ) as device,
    ):
        edge.listen(listener)
        stream = device.stream(
            ask.prompt, max_new_tokens=400, temperature=ask.sampling.temperature, seed=ask.sampling.seed
        )
        answer = []
        async for token in stream:
            answer.append(token)
            if len(answer) in (100, 250):
                await broker.kill()
                await broker.restart()
        assert [token.id for token in answer] == target_alone(target, ask)
        assert [token.position for token in answer] == list(range(3, 403))
        assert stream.summary.num_opens >= 3
        assert listener.num_connections == 3
