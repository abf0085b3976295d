"""`POST /v1/verify`: the same text as a stream, in any language, and clear answers to what is wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from cascade.apps.serving import Serving
from cascade.models.base import Feed
from cascade.testing import SyntheticDraft, SyntheticTarget

from .servers import TARGET, ask, device_at, post, serving, until, write_tokens

PROMPT = [5, 6, 7]
WARM: dict[str, Any] = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 1234567890123}


async def stream(
    server: Serving, count: int, settings: dict[str, Any], stop_ids: frozenset[int]
) -> list[int]:
    async with device_at(server) as device:
        answer = device.stream(PROMPT, max_new_tokens=count, stop_ids=stop_ids, **settings)
        return [token.id async for token in answer]


async def loop_over_verify(
    server: Serving, count: int, settings: dict[str, Any], *, draft_length: int, stop_ids: frozenset[int]
) -> tuple[list[int], int]:
    """What a client in another language does; the text, and the requests it took."""
    draft = SyntheticDraft(TARGET, agreement=0.7)
    text, num_requests, finish = list(PROMPT), 0, None
    while len(text) < len(PROMPT) + count and finish is None:
        guesses = _greedy(draft, text, draft_length)
        content = {"tokens": text, "draft": guesses, "stop_ids": sorted(stop_ids), **settings}
        status, verdict = await post(server, content)
        assert status == 200, verdict
        text += guesses[: verdict["agreed"]]
        if verdict["token"] is not None:
            text.append(verdict["token"])
        finish = verdict["finish"]
        num_requests += 1
    return text[len(PROMPT) :][:count], num_requests


def _greedy(draft: SyntheticDraft, text: list[int], count: int) -> list[int]:
    sequence = draft.new_sequence()
    fed, guesses = text, []
    for _ in range(count):
        token = int(draft.forward([Feed(sequence, fed, 1)])[0].argmax())
        guesses.append(token)
        fed = [token]
    return guesses


@pytest.mark.parametrize("settings", [{}, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize("draft_length", [0, 1, 4, 30])
async def test_a_loop_over_verify_is_the_stream(settings: dict[str, Any], draft_length: int) -> None:
    """Also with a draft that is longer than one pass takes: then the verdict is about its beginning."""
    async with serving() as server:
        expected = await stream(server, 60, settings, frozenset())
        text, num_requests = await loop_over_verify(
            server, 60, settings, draft_length=draft_length, stop_ids=frozenset()
        )
        assert text == expected
        if draft_length and not settings:
            assert num_requests < 60 * 0.8  # the draft was of use


async def test_a_stop_token_ends_it_as_it_ends_the_stream() -> None:
    async with serving() as server:
        expected = await stream(server, 60, {}, frozenset())
        for stop in expected[5], expected[20]:
            stop_ids = frozenset({stop})
            short = await stream(server, 60, {}, stop_ids)
            assert short[-1] == stop
            for draft_length in (0, 4, 30):
                text, _ = await loop_over_verify(server, 60, {}, draft_length=draft_length, stop_ids=stop_ids)
                assert text == short
        status, verdict = await post(
            server, {"tokens": PROMPT, "draft": expected[:8], "stop_ids": [expected[5]]}
        )
        assert (status, verdict["finish"]) == (200, "stop")
        assert verdict["agreed"] == expected.index(expected[5]) + 1
        assert verdict["token"] is None  # the stop token itself was agreed, and nothing comes after it


async def test_the_contexts_end_is_said() -> None:
    async with serving(target=SyntheticTarget(context_length=8)) as server:
        status, verdict = await post(server, {"tokens": [1] * 7, "draft": [2, 3]})
        assert (status, verdict["agreed"], verdict["finish"]) == (200, 0, "length")
        status, refusal = await post(server, {"tokens": [1] * 8})
        assert (status, refusal["error"]["code"]) == (400, "context")


async def test_msgpack_says_the_same_as_json() -> None:
    content = {"tokens": PROMPT, "draft": [1, 2], **WARM}
    async with serving() as server, aiohttp.ClientSession() as session:
        _, as_json = await post(server, content)
        async with session.post(
            server.http_url + "/v1/verify",
            data=msgpack.packb(content),
            headers={"Content-Type": "application/msgpack"},
        ) as answer:
            assert answer.content_type == "application/msgpack"
            assert msgpack.unpackb(await answer.read()) == as_json
        async with session.post(
            server.http_url + "/v1/verify",
            data=msgpack.packb([1]),
            headers={"Content-Type": "application/msgpack"},
        ) as answer:
            assert answer.status == 400
            assert msgpack.unpackb(await answer.read())["error"]["code"] == "bad_request"


async def test_verifications_are_batched_with_everybody_elses_steps() -> None:
    async with serving(pass_s=0.02) as server:
        asked = [post(server, {"tokens": [*PROMPT, number], "draft": [1]}) for number in range(8)]
        tokens, *answers = await asyncio.gather(_ask(server), *asked)
        assert [status for status, _ in answers] == [200] * 8
        assert len(tokens) == 20
        assert server.edge.engine.stats.num_passes < 8 + 20


@pytest.mark.parametrize(
    ("content", "status", "code", "says"),
    [
        ({}, 400, "bad_request", "tokens: is missing"),
        ({"tokens": []}, 400, "bad_request", "tokens: is empty"),
        ({"tokens": [1, "2"]}, 400, "bad_request", "tokens: must be a list of token ids"),
        ({"tokens": [1, True]}, 400, "bad_request", "tokens: must be a list of token ids"),
        ({"tokens": [1, -2]}, 400, "bad_request", "tokens: must be a list of token ids"),
        ({"tokens": [64]}, 400, "bad_request", "not below the vocabulary's 64"),
        ({"tokens": [1], "draft": [64]}, 400, "bad_request", "draft: "),
        ({"tokens": [1], "temperature": -1}, 400, "bad_request", "temperature"),
        ({"tokens": [1], "temperature": "hot"}, 400, "bad_request", "temperature"),
        ({"tokens": [1], "top_p": 2}, 400, "bad_request", "top_p"),
        ({"tokens": [1], "seed": 1.5}, 400, "bad_request", "seed"),
        ({"tokens": [1], "stop_ids": list(range(300))}, 400, "bad_request", "stop_ids: at most 256"),
        ({"tokens": [1], "drafts": [1]}, 400, "bad_request", "drafts: unknown key"),
        ({"tokens": [1], "model": "another"}, 409, "model", "this edge serves 'synthetic"),
        ([1], 400, "bad_request", "must be one object"),
    ],
)
async def test_what_is_wrong_is_said(content: Any, status: int, code: str, says: str) -> None:
    async with serving() as server:
        got, refusal = await post(server, content)
        assert (got, refusal["error"]["code"]) == (status, code)
        assert says in refusal["error"]["text"]
        assert (await post(server, {"tokens": PROMPT}))[0] == 200


async def test_what_is_no_request_at_all() -> None:
    async with serving(edge={"max_message_bytes": 8192}) as server:
        for data, headers, status, code in (
            (b"{", {"Content-Type": "application/json"}, 400, "bad_request"),
            (b"[" * 5000, {"Content-Type": "application/json"}, 400, "bad_request"),
            (b"\xc1", {"Content-Type": "application/msgpack"}, 400, "bad_request"),
            (b"tokens=1", {"Content-Type": "text/plain"}, 415, "content_type"),
            (b" " * 9000, {"Content-Type": "application/json"}, 413, "too_large"),
        ):
            got, refusal = await post(server, None, json=None, data=data, headers=headers)
            assert (got, refusal["error"]["code"]) == (status, code)


async def test_strangers_and_whoever_asks_for_too_much(tmp_path: Path) -> None:
    path = write_tokens(tmp_path, '[phone]\ntokens = ["right"]\nquota = { tokens_per_s = 1, burst_s = 5 }\n')
    async with serving(tokens=path) as server:
        for token in ("", "wrong"):
            status, refusal = await post(server, {"tokens": [1]}, token=token)
            assert (status, refusal["error"]["code"]) == (401, "unauthorized")
        assert (await post(server, {"tokens": [1] * 20}, token="right"))[0] == 200
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                server.http_url + "/v1/verify",
                json={"tokens": [1]},
                headers={"Authorization": "Bearer right"},
            ) as answer,
        ):
            assert answer.status == 429
            refusal = json.loads(await answer.text())
            assert "more than 1 tokens a second" in refusal["error"]["text"]
            assert 14 <= int(answer.headers["Retry-After"]) <= 16
            assert 14 <= refusal["error"]["retry_after_s"] <= 16


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    async with serving(pass_s=0.2) as server:
        gone = asyncio.create_task(post(server, {"tokens": PROMPT}))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await until(lambda: server.edge.health().num_sessions == 0)
        assert (await post(server, {"tokens": PROMPT}))[0] == 200


async def _ask(server: Serving) -> list[int]:
    async with device_at(server) as device:
        return await ask(device)
