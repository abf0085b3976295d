"""What one hostile device costs sixteen honest ones: time per token, p95 over streams, over real sockets.

`cascade serve --model synthetic` (a pass takes 50 ms and 0.1 ms a row), the honest devices and the hostile
one are processes of their own on this machine. Before each attack the honest devices stream the same in
peace, and what counts is the ratio of the two, for machines have moods; the figure is the median of the
rounds. Of sixteen streams the slowest alone would be the 95th percentile, so each device streams several
times. The attacker has a lower priority, for in truth it has a machine of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ...device import Device
from ...links.websocket import WebSocketDialer
from ...models.runner import PacedRunner, constant_cost
from ...models.synthetic import SyntheticDraft, SyntheticTarget
from ..hostile import KINDS
from ..progress import must, say

__all__ = ["run"]

NUM_HONEST = 16
TURNS, QUICK_TURNS = 3, 1
TOKENS = 75
ROUNDS = 5
MUST_RATIO = 1.1
MUST_GROWTH_BYTES = 100e6
AGREEMENT = 0.8
DRAFT_STEP_S = 0.01
CONFIG = """
[quota]
max_links = 4
max_sessions = 4
messages_per_s = 200
tokens_per_s = 600
"""
"""What an operator would set: an honest device here asks for about half of it."""
SETTLE_S = 2.0
"""Then the sockets are full, and the attack is what the edge lets through."""
ATTACKER_NICENESS = 10
MAX_ATTACK_S = 120.0


@dataclass
class Trial:
    """One kind of attack, over all rounds."""

    p95_ms: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    num_sent: int = 0
    told: set[str] = field(default_factory=set)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def run(*, quick: bool = False) -> dict[str, Any]:
    """For each attack: p95 of the honest devices, its ratio to peace, what the attacker was told. `quick`
    takes one round in place of five, and a stream of each device."""
    return asyncio.run(_run(1, QUICK_TURNS) if quick else _run(ROUNDS, TURNS))


async def _run(num_rounds: int, num_turns: int) -> dict[str, Any]:
    trials = {kind: Trial() for kind in KINDS}
    peace: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with _edge(Path(folder)) as (process, url):
            memory = psutil.Process(process.pid)
            await _honest_p95_ms(url, num_turns)  # warm
            before = memory.memory_info().rss
            for number in range(1, num_rounds + 1):
                for kind, trial in trials.items():
                    calm_ms = await _honest_p95_ms(url, num_turns)
                    peace.append(calm_ms)
                    await _one(kind, url, trial, calm_ms, num_turns)
                    say(f"round {number} of {num_rounds}: {kind}, {trial.ratios[-1]:.3f} of {calm_ms:.1f} ms")
            after = memory.memory_info().rss
    return {
        "musts": [
            *(
                must(f"{kind}: p95 of the honest, times (at most)", trial.ratio, at_most=MUST_RATIO)
                for kind, trial in trials.items()
            ),
            must(
                "the edge's memory, growth in MB (at most)",
                (after - before) / 1e6,
                at_most=MUST_GROWTH_BYTES / 1e6,
            ),
        ],
        "honest_devices": NUM_HONEST,
        "streams": NUM_HONEST * num_turns,
        "tokens_a_stream": TOKENS,
        "peace_p95_ms": statistics.median(peace),
        "attacks": [
            {
                "attack": kind,
                "p95_ms": statistics.median(trial.p95_ms),
                "ratio": trial.ratio,
                "ratios": sorted(round(ratio, 3) for ratio in trial.ratios),
                "messages_sent": trial.num_sent,
                "told": sorted(trial.told),
            }
            for kind, trial in trials.items()
        ],
        "edge_memory_before_mb": before / 1e6,
        "edge_memory_after_mb": after / 1e6,
    }


async def _one(kind: str, url: str, trial: Trial, calm_ms: float, num_turns: int) -> None:
    """Measure the honest devices while the attack goes on."""
    attacker = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(ATTACKER_NICENESS)),
        *(sys.executable, "-m", "cascade.lab.hostile", kind, url, token_of("mallory"), str(MAX_ATTACK_S)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert attacker.stdout is not None
    await attacker.stdout.readline()  # it has begun
    await asyncio.sleep(SETTLE_S)
    p95_ms = await _honest_p95_ms(url, num_turns)
    attacker.terminate()
    said, _ = await attacker.communicate()
    report = json.loads(said)
    trial.p95_ms.append(p95_ms)
    trial.ratios.append(p95_ms / calm_ms)
    trial.num_sent += report["sent"]
    trial.told |= set(report["told"])


def token_of(identity: str) -> str:
    return f"the token of {identity}"


@contextlib.asynccontextmanager
async def _edge(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`cascade serve` as an operator would start it."""
    names = ["mallory", *(f"honest-{number}" for number in range(NUM_HONEST))]
    tokens, config = folder / "tokens.toml", folder / "edge.toml"
    await asyncio.to_thread(config.write_text, CONFIG)
    text = "".join(f'[{name}]\ntokens = ["{token_of(name)}"]\n' for name in names)
    await asyncio.to_thread(tokens.write_text, text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cascade.cli", "serve", "--model", "synthetic", "--http", "127.0.0.1:0"),
        *("--json", "--tokens", str(tokens), "--config", str(config), "--drain-seconds", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())["link"]
    finally:
        process.terminate()
        await process.communicate()


async def _honest_p95_ms(url: str, num_turns: int) -> float:
    """All at once, some streams each; the p95 over the streams of the time per token behind the first."""
    target = SyntheticTarget()
    devices = [
        Device(
            [WebSocketDialer(url, token=token_of(f"honest-{number}"))],
            draft=SyntheticDraft(target, agreement=AGREEMENT, seed=number),
            runner=PacedRunner(constant_cost(DRAFT_STEP_S)),
        )
        for number in range(NUM_HONEST)
    ]
    async with contextlib.AsyncExitStack() as stack:
        for device in devices:
            await stack.enter_async_context(device)
        all_ms = await asyncio.gather(
            *(_streams(device, number, num_turns) for number, device in enumerate(devices))
        )
    by_speed = sorted(itertools.chain.from_iterable(all_ms))
    return by_speed[math.ceil(0.95 * len(by_speed)) - 1]


async def _streams(device: Device, number: int, num_turns: int) -> list[float]:
    """One after the other."""
    found = []
    for turn in range(num_turns):
        stream = device.stream([1 + number, 2 + turn, 3], max_new_tokens=TOKENS)
        times_s = [token.time_s async for token in stream]
        found.append((times_s[-1] - times_s[0]) / (len(times_s) - 1) * 1000)
    return found
