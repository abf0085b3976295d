"""Every check of `conformance.py` over a real vLLM, started once: `PYTHON -m tests.engines.vllm_checks`.

Prints a JSON object: for each check "passed", "lacks ..." or what went wrong. `test_vllm.py` reads it. It is
a program of its own because vLLM lives in an environment of its own, and takes a minute to start.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Callable

from cascade.edge import EdgeSettings
from cascade.edge.interface import DecodeRequest
from cascade.edge.vllm import VllmEngine, VllmModel, start
from cascade.wire import Feature

from .conformance import CHECKS, NEEDS, Opened, Subject, running

PROMPTS = ((504, 3575, 282, 4649, 314), (28120,), tuple(range(300, 340)))
RUN_AHEAD = 16
NUM_KNOWN = 128
"""Tokens of each prompt's answer: more than any check asks for."""
SETTINGS = EdgeSettings(run_ahead=RUN_AHEAD, kv_bytes=1 << 30, max_fed_hints=8)


async def main() -> None:
    model = await start(
        "smollm2-135m",
        settings=SETTINGS,
        dtype="float32",
        arguments={"enforce_eager": True, "max_num_seqs": 8},
    )
    try:
        answers = await _answers(model)
        verdicts = {check.__name__: await _verdict(check, model, answers) for check in CHECKS}
        sys.stdout.write(json.dumps(verdicts) + "\n")
    finally:
        await model.close()


async def _answers(model: VllmModel) -> dict[tuple[int, ...], list[int]]:
    """What the model says where nobody hints at anything."""
    alone = EdgeSettings(run_ahead=NUM_KNOWN + 1, kv_bytes=SETTINGS.kv_bytes)
    engine = VllmEngine(model, alone)
    async with running(engine) as task:
        subject = Subject(engine, task, lambda request: [], PROMPTS, alone.run_ahead, num_tokens=NUM_KNOWN)
        opened = [Opened(engine, subject.request(index), prompt) for index, prompt in enumerate(PROMPTS)]
        return {prompt: await one.finish() for prompt, one in zip(PROMPTS, opened, strict=True)}


def _answer_of(answers: dict[tuple[int, ...], list[int]]) -> Callable[[DecodeRequest], list[int]]:
    def answer(request: DecodeRequest) -> list[int]:
        said = answers[request.prompt][: request.length_limit - len(request.prompt)]
        ends = [index for index, token in enumerate(said) if token in request.stop_ids]
        return said[: ends[0] + 1] if ends else said

    return answer


async def _verdict(check: object, model: VllmModel, answers: dict[tuple[int, ...], list[int]]) -> str:
    engine = VllmEngine(model, SETTINGS)
    if missing := NEEDS.get(check, Feature.NONE) & engine.served.lacks:  # type: ignore[call-overload]
        return f"lacks {missing.name}"
    try:
        async with running(engine) as task:
            await engine.is_bound.wait()
            await check(Subject(engine, task, _answer_of(answers), PROMPTS, RUN_AHEAD))  # type: ignore[operator]
    except Exception:
        return traceback.format_exc(limit=-3)
    return "passed"


if __name__ == "__main__":
    asyncio.run(main())
