"""What an operator sees: health, metrics, and a line for each session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cascade.apps.serving import ServeOptions, Serving
from cascade.device import Policy
from cascade.edge import BatchEngine
from cascade.edge.counters import MAX_IDENTITIES, OTHERS, Counters
from cascade.edge.decode import PlannedStep
from cascade.edge.replicas import ReplicaSettings, ReplicatedEngine
from cascade.edge.replicas.local import LocalWorkers
from cascade.errors import RefusedError
from cascade.events import Token
from cascade.models.runner import PacedRunner

from .servers import PASS_S, TARGET, ask, device_at, get, post, serving


async def metrics(server: Serving) -> dict[str, float]:
    """Every sample, by its name and labels."""
    status, text = await get(server, "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f"{{{value}}}" for value in sample.labels.values())
            found[sample.name.removeprefix("cascade_") + labels] = sample.value
    return found


async def test_metrics_tell_what_happened() -> None:
    async with serving() as server:
        async with device_at(server, identity="phone", agreement=1.0) as device:
            hinted = device.stream([5, 6, 7], max_new_tokens=40)
            assert len([token async for token in hinted]) == 40
            assert len(await ask(device, 10, Policy.cloud())) == 10
        await post(server, {"tokens": [1, 2], "draft": [3]})
        found = await metrics(server)
        num_verified = server.edge.counters.by_identity["http:127.0.0.1"].num_tokens
        assert found["generation_tokens_total"] == 50 + num_verified
        assert found["sessions_total"] == 2
        assert found["sessions_ended_total{finished}"] == 2
        assert found["prompt_tokens_total"] == 3 + 3 + 3
        assert found["identity_generation_tokens_total{phone}"] == 50
        assert found["identity_hinted_tokens_total{phone}"] == hinted.summary.num_hinted
        accepted = found["spec_decode_num_accepted_tokens_total"]
        assert hinted.summary.num_hinted <= accepted <= found["spec_decode_num_draft_tokens_total"]
        assert found["spec_decode_num_draft_tokens_total"] <= found["hint_tokens_offered_total"]
        assert found["driven_tokens_total"] == found["generation_tokens_total"] - accepted
        assert found["step_duration_seconds_count"] == found["passes_total"]
        assert found["step_rows_sum"] == found["pass_rows_total"]
        assert found["time_to_first_token_seconds_count"] == 2
        assert found["bytes_received_total"] > 0
        assert found["bytes_sent_total"] > 0
        assert found["up"] == found["state{ok}"] == 1
        assert found["num_requests_running"] == 0


async def test_each_of_several_engines_has_figures_of_its_own() -> None:
    workers = LocalWorkers(lambda: BatchEngine(TARGET, PacedRunner(lambda rows: PASS_S)))
    async with ReplicatedEngine.over(workers, ReplicaSettings(num_replicas=2)) as engine:
        server = await asyncio.to_thread(Serving, engine, ServeOptions(port=0))
        async with server, device_at(server, agreement=1.0) as device:
            await asyncio.gather(ask(device), ask(device))
            found = await metrics(server)
    for name in ("passes_total", "generation_tokens_total"):
        ours = [found[f"replica_{name}{{{index}}}"] for index in (0, 1)]
        assert min(ours) > 0
        assert sum(ours) == found[name]
    rest = ("up{0}", "up{1}", "texts_total{0}", "texts_total{1}", "begins_total{0}", "begins_total{1}")
    assert [found[f"replica_{name}"] for name in rest] == [1] * 6


async def test_a_device_that_says_its_name_in_metrics_language_breaks_nothing() -> None:
    async with serving() as server:
        async with device_at(server, identity='a"} 7\nup 1\\') as device:
            assert len(await ask(device)) == 20
        found = await metrics(server)
        assert found['identity_generation_tokens_total{a"} 7\nup 1\\}'] == 20


def test_identities_in_metrics_are_bounded() -> None:
    counters = Counters()
    for number in range(2 * MAX_IDENTITIES):
        counters.usage_of(f"device-{number}").num_tokens += 1
    assert len(counters.by_identity) == MAX_IDENTITIES + 1
    assert counters.by_identity[OTHERS].num_tokens == MAX_IDENTITIES


async def test_health_says_how_it_is_and_whether_devices_should_come() -> None:
    async with serving(pass_s=0.3, edge={"max_wait_s": 0.1}) as server:
        status, text = await get(server, "/health")
        assert (status, json.loads(text)["status"]) == (200, "ok")
        async with device_at(server) as device:
            asked = asyncio.create_task(ask(device, 2, Policy.cloud()))
            await asyncio.sleep(0.2)
            status, text = await get(server, "/health")
            facts = json.loads(text)
            assert (status, facts["num_waiting"]) == (503, 1)
            assert facts["status"] in ("drowning", "stalled")
            await asked
        assert (await get(server, "/health"))[0] == 200


class MortalEngine(BatchEngine):
    """Dies when it is told to."""

    is_doomed = False

    async def _schedule(self) -> list[PlannedStep]:
        if self.is_doomed:
            raise RuntimeError("out of everything")
        return await super()._schedule()


async def test_a_dead_engine_is_said_by_health_and_to_devices(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(kind=MortalEngine) as server:
        async with device_at(server) as device:
            stream = device.stream([5, 6, 7], max_new_tokens=100_000, policy=Policy.cloud())
            tokens = aiter(stream)
            await anext(tokens)
            engine = server.edge.engine
            assert isinstance(engine, MortalEngine)
            engine.is_doomed = True
            with pytest.raises(RefusedError, match="the engine is dead"):
                await asyncio.wait_for(_exhaust(tokens), 10)
            status, text = await get(server, "/health")
            assert (status, json.loads(text)["status"]) == (503, "dead")
            with pytest.raises(RefusedError, match="the engine is dead"):
                await ask(device)
        status, refusal = await post(server, {"tokens": [1]})
        assert (status, refusal["error"]["code"]) == (503, "internal")
    assert "out of everything" in caplog.text


async def _exhaust(tokens: AsyncIterator[Token]) -> None:
    async for _ in tokens:
        pass


async def test_each_session_leaves_one_line_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as server, device_at(server, identity="phone") as device:
        await ask(device, 30)
        stream = device.stream([5, 6, 7], max_new_tokens=100_000)
        await anext(aiter(stream))
        stream.cancel()
        await asyncio.sleep(0.1)
    lines = [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "cascade.sessions"
    ]
    assert [line["reason"] for line in lines] == ["finished", "closed"]
    first = lines[0]
    assert (first["identity"], first["prompt_tokens"], first["tokens"], first["opens"]) == ("phone", 3, 30, 1)
    assert 0 < first["first_token_s"] < first["seconds"]
    assert first["hinted_tokens"] < 30
    assert set(first) == {
        "event",
        "identity",
        "session",
        "reason",
        "prompt_tokens",
        "tokens",
        "hinted_tokens",
        "opens",
        "first_token_s",
        "seconds",
    }
