"""Peers: others are asked the same questions, and what they say is read as it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cascade.errors import CascadeError, LinkUnavailable, SettingsError
from cascade.lab.peers.contest import Answered, contest
from cascade.lab.peers.endpoint import Endpoint
from cascade.links.conditions import Conditions

from ..helpers import in_virtual_time

Handler = Callable[[web.Request], Coroutine[None, None, web.StreamResponse]]
PERFECT = Conditions()


class Scripted:
    """Answers after so many milliseconds a token."""

    def __init__(self, name: str, token_s: float, text: str = "x") -> None:
        self.name, self._token_s, self._text = name, token_s, text
        self.questions: list[str] = []

    async def answer(self, question: str, num_tokens: int) -> Answered:
        self.questions.append(question)
        await asyncio.sleep(self._token_s * num_tokens)
        times_s = tuple(self._token_s * (number + 1) for number in range(num_tokens))
        return Answered(times_s=times_s, num_tokens=num_tokens, text=self._text)


@in_virtual_time
async def test_all_are_asked_the_same_in_turns() -> None:
    peers = [Scripted("plain", 0.05), Scripted("fast", 0.02), Scripted("other", 0.1, text="y")]
    rows = await contest(peers, ["a", "b"], num_tokens=10)
    assert [peer.questions for peer in peers] == [["b", "a", "b"]] * 3  # the first warms up
    assert [row["who"] for row in rows] == ["plain", "fast", "other"]
    assert [row["ms_per_token"] for row in rows] == [50, 20, 100]
    assert [row["by_first"] for row in rows] == [1, 0.4, 2]
    assert [row["first_token_ms"] for row in rows] == [50, 20, 100]
    assert [row["same_text"] for row in rows] == [1, 1, 0]
    assert [row["tokens"] for row in rows] == [20, 20, 20]


@in_virtual_time
async def test_an_answer_of_one_token_says_nothing_about_time() -> None:
    (row,) = await contest([Scripted("short", 0.05)], ["a"], num_tokens=1)
    assert row["ms_per_token"] is None
    assert row["by_first"] is None


def event(content: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


async def streaming(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    assert (asked["model"], asked["temperature"], asked["stream"]) == ("m", 0, True)
    assert request.headers["Authorization"] == "Bearer secret"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n')
    for piece in ("Because ", "of ", "the air."):
        await response.write(event(piece))
    await response.write(b'data: {"choices": [], "usage": {"completion_tokens": 5}}\n\ndata: [DONE]\n\n')
    return response


async def refusing(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "no such model"}, status=404)


async def babbling(request: web.Request) -> web.StreamResponse:
    return web.Response(text="data: {not json\n\n")


async def silent(request: web.Request) -> web.StreamResponse:
    return web.Response(text="data: [DONE]\n\n")


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_an_endpoint_is_asked_over_the_emulated_link() -> None:
    slow = Conditions(delay_s=0.05)
    async with (
        server(streaming) as url,
        Endpoint(url, model="m", key="secret", up=slow, down=slow) as peer,
    ):
        answered = await peer.answer("Why is the sky blue?", 16)
    assert answered.text == "Because of the air."
    assert (answered.num_tokens, len(answered.times_s)) == (5, 3)
    assert answered.times_s[0] >= 0.1


@pytest.mark.parametrize(
    ("handler", "reason"),
    [(refusing, "404.*no such model"), (babbling, "as OpenAI does"), (silent, "answered nothing")],
)
async def test_an_endpoint_that_does_not_answer_says_why(handler: Handler, reason: str) -> None:
    async with server(handler) as url, Endpoint(url, model="m", up=PERFECT, down=PERFECT) as peer:
        with pytest.raises(CascadeError, match=reason):
            await peer.answer("Why?", 4)


async def test_an_endpoint_that_is_not_there() -> None:
    async with server(silent) as url:
        pass
    async with Endpoint(url, model="m", up=PERFECT, down=PERFECT) as peer:
        with pytest.raises(LinkUnavailable, match="cannot be asked"):
            await peer.answer("Why?", 4)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="no address"):
        Endpoint("localhost:8000", model="m", up=PERFECT, down=PERFECT)
