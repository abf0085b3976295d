"""vLLM as the engine with SmolLM2: the same text whatever the hints, steps saved, our engine beside it."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.device import Device, Policy
from cascade.edge.vllm import check_installed
from cascade.events import Summary
from cascade.links.base import Dialer, Link
from cascade.links.websocket import WebSocketDialer
from cascade.models.guessing import GuessingDraft
from cascade.testing import Conditions, EmulatedLink

from ..cores import pinned, real_edge, two_cores
from ..progress import must, say

if TYPE_CHECKING:
    from cascade.models.base import LanguageModel
    from cascade.models.text import TextTokenizer

__all__ = ["run"]

NEEDS = "vllm"
TARGET, DRAFT = "smollm2-135m", "smollm2-135m-draft"
DTYPE = "float32"
"""In bfloat16 near ties fall differently at another width of a pass, with vLLM as with us."""
NUM_TOKENS = 40
NUM_GUESSED_TOKENS = 24
LATE_S = 0.4
LATE_WINDOW = 2
"""Two hints that are under way for so long are always too late: the text is further by then."""
LOSS = 0.5
Answers = dict[tuple[int, ...], tuple[int, ...]]


def run(*, quick: bool = False) -> dict[str, Any]:
    """Needs vLLM in the environment it runs in (docs/engines.md), the target and two cores.

    `quick` takes 3 prompts for 20, and leaves vLLM's compiler out.
    """
    check_installed()
    from cascade.models.distill.result import held_out_prompts
    from cascade.models.loading import open_model

    edge_core, device_core = two_cores()
    num_prompts, num_tokens = (3, 24) if quick else (20, NUM_TOKENS)
    prompts = [tuple(prompt) for prompt in held_out_prompts(DRAFT)[: num_prompts + 1]]  # one to warm up
    options = ["--engine", "vllm", "--vllm", f"enforce_eager={'true' if quick else 'false'}"]
    options += ["--vllm", "max_num_seqs=8", "--vllm", "max_model_len=2048"]
    with pinned(device_core):
        draft = open_model(DRAFT, dtype="int8", device="cpu")
        assert draft.tokenizer is not None
        say("starting vLLM, which takes a minute or two")
        binding = {"VLLM_CPU_OMP_THREADS_BIND": str(edge_core)}
        with real_edge(TARGET, DTYPE, None, *options, environment=binding) as url:
            theirs, answers = asyncio.run(_time(url, draft, prompts, num_tokens))
            same = asyncio.run(_compare(url, draft.tokenizer, answers, 16 if quick else NUM_GUESSED_TOKENS))
        say("starting our engine")
        with real_edge(TARGET, DTYPE, edge_core) as url:
            ours, our_answers = asyncio.run(_time(url, draft, prompts, num_tokens))
    engines = [{"engine": "vllm", **theirs}, {"engine": "torch", **ours}]
    return {
        "target": TARGET,
        "draft": DRAFT,
        "dtype": DTYPE,
        "compiled": not quick,
        "prompts": num_prompts,
        "engines": engines,
        "texts": same,
        "same_text_as_torch": sum(answers[prompt] == our_answers[prompt] for prompt in answers),
        "musts": [
            must("texts that hints changed", sum(one["changed"] for one in same), at_most=0),
            must("tokens per step with hints", theirs["tokens_per_step"], at_least=1.4),
        ],
    }


async def _time(
    url: str, draft: LanguageModel, prompts: Sequence[tuple[int, ...]], num_tokens: int
) -> tuple[dict[str, Any], Answers]:
    """Without hints and with those of the draft, prompt by prompt; and what was said without."""
    plain: list[Summary] = []
    hinted: list[Summary] = []
    answers: Answers = {}
    num_changed = 0
    steps = Steps(url)
    async with Device([WebSocketDialer(url)], draft=draft) as device:
        for number, prompt in enumerate(prompts):
            alone, summary = await _ask(device, prompt, Policy.cloud(), num_tokens)
            await steps.begin()
            with_hints, hinted_summary = await _ask(device, prompt, Policy.hint_driven(), num_tokens)
            if number:
                await steps.end()
                plain.append(summary)
                hinted.append(hinted_summary)
                answers[prompt] = alone
                num_changed += with_hints != alone
                say(f"{len(answers)} of {len(prompts) - 1}")
    plain_ms, hinted_ms = (_ms_per_token(summaries) for summaries in (plain, hinted))
    row = {
        "plain_ms_per_token": plain_ms,
        "hinted_ms_per_token": hinted_ms,
        "gain": round(plain_ms / hinted_ms, 3),
        "tokens_per_step": round(steps.num_tokens / steps.num_steps, 3),
        "changed_by_draft": num_changed,
    }
    return row, answers


def _ms_per_token(summaries: Sequence[Summary]) -> float:
    return round(statistics.median(summary.time_per_token_s for summary in summaries) * 1000, 2)


async def _compare(
    url: str, tokenizer: TextTokenizer, answers: Answers, num_tokens: int
) -> list[dict[str, Any]]:
    """Guesses that are all right, all wrong, too late, or half of them lost: a row for each."""
    up = Conditions(delay_s=LATE_S)
    lossy = Conditions(loss=LOSS)
    kinds = [
        Kind("right", _right(answers), WebSocketDialer(url)),
        Kind("wrong", _wrong(answers, tokenizer.vocab_size), WebSocketDialer(url)),
        Kind("late", _right(answers), _worse(url, up, is_reliable=True), window=LATE_WINDOW),
        Kind("lost", _right(answers), _worse(url, lossy, is_reliable=False)),
    ]
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        draft = GuessingDraft(kind.guess, tokenizer=tokenizer)
        steps = Steps(url)
        num_changed = 0
        async with Device([kind.dialer], draft=draft) as device:
            await steps.begin()
            for prompt, answer in answers.items():
                said, _ = await _ask(device, prompt, Policy.hint_driven(window=kind.window), num_tokens)
                num_changed += said != answer[:num_tokens]
            await steps.end()
        rows.append(
            {
                "hints": kind.name,
                "texts": len(answers),
                "changed": num_changed,
                "hints_fed": steps.num_fed,
                "tokens_per_step": round(steps.num_tokens / steps.num_steps, 3),
            }
        )
        say(f"{kind.name}: {num_changed} of {len(answers)} texts changed")
    return rows


async def _ask(
    device: Device, prompt: tuple[int, ...], policy: Policy, num_tokens: int
) -> tuple[tuple[int, ...], Summary]:
    stream = device.stream(list(prompt), max_new_tokens=num_tokens, policy=policy)
    return tuple([token.id async for token in stream]), stream.summary


@dataclass(frozen=True, slots=True)
class Kind:
    """Of hints: what is guessed, and how it gets there."""

    name: str
    guess: Callable[[Sequence[int]], tuple[int, float] | None]
    dialer: Dialer
    window: int = 12


def _right(answers: Answers) -> Callable[[Sequence[int]], tuple[int, float] | None]:
    texts = {prompt: (*prompt, *answer) for prompt, answer in answers.items()}

    def guess(tokens: Sequence[int]) -> tuple[int, float] | None:
        for text in texts.values():
            if len(tokens) < len(text) and tuple(tokens) == text[: len(tokens)]:
                return text[len(tokens)], 0.95
        return None

    return guess


def _wrong(answers: Answers, vocab_size: int) -> Callable[[Sequence[int]], tuple[int, float] | None]:
    """Every third is one beside what comes next, so that it stands behind some that are right, and is fed;
    and behind it is anything."""
    right = _right(answers)

    def guess(tokens: Sequence[int]) -> tuple[int, float] | None:
        found = right(tokens)
        if found is not None and len(tokens) % 3:
            return found
        return ((tokens[-1] if found is None else found[0]) + 1) % vocab_size, 0.95

    return guess


def _worse(url: str, up: Conditions, *, is_reliable: bool) -> Dialer:
    dial_well = WebSocketDialer(url)

    async def dial() -> Link:
        return EmulatedLink(await dial_well(), up=up, seed=1, is_reliable=is_reliable)

    return dial


class Steps:
    """What the edge's engine has done between `begin` and `end`, as its metrics say; they add up."""

    def __init__(self, url: str) -> None:
        self._url = re.sub(r"^ws(.*)/v1/link$", r"http\1/metrics", url)
        self._before = (0, 0, 0)
        self.num_steps = self.num_tokens = self.num_fed = 0

    async def begin(self) -> None:
        self._before = await self._read()

    async def end(self) -> None:
        steps, tokens, fed = (now - then for now, then in zip(await self._read(), self._before, strict=True))
        self.num_steps += steps
        self.num_tokens += tokens
        self.num_fed += fed

    async def _read(self) -> tuple[int, int, int]:
        import aiohttp

        await asyncio.sleep(0.2)  # what the engine says of its last step may be under way
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            page = await (await stack.enter_async_context(session.get(self._url))).text()
        return _total(page, "passes"), _total(page, "generation_tokens"), _total(page, "num_draft_tokens")


def _total(page: str, name: str) -> int:
    found = re.search(rf"^cascade_(?:spec_decode_)?{name}_total (\S+)$", page, re.MULTILINE)
    assert found is not None, name
    return int(float(found[1]))
