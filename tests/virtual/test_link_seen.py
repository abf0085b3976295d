"""What a stream's summary says of its link, against what the link was made to be."""

from __future__ import annotations

import asyncio

import pytest

from cascade.device import AnswerStream, Device, Policy
from cascade.edge import EdgeServer
from cascade.events import Summary
from cascade.links.base import Link
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import (
    Conditions,
    EmulatedLink,
    MemoryListener,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

PASS_S = 0.05


def summary_over(
    way: Conditions, *, prompt_length: int = 3, num_tokens: int = 200, is_reliable: bool = True
) -> Summary:
    async def stream() -> Summary:
        target, listener = SyntheticTarget(), MemoryListener()

        async def dial() -> Link:
            return EmulatedLink(await listener.dial(), up=way, down=way, seed=5, is_reliable=is_reliable)

        draft, runner = SyntheticDraft(target, agreement=0.8), PacedRunner(constant_cost(0.005))
        edge = EdgeServer.of(target, PacedRunner(constant_cost(PASS_S)))
        async with edge, Device([dial], draft=draft, runner=runner, seed=1) as device:
            edge.listen(listener)
            prompt = [1 + index % 60 for index in range(prompt_length)]
            answer = await device.generate(prompt, max_new_tokens=num_tokens, policy=Policy.adaptive())
        return answer.summary

    return run_virtual(stream(), limit_s=3600)


@pytest.mark.parametrize("bytes_per_s", [4_000, 20_000])
def test_a_slow_links_bandwidth_is_seen(bytes_per_s: float) -> None:
    summary = summary_over(
        Conditions(delay_s=0.05, jitter_s=0.002, rate_bytes_per_s=bytes_per_s), prompt_length=1500
    )
    assert summary.bandwidth_bytes_per_s is not None
    assert summary.bandwidth_bytes_per_s == pytest.approx(bytes_per_s, rel=0.3)
    assert f"{summary.bandwidth_bytes_per_s / 1000:.1f} kB/s" in str(summary)
    assert summary.rtt_s == pytest.approx(0.1, abs=0.03), "the prompt's size is not the link's delay"


def test_a_fast_links_is_not() -> None:
    summary = summary_over(Conditions(delay_s=0.05, jitter_s=0.002, rate_bytes_per_s=10_000_000))
    assert summary.bandwidth_bytes_per_s is None
    assert "more than was needed" in str(summary)
    assert summary.loss is None, "too few stamps"


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.1, 0.2])
def test_losses_are_seen(loss: float) -> None:
    """About: some fifty stamps say it."""
    summary = summary_over(Conditions(delay_s=0.05, loss=loss), num_tokens=2000, is_reliable=False)
    assert summary.loss == pytest.approx(loss, rel=0.5, abs=1e-9)
    assert f"loss {loss * 100:.1f} %" in str(summary) or loss


def test_a_reliable_link_loses_nothing_it_stalls() -> None:
    summary = summary_over(Conditions(delay_s=0.05, loss=0.02), num_tokens=2000)
    assert summary.loss == 0.0


def test_waiting_at_a_crowded_edge_is_seen() -> None:
    assert summary_over(Conditions(delay_s=0.05)).edge_queue_s == 0.0
    crowded = run_virtual(_beside(7), limit_s=3600)
    assert crowded.edge_queue_s is not None
    assert crowded.edge_queue_s > PASS_S / 2


async def _beside(num_others: int) -> Summary:
    """Others of the same identity take turns with it: rows are dear."""
    target, listener = SyntheticTarget(), MemoryListener()
    edge = EdgeServer.of(target, PacedRunner(lambda rows: PASS_S * rows))
    draft, runner = SyntheticDraft(target, agreement=0.8), PacedRunner(constant_cost(0.005))
    async with edge, Device([listener.dial], draft=draft, runner=runner, seed=1) as device:
        edge.listen(listener)
        streams = [device.stream([9 + number, 2], max_new_tokens=60) for number in range(1 + num_others)]
        async with asyncio.TaskGroup() as tasks:
            for stream in streams:
                tasks.create_task(_read(stream))
    return streams[0].summary


async def _read(stream: AnswerStream) -> None:
    async for _token in stream:
        pass
