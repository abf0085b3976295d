"""A quota of tokens a second bounds what an identity is given, and takes from nobody else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from cascade.device import Policy
from cascade.edge import Quota, State
from cascade.events import Token
from cascade.testing import MemoryListener, SyntheticTarget

from ..helpers import in_virtual_time
from .peers import PASS_S, VOCAB_SIZE, device_for, edge_for, greedy, read

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
RATE = 20.0
BURST_S = 2.0
QUOTA = Quota(tokens_per_s=RATE, burst_s=BURST_S)
POLICIES = [Policy.cloud(), Policy.hint_driven(), Policy.hint_driven(patience_s=0.1)]


def least_s(num_tokens: int, num_asked_at_once: int = 1) -> float:
    """What was saved up comes at once, and the last step of each text may leave a debt."""
    return (num_tokens - num_asked_at_once * 17) / RATE - BURST_S


async def rest_of(tokens: AsyncIterator[Token]) -> list[int]:
    return [token.id async for token in tokens]


@pytest.mark.parametrize("policy", POLICIES)
@in_virtual_time
async def test_an_answer_goes_on_at_the_rate_that_its_identity_has(policy: Policy) -> None:
    listener, now_s = MemoryListener(), asyncio.get_running_loop().time
    async with edge_for(listener, quota=QUOTA) as edge, device_for(listener.dial) as device:
        started_s = now_s()
        tokens = await read(device.stream((5, 6, 7), max_new_tokens=300, policy=policy))
        assert [token.id for token in tokens] == greedy(TARGET, (5, 6, 7), 300)
        times_s = [token.time_s for token in tokens]
        assert now_s() - started_s >= least_s(300)
        # Evenly, and no slower than the rate allows where every hint is charged, too.
        assert max(later - sooner for sooner, later in itertools.pairwise(times_s)) < 2.0
        assert now_s() - started_s < 2.5 * 300 / RATE
        assert edge.health().state is State.OK
        assert (edge.counters.num_ignored > 0) == (policy.window > 0), "hints ask for work"


@in_virtual_time
async def test_all_texts_of_an_identity_share_its_rate_and_others_have_their_own() -> None:
    listener, now_s = MemoryListener(), asyncio.get_running_loop().time
    async with (
        edge_for(listener, quota=QUOTA) as edge,
        device_for(lambda: listener.dial("greedy")) as greedy_one,
        device_for(lambda: listener.dial("modest")) as modest,
    ):
        started_s = now_s()
        cloud = Policy.cloud()
        many = [
            asyncio.create_task(read(greedy_one.stream((n, 6, 7), max_new_tokens=60, policy=cloud)))
            for n in range(8)
        ]
        await asyncio.sleep(5.0)
        begun_s = now_s()
        assert len(await read(modest.stream((5, 6, 7), max_new_tokens=20, policy=cloud))) == 20
        assert now_s() - begun_s < 22 * PASS_S + 0.1, "within what it had saved up, as fast as passes are"
        for number, answer in enumerate(await asyncio.gather(*many)):
            assert [token.id for token in answer] == greedy(TARGET, (number, 6, 7), 60)
        assert now_s() - started_s >= least_s(8 * 60, 8)
        assert now_s() - started_s < 1.2 * 8 * 63 / RATE
        assert edge.counters.by_identity["greedy"].num_tokens == 8 * 60


@in_virtual_time
async def test_a_long_prompt_is_answered_at_once_and_paid_for_before_the_text_goes_on() -> None:
    """For many seconds there is nothing to say: neither the device nor the edge takes that for an illness."""
    prompt = [number % 60 for number in range(640)]
    listener, now_s = MemoryListener(), asyncio.get_running_loop().time
    async with edge_for(listener, quota=QUOTA, max_wait_s=1.0) as edge, device_for(listener.dial) as device:
        started_s = now_s()
        stream = device.stream(prompt, max_new_tokens=10, policy=Policy.cloud())
        tokens = aiter(stream)
        answer = [(await anext(tokens)).id]
        assert now_s() - started_s < 1.0
        reading = asyncio.create_task(rest_of(tokens))
        while not reading.done():
            await asyncio.sleep(0.5)
            assert edge.health().state is State.OK
        answer += reading.result()
        assert answer == greedy(TARGET, prompt, 10)
        assert now_s() - started_s >= (640 - RATE * BURST_S) / RATE
        assert stream.summary.num_opens == 1
