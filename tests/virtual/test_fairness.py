"""Equal devices get equal shares, and one that takes all it can gets little more than any other."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

import pytest

from cascade.device import Device, Policy
from cascade.edge import EdgeServer, EdgeSettings
from cascade.lab.fleet import PassCost
from cascade.links.base import Link
from cascade.models.runner import constant_cost
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

NUM_DEVICES = 16
WATCHED_S = (5.0, 20.0)
COSTS = [
    pytest.param(PassCost(0.050, 0.0001), id="rows are cheap"),
    pytest.param(PassCost(0.010, 0.0020), id="rows dominate"),
]


def jain(shares: Sequence[float]) -> float:
    """1: all the same; 1 / n: one has everything."""
    return sum(shares) ** 2 / len(shares) / sum(share**2 for share in shares)


@functools.cache
def goodput(
    cost: PassCost, *, greedy_streams: int = 1, greedy_prompt: int = 3, policy: Policy | None = None
) -> Sequence[int]:
    """Tokens that each device received while it was watched; the first of them is the greedy one."""
    return run_virtual(_goodput(cost, greedy_streams, greedy_prompt, policy or Policy.hint_driven()))


async def _goodput(cost: PassCost, greedy_streams: int, greedy_prompt: int, policy: Policy) -> list[int]:
    target = SyntheticTarget()
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    tokens = [0] * NUM_DEVICES
    one_way = Conditions(delay_s=0.01)

    async def stream_on(device: Device, number: int, index: int) -> None:
        turn = 0
        while True:
            turn += 1
            length = greedy_prompt if number == 0 else 3
            prompt = [1 + (7 * number + 13 * index + 5 * turn + place) % 60 for place in range(length)]
            async for _token in device.stream(prompt, max_new_tokens=200, policy=policy):
                tokens[number] += WATCHED_S[0] <= loop.time() < WATCHED_S[1]

    async def run_device(number: int) -> None:
        async def dial() -> Link:
            return EmulatedLink(await listener.dial(f"device-{number}"), up=one_way, down=one_way)

        draft = SyntheticDraft(target, agreement=0.8)
        async with Device(
            [dial], draft=draft, runner=PacedRunner(constant_cost(0.005)), seed=number
        ) as device:
            num_streams = greedy_streams if number == 0 else 1
            await asyncio.gather(*(stream_on(device, number, index) for index in range(num_streams)))

    async with EdgeServer.of(target, PacedRunner(cost), settings=EdgeSettings()) as edge:
        edge.listen(listener)
        devices = [asyncio.create_task(run_device(number)) for number in range(NUM_DEVICES)]
        over, _ = await asyncio.wait(devices, timeout=WATCHED_S[1], return_when=asyncio.FIRST_EXCEPTION)
        assert not over, [device.exception() for device in over]
        for device in devices:
            device.cancel()
        await asyncio.gather(*devices, return_exceptions=True)
    return tokens


@pytest.mark.parametrize("cost", COSTS)
def test_equal_devices_get_equal_shares(cost: PassCost) -> None:
    assert jain(goodput(cost)) >= 0.98
    assert jain(goodput(cost, policy=Policy.cloud())) >= 0.9999


@pytest.mark.parametrize("prompt", [3, 200])
@pytest.mark.parametrize("cost", COSTS)
def test_a_greedy_device_gains_little_and_takes_little(cost: PassCost, prompt: int) -> None:
    """Forty streams at once, and where that is not enough, long prompts."""
    equal = goodput(cost)
    shares = goodput(cost, greedy_streams=40, greedy_prompt=prompt)
    assert jain(shares) >= 0.95
    assert jain(shares[1:]) >= 0.98
    assert min(shares) > 0, "nobody starves"
    lost = 1 - sum(shares[1:]) / sum(equal[1:])
    most = 0.06 if prompt == 3 else 0.35  # what has to be prefilled is paid for with a share of the passes
    assert lost <= most
