"""A real draft and a real target in real time: the same prompts under each policy, in turns.

Prompt by prompt and policy by policy, so that whatever else the machine does hits all of them alike; what
counts is the ratio of two runs of one prompt that stood next to each other.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ..decoding import Sampling
from ..device import Device, Ledger, Policy
from ..events import Source, Summary
from ..links.base import Dialer, Link
from ..links.websocket import WebSocketDialer
from ..models.base import LanguageModel
from ..models.runner import Runner
from ..testing import Conditions, EmulatedLink

__all__ = ["Block", "Course", "Run", "dialer", "run_block"]

WARM_UP_TOKENS = 24
"""Of a first stream of each policy that is not counted: devices live long, and know their link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One policy, the prompts it is run on (every one, or every so many), and what is promised."""

    policy: Policy
    every: int = 1
    quality: float = 1.0
    ledger: Ledger = field(default_factory=Ledger)
    """Of this course's account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One answer."""

    prompt: tuple[int, ...]
    sampling: Sampling
    tokens: tuple[int, ...]
    sources: tuple[Source, ...]
    """Of the tokens."""
    summary: Summary
    began_s: float
    ended_s: float


@dataclass(slots=True)
class Block:
    """All runs on one link at one temperature."""

    rtt_s: float
    temperature: float
    runs: dict[str, dict[int, Run]] = field(default_factory=dict)
    """Those that count: policy -> number of the prompt -> run."""
    delivered: dict[str, list[Run]] = field(default_factory=dict)
    """All of them in their order, the first ones and short ones too."""

    def times_s(self, name: str) -> list[float]:
        return [run.summary.time_per_token_s for run in self.runs[name].values()]

    def first_tokens_s(self, name: str) -> list[float]:
        return [run.summary.time_to_first_token_s for run in self.runs[name].values()]

    def ratios(self, name: str, to: str) -> list[float]:
        """Time per token against another policy's on the same prompt."""
        others = self.runs[to]
        return [
            run.summary.time_per_token_s / others[number].summary.time_per_token_s
            for number, run in self.runs[name].items()
            if number in others
        ]

    def known(self, name: str, figure: str) -> list[float]:
        """A figure of the summaries, of those that know it."""
        values = [getattr(run.summary, figure) for run in self.runs[name].values()]
        return [value for value in values if value is not None]

    def mean(self, name: str, figure: str) -> float:
        """Of such a figure; 0 where nobody knows it."""
        return statistics.fmean(self.known(name, figure) or [0.0])


async def run_block(
    dial: Dialer,
    draft: LanguageModel,
    prompts: Sequence[Sequence[int]],
    courses: dict[str, Course],
    *,
    rtt_s: float,
    temperature: float,
    num_tokens: int,
    runner: Runner | None = None,
) -> Block:
    """The first of the prompts warms up. Answers of fewer than four tokens say nothing about time, and are
    left out. `runner`: of the draft, for all courses."""
    now_s = asyncio.get_running_loop().time
    block = Block(rtt_s, temperature, {name: {} for name in courses}, {name: [] for name in courses})
    async with AsyncExitStack() as stack:
        devices = {
            name: await stack.enter_async_context(
                Device([dial], draft=draft, runner=runner, ledger=course.ledger)
            )
            for name, course in courses.items()
        }
        names = list(courses)
        for number, prompt in enumerate(prompts):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                course = courses[name]
                if number % course.every and number:
                    continue
                sampling = Sampling(temperature=temperature, seed=1 + number)
                began_s = now_s()
                stream = devices[name].stream(
                    list(prompt),
                    max_new_tokens=num_tokens if number else WARM_UP_TOKENS,
                    temperature=temperature,
                    seed=sampling.seed,
                    policy=course.policy,
                    quality=course.quality,
                )
                tokens = [token async for token in stream]
                run = Run(
                    prompt=tuple(prompt),
                    sampling=sampling,
                    tokens=tuple(token.id for token in tokens),
                    sources=tuple(token.source for token in tokens),
                    summary=stream.summary,
                    began_s=began_s,
                    ended_s=now_s(),
                )
                block.delivered[name].append(run)
                if number and len(tokens) > 3:
                    block.runs[name][number] = run
    return block


def dialer(url: str, rtt_s: float) -> Dialer:
    """To an edge on this machine, as if it were so far away."""
    socket = WebSocketDialer(url)

    async def dial() -> Link:
        one_way = Conditions(delay_s=rtt_s / 2)
        return EmulatedLink(await socket(), up=one_way, down=one_way)

    return dial if rtt_s else socket
