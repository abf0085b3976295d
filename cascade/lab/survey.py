"""Measures a place: the draft on this device, the load beside it, and the way to an edge."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from dataclasses import dataclass

from ..device import Device, Policy
from ..errors import CascadeError, LinkUnavailable
from ..links.base import Dialer
from ..measure import Knowledge
from ..models.base import Feed, LanguageModel
from ..models.runner import Runner
from .energy import Energy, EnergyMeter

__all__ = ["DraftFound", "EdgeFound", "device_load", "measure_draft", "measure_edge"]

PROMPT_TOKENS = 64
NUM_WARM = 4
NUM_STEPS = 32
NUM_STREAMS = 3
NUM_TOKENS = 24
LONG_PROMPT = 129
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftFound:
    """A draft on this device."""

    step_s: float
    row_s: float
    """What each further token of a prompt adds to the first step."""
    energy: Energy | None
    """Of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFound:
    """An edge, and the link to it."""

    rtt_s: float
    jitter_s: float
    pass_s: float
    row_s: float
    agreement: float | None
    """With the draft, on random text: a cautious figure. None without a draft."""


def device_load() -> float:
    """The share of this machine's processors that was in use during the last minute."""
    try:
        return min(os.getloadavg()[0] / (os.cpu_count() or 1), 0.95)
    except (AttributeError, OSError):  # a system that does not say
        return 0.0


async def measure_draft(model: LanguageModel, runner: Runner, meter: EnergyMeter | None = None) -> DraftFound:
    """The middle step of a few dozen, at the pace that the device has now."""
    loop = asyncio.get_running_loop()
    dice = random.Random(1)
    sequence = model.new_sequence()

    async def step(num_tokens: int) -> float:
        feed = Feed(sequence, [dice.randrange(model.vocab_size) for _ in range(num_tokens)], 1)
        started_s = loop.time()
        await runner.run(lambda: model.forward([feed]), rows=num_tokens)
        return loop.time() - started_s

    try:
        await step(1)  # whatever a model prepares at its first step
        prompt_s = await step(PROMPT_TOKENS)
        for _ in range(NUM_WARM):
            await step(1)
        if meter is not None:
            await asyncio.to_thread(meter.start)
        steps_s = sorted([await step(1) for _ in range(NUM_STEPS)])
        energy = None if meter is None else await asyncio.to_thread(meter.read)
    finally:
        sequence.release()
    step_s = max(steps_s[NUM_STEPS // 2], 1e-6)
    return DraftFound(
        step_s=step_s,
        row_s=max(0.0, prompt_s - step_s) / (PROMPT_TOKENS - 1),
        energy=None if energy is None else dataclasses.replace(energy, joules=energy.joules / NUM_STEPS),
    )


async def measure_edge(
    dial: Dialer,
    *,
    identity: str,
    token: str = "",
    draft: LanguageModel | None = None,
    runner: Runner | None = None,
) -> EdgeFound:
    """A few short answers of plain streaming, one to a longer prompt, and with a draft one with hints."""
    known = Knowledge()
    device = Device(
        [dial], draft=draft, runner=runner, identity=identity, token=token, knowledge=known, seed=1
    )
    dice = random.Random(2)
    try:
        async with asyncio.timeout(TIMEOUT_S), device:
            firsts_s = [await _first_s(device, dice, 1) for _ in range(NUM_STREAMS)]
            long_s = min([await _first_s(device, dice, LONG_PROMPT) for _ in range(2)])
            if draft is not None:
                prompt = [dice.randrange(draft.vocab_size) for _ in range(8)]
                await device.generate(prompt, max_new_tokens=4 * NUM_TOKENS, stop_ids=())
    except TimeoutError as error:
        raise LinkUnavailable(f"the edge did not answer within {TIMEOUT_S:g} s; is it there?") from error
    if known.link.rtt_s is None or not known.passes.base_s:
        raise CascadeError("the edge said nothing of its passes; declare them with --pass-ms")
    return EdgeFound(
        rtt_s=known.link.rtt_s,
        jitter_s=known.link.jitter_s,
        pass_s=known.passes.base_s,
        row_s=max(0.0, long_s - min(firsts_s)) / (LONG_PROMPT - 1),
        agreement=None if draft is None else known.agreement.chance,
    )


async def _first_s(device: Device, dice: random.Random, num_prompt_tokens: int) -> float:
    """Seconds to the first token, of a prompt that no cache has."""
    prompt = [dice.randrange(64) for _ in range(num_prompt_tokens)]
    answer = await device.generate(prompt, max_new_tokens=NUM_TOKENS, stop_ids=(), policy=Policy.cloud())
    return answer.summary.time_to_first_token_s
