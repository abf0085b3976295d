"""Long prompts among streams: what they may delay, and by how much."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from cascade.device import Device, Policy
from cascade.edge import EdgeServer, EdgeSettings
from cascade.testing import MemoryListener, PacedRunner, SyntheticTarget

from ..helpers import in_virtual_time
from .peers import VOCAB_SIZE, device_for, greedy

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
LONG_PROMPT = [number * 7 % 60 for number in range(4000)]
CHUNK = 256


def cost_s(rows: int) -> float:
    return 0.050 + 0.0001 * rows


async def gaps_beside_a_long_prompt(
    policy: Policy, *, prefill_chunk_rows: int = CHUNK
) -> tuple[float, float]:
    """The longest wait of eight streams for a token while a long prompt arrives; its own for the first."""
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    settings = EdgeSettings(prefill_chunk_rows=prefill_chunk_rows)
    gaps: list[float] = []

    async def stream(device: Device, prompt: Sequence[int], count: int) -> list[float]:
        times, ids = [], []
        async for token in device.stream(prompt, max_new_tokens=count, policy=policy):
            times.append(loop.time())
            ids.append(token.id)
        assert ids == greedy(TARGET, prompt, count)
        return times

    async def stream_and_note(device: Device, prompt: Sequence[int]) -> None:
        times = await stream(device, prompt, 100)
        gaps.extend(after - before for before, after in itertools.pairwise(times))

    async with (
        EdgeServer.of(TARGET, PacedRunner(cost_s), settings=settings) as edge,
        device_for(listener.dial, agreement=0.8) as device,
    ):
        edge.listen(listener)
        streams = [asyncio.create_task(stream_and_note(device, [n, 2, 3])) for n in range(8)]
        await asyncio.sleep(1)
        asked_s = loop.time()
        first_s = (await stream(device, LONG_PROMPT, 5))[0] - asked_s
        await asyncio.gather(*streams)
    return max(gaps), first_s


@in_virtual_time
async def test_a_long_prompt_costs_others_a_step_and_a_chunk_at_most() -> None:
    gap_s, first_s = await gaps_beside_a_long_prompt(Policy.cloud())
    assert gap_s == pytest.approx(cost_s(8 + CHUNK))
    assert gap_s <= 2 * cost_s(8) + (cost_s(CHUNK) - cost_s(0))
    num_chunks = -(-len(LONG_PROMPT) // CHUNK)
    # Its first token waits for the pass that runs, and for its chunks; the last of them also decides a token.
    assert first_s <= cost_s(8) + (num_chunks + 1) * cost_s(8 + CHUNK)


@in_virtual_time
async def test_nor_does_it_disturb_streams_with_hints() -> None:
    gap_s, _ = await gaps_beside_a_long_prompt(Policy.hint_driven())
    assert gap_s <= 2 * cost_s(8 * 17) + (cost_s(CHUNK) - cost_s(0))


@in_virtual_time
async def test_without_chunks_everybody_would_wait_for_the_whole_prompt() -> None:
    gap_s, _ = await gaps_beside_a_long_prompt(Policy.cloud(), prefill_chunk_rows=10_000)
    assert gap_s == pytest.approx(cost_s(8 + len(LONG_PROMPT)))


@in_virtual_time
async def test_a_short_prompt_does_not_stand_behind_a_long_one() -> None:
    listener = MemoryListener()
    loop = asyncio.get_running_loop()
    settings = EdgeSettings(prefill_chunk_rows=CHUNK)

    async def first_token_s(device: Device, prompt: Sequence[int]) -> float:
        asked_s = loop.time()
        async for _token in device.stream(prompt, max_new_tokens=1):
            pass
        return loop.time() - asked_s

    async with (
        EdgeServer.of(TARGET, PacedRunner(cost_s), settings=settings) as edge,
        device_for(listener.dial) as device,
    ):
        edge.listen(listener)
        long = asyncio.create_task(first_token_s(device, LONG_PROMPT))
        await asyncio.sleep(0.1)
        assert await first_token_s(device, LONG_PROMPT[120::-1]) <= 2 * cost_s(2 + CHUNK)
        assert await long > 15 * cost_s(CHUNK)
        assert edge.engine.stats.num_prefilled == 3999 + 120
