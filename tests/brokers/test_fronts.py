"""Two fronts of one pool at an MQTT 5 broker: it deals opens out to them; one takes over for the other."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest

from brokers.mosquitto import Mosquitto
from cascade.decoding import Sampling
from cascade.device import Device, Policy, ReconnectSettings
from cascade.events import Summary, Token
from cascade.links.mqtt import MqttDialer, MqttSettings
from cascade.models.runner import PacedRunner
from cascade.testing import SyntheticDraft, SyntheticTarget

from ..serving.test_serve_command import Served, served
from ..virtual.schedules import Ask, target_alone

TARGET = SyntheticTarget()
PROMPT = (5, 6, 7)
NUM_DEVICES = 8
NUM_TOKENS = 120
FRONTS = ("front-1", "front-2")


async def num_links(front: Served) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{front.facts['http']}/health") as answer:
        return int((await answer.json())["num_links"])


@pytest.mark.needs_mosquitto
async def test_two_fronts_share_the_opens_and_one_takes_over_from_the_other() -> None:
    accounts = {name: f"secret of {name}" for name in (*FRONTS, *(f"phone-{n}" for n in range(NUM_DEVICES)))}
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Mosquitto(accounts=accounts, edges=FRONTS))
        fronts = [
            await stack.enter_async_context(served("--name", name, "--mqtt", broker.url_for(name)))
            for name in FRONTS
        ]
        devices = [
            await stack.enter_async_context(
                Device(
                    [MqttDialer(broker.url_for(f"phone-{number}"), settings=MqttSettings(timeout_s=3.0))],
                    draft=SyntheticDraft(TARGET, agreement=0.5, seed=number),
                    runner=PacedRunner(lambda rows: 0.005),
                    reconnect=ReconnectSettings(ceiling_s=0.5, silent_s=2.0),
                )
            )
            for number in range(NUM_DEVICES)
        ]
        half_way = asyncio.Semaphore(0)
        asking = [asyncio.create_task(ask(device, half_way)) for device in devices]
        for _ in devices:
            await half_way.acquire()
        assert [await num_links(front) for front in fronts] == [NUM_DEVICES / 2] * 2
        fronts[0].process.kill()
        answers = await asyncio.gather(*asking)
        assert await num_links(fronts[1]) == NUM_DEVICES
    expected = target_alone(TARGET, Ask(PROMPT, NUM_TOKENS, Sampling(), frozenset(), Policy.cloud()))
    for said, _ in answers:
        assert [token.position for token in said] == list(range(len(PROMPT), len(PROMPT) + NUM_TOKENS))
        assert [token.id for token in said] == expected
    assert sorted(summary.num_opens for _, summary in answers) == [1] * 4 + [2] * 4, "half of them moved"


async def ask(device: Device, half_way: asyncio.Semaphore) -> tuple[list[Token], Summary]:
    stream = device.stream(PROMPT, max_new_tokens=NUM_TOKENS)
    said = []
    async for token in stream:
        said.append(token)
        if len(said) == NUM_TOKENS // 4:
            half_way.release()
    return said, stream.summary
