"""Engines in Ray actors: the interface holds, and an actor's death is not seen.

Ray takes seconds to start, so one cluster serves all of it. Campaigns of kills are in virtual time
(`tests/virtual/test_replicas.py`), and over a cluster of several nodes in `cascade bench ray`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from cascade.edge import BatchEngine, EdgeSettings, Engine
from cascade.edge.replicas import RaySettings, ReplicaSettings, ReplicatedEngine
from cascade.edge.replicas.on_ray import RayWorkers, ray_workers
from cascade.errors import EngineError
from cascade.models.runner import PacedRunner
from cascade.models.synthetic import SyntheticTarget

from ..helpers import tasks_left
from ..serving.servers import ask
from ..serving.test_serve_command import device_at, served
from .conformance import CHECKS, Subject, running
from .test_conformance import PROMPTS, RUN_AHEAD, TARGET, answer_of

SETTINGS = RaySettings(num_cpus=0.0)


def new_engine() -> Engine:
    """In the actor's process."""
    target = SyntheticTarget(vocab_size=64)
    return BatchEngine(target, PacedRunner(lambda rows: 0.005), EdgeSettings(run_ahead=RUN_AHEAD))


def no_engine() -> Engine:
    raise EngineError("there is no such model")


@contextlib.asynccontextmanager
async def subject_on(workers: RayWorkers, num_replicas: int) -> AsyncIterator[Subject]:
    settings = ReplicaSettings(num_replicas=num_replicas)
    async with ReplicatedEngine.over(workers, settings) as engine, running(engine) as task:
        yield Subject(
            engine=engine, running=task, answer=answer_of(TARGET), prompts=PROMPTS, run_ahead=RUN_AHEAD
        )


async def test_engines_on_ray(subtests: pytest.Subtests) -> None:
    async with ray_workers(new_engine, SETTINGS) as workers:
        async with subject_on(workers, 2) as subject:
            with subtests.test("an actor is killed in mid-stream"):
                await an_actor_is_killed(subject, workers)
            for check in CHECKS:
                with subtests.test(check.__name__):
                    await check(subject)
        with subtests.test("an engine that cannot be made"):
            async with ray_workers(no_engine, SETTINGS) as broken:
                with pytest.raises(EngineError, match="could not be made: there is no such model"):
                    async with ReplicatedEngine.over(broken, ReplicaSettings()):
                        pass
        with subtests.test("cascade serve --ray"):
            import ray

            address = ray.get_runtime_context().gcs_address
            async with served("--ray", address, "--replicas", "2", "--replica-cpus", "0") as server:
                async with device_at(server.facts["link"]) as device:
                    assert len(await ask(device)) == 20
                code, logged = await server.stop(signal.SIGTERM)
                assert code == 0
                assert "nobody was cut short" in logged
    assert tasks_left() == []


async def an_actor_is_killed(subject: Subject, workers: RayWorkers) -> None:
    """Its texts go on at the other, and it comes back."""
    engine = subject.engine
    assert isinstance(engine, ReplicatedEngine)
    async with asyncio.timeout(60):
        await engine.all_up()
    requests = [subject.request(index % 3, length_limit=300) for index in range(8)]
    texts = [subject.open(request, owner=f"owner-{at}") for at, request in enumerate(requests)]
    assert [len(replica.running) for replica in engine.replicas] == [4, 4]
    await texts[0].until(lambda: len(texts[0].said) > 20)
    victim = workers.workers[0].actor
    _, pid = await victim.where.remote()
    os.kill(pid, signal.SIGKILL)
    for opened, request in zip(texts, requests, strict=True):
        assert await opened.finish() == subject.answer(request)
    first, second = engine.replicas
    assert first.num_lives >= 2, "one for each attempt to begin again"
    assert second.num_lives == 1
    assert engine.stats.num_committed >= sum(len(opened.said) for opened in texts)
    async with asyncio.timeout(60):
        await engine.all_up()
