"""A real draft and a real target in real time: the same prompts under each policy, in turns.

Prompt by prompt and policy by policy, so that whatever else the machine does hits all of them alike; what
counts is the ratio of two runs of one prompt that stood next to each other.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ..decoding import Sampling, pick_rows
from ..device import Device, Ledger, Policy
from ..events import Source, Summary, Token
from ..links.base import Dialer, Link
from ..links.websocket import WebSocketDialer
from ..models.base import Feed, LanguageModel
from ..testing import Conditions, EmulatedLink

__all__ = ["Block", "Course", "Run", "agreed", "run_block"]

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

    def mean(self, name: str, figure: str) -> float:
        """Of a figure of the summaries, where it is known."""
        values = [getattr(run.summary, figure) for run in self.runs[name].values()]
        return statistics.fmean([value for value in values if value is not None] or [0.0])


async def run_block(
    url: str,
    draft: LanguageModel,
    prompts: Sequence[Sequence[int]],
    courses: dict[str, Course],
    *,
    rtt_s: float,
    temperature: float,
    num_tokens: int,
) -> Block:
    """The first of the prompts warms up. Answers of fewer than four tokens say nothing about time, and are
    left out."""
    block = Block(rtt_s, temperature, {name: {} for name in courses}, {name: [] for name in courses})
    async with AsyncExitStack() as stack:
        devices = {
            name: await stack.enter_async_context(
                Device([_dialer(url, rtt_s)], draft=draft, ledger=course.ledger)
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
                stream = devices[name].stream(
                    list(prompt),
                    max_new_tokens=num_tokens if number else WARM_UP_TOKENS,
                    temperature=temperature,
                    seed=sampling.seed,
                    policy=course.policy,
                    quality=course.quality,
                )
                tokens = [token async for token in stream]
                run = _run(prompt, sampling, tokens, stream.summary)
                block.delivered[name].append(run)
                if number and len(tokens) > 3:
                    block.runs[name][number] = run
    return block


def _run(prompt: Sequence[int], sampling: Sampling, tokens: Sequence[Token], summary: Summary) -> Run:
    return Run(
        prompt=tuple(prompt),
        sampling=sampling,
        tokens=tuple(token.id for token in tokens),
        sources=tuple(token.source for token in tokens),
        summary=summary,
    )


def agreed(draft: LanguageModel, run: Run) -> list[bool]:
    """Would the draft have guessed each token, everything before it being the target's?"""
    sequence = draft.new_sequence()
    fed = [*run.prompt, *run.tokens[:-1]]
    logits = draft.forward([Feed(sequence, fed, len(run.tokens))])
    sequence.release()
    positions = range(len(run.prompt), len(run.prompt) + len(run.tokens))
    picks = pick_rows(logits, [run.sampling] * len(run.tokens), list(positions)).tolist()
    return [guess == token for guess, token in zip(picks, run.tokens, strict=True)]


def _dialer(url: str, rtt_s: float) -> Dialer:
    socket = WebSocketDialer(url)

    async def dial() -> Link:
        link = await socket()
        one_way = Conditions(delay_s=rtt_s / 2)
        return EmulatedLink(link, up=one_way, down=one_way) if rtt_s else link

    return dial
