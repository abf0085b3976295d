"""OpenAI's own Python client, unchanged, against the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
import scipy.special

from cascade.models.base import Feed
from cascade.models.echo import EchoModel
from tests.serving.servers import until

from .gateways import HELLO, SAID, Place, gateway, gateway_without_edge

PATIENT = {"cascade": {"objective": "cost"}}
"""The edge waits for hints, so that there are some however slow this machine is."""


@contextlib.asynccontextmanager
async def client_of(url: str, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        yield client


@contextlib.asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[Place, openai.AsyncOpenAI]]:
    async with gateway(**options) as place, client_of(place.url) as client:
        yield place, client


async def test_a_whole_answer() -> None:
    async with both() as (_place, client):
        answer = await client.chat.completions.create(
            model="cascade", messages=HELLO, temperature=0, extra_body=PATIENT
        )
    (choice,) = answer.choices
    assert choice.message.content == SAID
    assert (choice.message.role, choice.finish_reason, choice.logprobs) == ("assistant", "stop", None)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("Hello, café 🙂".encode()) + 3
    assert answer.usage.completion_tokens == len(SAID.encode()) + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint == "echo"
    ours: dict[str, Any] = answer.model_extra or {}
    assert ours["cascade"]["hinted"] > 0
    assert ours["timings"]["predicted_n"] == answer.usage.completion_tokens


async def test_a_stream_with_usage() -> None:
    async with both() as (_place, client):
        stream = await client.chat.completions.create(
            model="cascade",
            messages=HELLO,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=PATIENT,
        )
        chunks = [chunk async for chunk in stream]
    first, *middle, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in middle) == SAID
    assert {chunk.choices[0].finish_reason for chunk in [first, *middle]} == {None}
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == len(middle) == len(SAID.encode()) + 1
    assert len({chunk.id for chunk in chunks}) == 1
    sources = [(chunk.model_extra or {})["cascade"]["source"] for chunk in middle]
    assert set(sources) == {"hinted", "driven"}
    assert (last.model_extra or {})["cascade"]["hinted"] == sources.count("hinted")


async def test_usage_only_where_it_is_wanted() -> None:
    async with both() as (_place, client):
        stream = await client.chat.completions.create(model="cascade", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_stop_length_and_plain_completions() -> None:
    async with both() as (_place, client):
        stopped = await client.chat.completions.create(
            model="cascade", messages=HELLO, temperature=0, stop=["nothing", "lo,"]
        )
        assert stopped.choices[0].message.content == "You said: Hel"
        assert stopped.choices[0].finish_reason == "stop"
        short = await client.chat.completions.create(
            model="cascade", messages=HELLO, temperature=0, max_completion_tokens=5
        )
        assert (short.choices[0].message.content, short.choices[0].finish_reason) == ("You s", "length")
        prompt = "<user>Hi<end><assistant>"
        plain = await client.completions.create(model="cascade", prompt=prompt, max_tokens=50, temperature=0)
        assert (plain.choices[0].text, plain.choices[0].finish_reason) == ("You said: Hi", "stop")
        stream = await client.completions.create(model="cascade", prompt=prompt, temperature=0, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "You said: Hi"


async def test_the_same_seed_gives_the_same_text() -> None:
    """With noise as loud as the model is sure, so that the seed decides."""

    async def text(client: openai.AsyncOpenAI, seed: int | None, **options: Any) -> str:
        answer = await client.completions.create(
            model="cascade", prompt="noise", seed=seed, temperature=2, max_tokens=40, **options
        )
        return str(answer.choices[0].text)

    async with loud() as place, client_of(place.url) as client:
        once = await text(client, 7)
        assert await text(client, 7) == once
        assert await text(client, 7, extra_body={"cascade": {"mode": "cloud"}}) == once
        assert await text(client, -7) == await text(client, -7) != once
        assert len({await text(client, None) for _ in range(4)}) > 1


@contextlib.asynccontextmanager
async def loud() -> AsyncIterator[Place]:
    """The echo is surer of itself than OpenAI's temperatures go; turn it down."""
    from cascade.models import echo

    sure, echo.SURE = echo.SURE, 6.0
    try:
        async with gateway() as place:
            yield place
    finally:
        echo.SURE = sure


async def test_models() -> None:
    async with both() as (_place, client):
        models = await client.models.list()
        assert [model.id for model in models.data] == ["cascade"]
        assert (await client.models.retrieve("cascade")).id == "cascade"
        with pytest.raises(openai.NotFoundError, match="this gateway's is called 'cascade'"):
            await client.models.retrieve("gpt-9")
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="gpt-9", messages=HELLO)
        by_its_own_name = await client.chat.completions.create(model="echo", messages=HELLO)
        assert by_its_own_name.model == "echo"


async def test_whoever_leaves_a_stream_ends_it_at_the_edge() -> None:
    """Passes so slow that the answer would take half a minute."""
    long = [{"role": "user", "content": "x" * 600}]
    async with both(pass_s=0.05, slip=1.0) as (place, client):
        stream = await client.chat.completions.create(model="cascade", messages=long, stream=True)
        async for _chunk in stream:
            break
        assert place.edge.edge.health().num_sessions == 1
        await stream.close()
        await until(lambda: place.edge.edge.health().num_sessions == 0)
        assert place.gateway.turns.num_running == 0
        committed = place.edge.edge.counters.num_driven + place.edge.edge.counters.num_accepted
        await asyncio.sleep(0.3)
        assert place.edge.edge.counters.num_driven + place.edge.edge.counters.num_accepted == committed < 100


async def test_whoever_leaves_a_whole_answer_ends_it_too() -> None:
    long = [{"role": "user", "content": "x" * 600}]
    async with both(pass_s=0.05, slip=1.0) as (place, client):
        asking = asyncio.create_task(client.chat.completions.create(model="cascade", messages=long))
        await until(lambda: place.edge.edge.health().num_sessions == 1)
        asking.cancel()
        await until(lambda: place.edge.edge.health().num_sessions == 0)
        assert place.gateway.turns.num_running == 0


async def test_errors_are_openais() -> None:
    async with both() as (_place, client):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="cascade", messages=HELLO, n=2)
        assert refused.value.code == "unsupported_parameter"
        assert refused.value.param == "n"
        with pytest.raises(openai.BadRequestError, match="context") as long:
            await client.completions.create(model="cascade", prompt=[65] * 70_000, max_tokens=5)
        assert long.value.code == "context_length_exceeded"
    async with gateway_without_edge(edge_timeout_s=0.2) as alone, client_of(alone.url) as client:
        for is_streamed in (False, True):
            with pytest.raises(
                openai.InternalServerError, match=r"no edge can be reached.*cascade serve"
            ) as gone:
                await client.chat.completions.create(model="cascade", messages=HELLO, stream=is_streamed)
            assert gone.value.status_code == 503
            assert gone.value.code == "edge_unreachable"
            assert gone.value.response.headers["Retry-After"] == "5"


async def test_a_gateway_that_ends_in_mid_stream_says_so() -> None:
    async with both(pass_s=0.05, slip=1.0) as (place, client):
        stream = await client.chat.completions.create(
            model="cascade", messages=[{"role": "user", "content": "x" * 600}], stream=True
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        leaving = asyncio.create_task(place.device.__aexit__())
        with pytest.raises(openai.APIError, match="the gateway is going down"):
            [chunk async for chunk in stream]
        await leaving


async def test_keys() -> None:
    async with gateway(keys=["secret-1", "secret-2"]) as place:
        for key in ("secret-1", "secret-2"):
            async with client_of(place.url, key) as client:
                assert (await client.models.list()).data
        async with client_of(place.url, "secret-3") as client:
            with pytest.raises(openai.AuthenticationError, match="needs one of its API keys"):
                await client.models.list()


async def test_log_probabilities() -> None:
    """Those of the target: an echo leaves no doubt about what it says, and none about what it does not."""
    async with both() as (_place, client):
        ask = functools.partial(
            client.chat.completions.create, model="cascade", messages=HELLO, temperature=0, logprobs=True
        )
        answer = await ask(extra_body=PATIENT)
        assert answer.choices[0].logprobs is not None
        whole = answer.choices[0].logprobs.content
        assert whole is not None
        streamed = [chunk.choices[0].logprobs async for chunk in await ask(stream=True)]
        plain = await client.completions.create(
            model="cascade", prompt="<user>Hi<end><assistant>", temperature=0, logprobs=0
        )
        without = await client.chat.completions.create(model="cascade", messages=HELLO, temperature=0)
        with pytest.raises(openai.BadRequestError, match="top_logprobs"):
            await ask(top_logprobs=2)
    assert answer.usage is not None
    assert len(whole) == answer.usage.completion_tokens
    assert "".join(one.token for one in whole) == SAID
    assert b"".join(bytes(one.bytes or ()) for one in whole).decode() == SAID
    expected = pytest.approx(logprob_of_an_echo(), abs=1e-6)
    assert [one.logprob for one in whole] == [expected] * len(whole)
    pieces = [one for found in streamed if found is not None for one in found.content or ()]
    assert [(one.token, one.logprob) for one in pieces] == [(one.token, one.logprob) for one in whole]
    logprobs = plain.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or ()) == plain.choices[0].text
    assert logprobs.token_logprobs == [expected] * len(logprobs.tokens or ())
    assert logprobs.text_offset == list(range(len(logprobs.tokens or ())))
    assert without.choices[0].logprobs is None


def logprob_of_an_echo() -> float:
    model = EchoModel()
    logits = model.forward([Feed(model.new_sequence(), model.tokenizer.chat(HELLO), 1)])[0]
    return float(np.log(scipy.special.softmax(np.asarray(logits, dtype=np.float64)).max()))
