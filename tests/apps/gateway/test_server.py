"""What the gateway does about strangers, crowds, silence and nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cascade.apps.gateway import Gateway, GatewayOptions
from cascade.apps.gateway.access import read_keys
from cascade.apps.gateway.shaping import ShapedLink
from cascade.errors import LinkUnavailable, SettingsError
from cascade.links.profiles import load_profile
from cascade.models.echo import EchoModel
from cascade.wire import Feature
from tests.engines.plain import PlainEngine
from tests.serving.servers import until

from .gateways import HELLO, SAID, gateway, gateway_without_edge, get, post

CHAT = "/v1/chat/completions"
ASK = {"messages": HELLO, "temperature": 0}
LONG = {"messages": [{"role": "user", "content": "x" * 600}], "temperature": 0}


def error_of(answer: tuple[int, Any, dict[str, str]]) -> tuple[int, str]:
    status, content, _headers = answer
    assert set(content["error"]) == {"message", "type", "param", "code"}
    return status, content["error"]["code"]


async def test_nonsense_is_answered_in_openais_shape() -> None:
    async with gateway(max_request_bytes=2000) as place:
        url = place.url + CHAT
        as_json = {"Content-Type": "application/json"}
        assert error_of(await post(url, data=b"{", headers=as_json)) == (400, "invalid_json")
        assert error_of(await post(url, data=b"[" * 1500, headers=as_json)) == (400, "invalid_json")
        assert error_of(await post(url, data=b"[]", headers=as_json)) == (400, "invalid_json")
        assert error_of(await post(url, data=b"{}", headers={"Content-Type": "text/plain"})) == (
            415,
            "content_type",
        )
        assert error_of(await post(url, {"messages": [{"role": "user", "content": "x" * 3000}]})) == (
            413,
            "too_large",
        )
        assert error_of(await post(place.url + "/v1/embeddings", {})) == (404, "not_found")
        assert error_of(await post(place.url + "/v1/models", {})) == (405, "method_not_allowed")


async def test_who_names_no_seed_does_not_demand_shared_noise() -> None:
    engine = PlainEngine(EchoModel(), lacks=Feature.SHARED_NOISE | Feature.LOGPROBS)
    async with gateway(engine=engine) as place:
        warm = {"messages": HELLO, "temperature": 0.01}
        status, said, _ = await post(place.url + CHAT, warm)
        assert (status, said["choices"][0]["message"]["content"]) == (200, SAID)
        seeded = await post(place.url + CHAT, warm | {"seed": 3})
        assert error_of(seeded) == (400, "not_served")
        assert "shared noise" in seeded[1]["error"]["message"]
        assert "Retry-After" not in seeded[2]
        assert (await post(place.url + CHAT, ASK | {"seed": 3}))[0] == 200
        assert error_of(await post(place.url + CHAT, ASK | {"logprobs": True})) == (400, "not_served")


async def test_a_bug_of_ours_shows_no_prompt(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway() as place:
        place.gateway._device = None  # type: ignore[assignment]
        with caplog.at_level(logging.INFO):
            assert error_of(await post(place.url + CHAT, ASK)) == (500, "internal_error")
    assert "AttributeError" in caplog.text
    assert "café" not in caplog.text


async def test_keys_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with gateway(keys=["sesame"]) as place:
            for headers in ({}, {"Authorization": "Bearer sesam"}, {"Authorization": "Basic sesame"}):
                answer = await post(place.url + CHAT, ASK, headers=headers)
                assert error_of(answer) == (401, "invalid_api_key")
                assert answer[2]["WWW-Authenticate"] == "Bearer"
            right = {"Authorization": "Bearer sesame"}
            assert (await post(place.url + CHAT, ASK, headers=right))[0] == 200
            assert (await get(place.url + "/health"))[0] == 200, "no key needed"
            assert (await get(place.url + "/cascade/link"))[0] == 401
    assert "sesam" not in caplog.text


async def test_pages_of_other_origins_need_to_be_allowed() -> None:
    friend, stranger = {"Origin": "http://friend:3000"}, {"Origin": "http://stranger"}
    async with gateway(cors_origins=("http://friend:3000",)) as place:
        status, _content, headers = await post(place.url + CHAT, ASK, headers=friend)
        assert status == 200
        assert headers["Access-Control-Allow-Origin"] == "http://friend:3000"
        assert error_of(await post(place.url + CHAT, ASK, headers=stranger)) == (403, "origin_not_allowed")
        own = {"Origin": place.url}
        status, _content, headers = await post(place.url + CHAT, ASK, headers=own)
        assert status == 200
        assert "Access-Control-Allow-Origin" not in headers
        async with aiohttp.ClientSession() as session:
            wanted = friend | {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            async with session.options(place.url + CHAT, headers=wanted) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
                assert answer.headers["Access-Control-Allow-Origin"] == "http://friend:3000"
            async with session.options(place.url + CHAT, headers=stranger) as answer:
                assert answer.status == 403


async def test_a_name_that_was_made_to_lead_here_is_not_ours() -> None:
    async with gateway() as place:
        assert error_of(await post(place.url + CHAT, ASK, headers={"Host": "evil.example"})) == (
            403,
            "wrong_host",
        )
        assert (await get(place.url.replace("127.0.0.1", "localhost") + "/v1/models"))[0] == 200


async def test_a_crowd_is_served_in_turn_and_the_rest_is_sent_away() -> None:
    async with gateway(pass_s=0.02, max_streams=1, max_waiting=1, slip=0.0) as place:
        url = place.url + CHAT
        first = asyncio.create_task(post(url, LONG))
        await until(lambda: place.gateway.turns.num_running == 1)
        second = asyncio.create_task(post(url, ASK))
        await until(lambda: place.gateway.turns.num_waiting == 1)
        third = await post(url, ASK)
        assert error_of(third) == (429, "rate_limit_exceeded")
        assert int(third[2]["Retry-After"]) >= 1
        assert (await first)[0] == 200
        assert (await second)[1]["choices"][0]["message"]["content"] == SAID
        assert place.gateway.turns.num_refused == 1


async def test_nobody_waits_for_ever() -> None:
    async with gateway(pass_s=0.05, max_streams=1, max_wait_s=0.2, slip=1.0) as place:
        url = place.url + CHAT
        first = asyncio.create_task(post(url, LONG))
        await until(lambda: place.gateway.turns.num_running == 1)
        second = await post(url, ASK)
        assert error_of(second) == (503, "overloaded")
        assert "Retry-After" in second[2]
        first.cancel()


async def events(url: str, content: dict[str, Any], *, enough: int = 10_000) -> list[bytes]:
    """Lines of an event stream that are not empty."""
    lines = []
    async with aiohttp.ClientSession() as session, session.post(url, json=content) as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.strip():
                lines.append(line.strip())
            if len(lines) >= enough:
                break
    return lines


async def test_silence_is_filled_with_comments() -> None:
    async with gateway(pass_s=0.5, keep_alive_s=0.05) as place:
        lines = await events(place.url + CHAT, {**ASK, "stream": True, "max_tokens": 2})
    comments = [at for at, line in enumerate(lines) if line == b": still working"]
    assert len(comments) >= 5
    assert comments[0] == 1, "before the first token"
    assert lines[0].startswith(b"data: {")
    assert lines[-1] == b"data: [DONE]"


async def test_what_goes_wrong_in_the_middle_is_an_event() -> None:
    async with gateway(pass_s=0.05, slip=1.0) as place:
        reading = asyncio.create_task(events(place.url + CHAT, {**LONG, "stream": True}))
        await until(lambda: place.gateway.turns.num_running == 1)
        await until(lambda: place.edge.edge.counters.num_driven > 2)
        await place.device.__aexit__()
        lines = await reading
    assert json.loads(lines[-1].removeprefix(b"data: "))["error"]["code"] == "shutting_down"
    assert b"data: [DONE]" not in lines


async def test_a_reader_that_stands_still_is_cut() -> None:
    async with gateway(send_timeout_s=0.2, slip=0.0) as place:
        (site,) = place.gateway._runner.sites  # type: ignore[union-attr]
        (listening,) = site._server.sockets  # type: ignore[union-attr]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # those it accepts inherit it
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=64)
        content = json.dumps({**LONG, "stream": True}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
        )
        await until(lambda: place.gateway.turns.num_running == 1)
        await until(lambda: place.gateway.turns.num_running == 0, within_s=30)
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65_536):
                data += more
        assert data.startswith(b"HTTP/1.1 200")
        assert b"[DONE]" not in data
        writer.close()


async def test_health_says_whether_there_is_an_edge() -> None:
    async with gateway() as place:
        await until(lambda: place.device.is_connected)
        status, health = await get(place.url + "/health")
        assert (status, health["status"], health["edge_model"]) == (200, "ok", "echo")
    async with gateway_without_edge() as alone:
        status, health = await get(alone.url + "/health")
        assert (status, health["status"]) == (503, "no edge")


async def test_a_port_in_use_is_explained() -> None:
    async with gateway() as place:
        port = int(place.url.rpartition(":")[2])
        with pytest.raises(LinkUnavailable, match=f"cannot listen on 127.0.0.1:{port}.*or 0 for any"):
            async with Gateway(place.device, GatewayOptions(port=port)):
                pass


async def test_a_private_answer_needs_no_edge() -> None:
    async with gateway_without_edge() as alone:
        _status, answer, _headers = await post(alone.url + CHAT, {**ASK, "cascade": {"private": True}})
    assert answer["choices"][0]["message"]["content"] == SAID
    assert answer["cascade"]["kept"] == answer["usage"]["completion_tokens"]


async def test_an_answer_with_a_quality_shows_the_ledger() -> None:
    async with gateway() as place:
        assert "account" not in (await post(place.url + CHAT, ASK))[1]["cascade"]
        _status, answer, _headers = await post(place.url + CHAT, {**ASK, "cascade": {"quality": 0.9}})
    account = answer["cascade"]["account"]
    assert account["quality"] == 0.9
    assert account["least_quality"] >= 0.9
    assert account["delivered"] == answer["usage"]["completion_tokens"] == account["lossless"]


async def test_the_emulated_link_can_be_changed_cut_and_restored() -> None:
    shaped = ShapedLink(load_profile("lan"))
    async with gateway(shaped=shaped) as place:
        url = place.url + "/cascade/link"
        assert (await get(url))[1]["profile"] == "lan"
        assert (await post(place.url + CHAT, ASK))[0] == 200
        assert (await post(url, {"profile": "lte"}))[1]["profile"] == "lte"
        assert (await post(place.url + CHAT, ASK))[1]["cascade"]["rtt_ms"] > 5
        assert error_of(await post(url, {"profile": "/etc/passwd"})) == (400, "invalid_value")
        assert error_of(await post(url, {"is_cut": 1})) == (400, "invalid_type")
        assert error_of(await post(url, {"speed": 1})) == (400, "unknown_parameter")
        assert (await post(url, {"profile": "lan", "is_cut": True}))[1]["is_cut"]
        asking = asyncio.create_task(post(place.url + CHAT, ASK))
        done, _ = await asyncio.wait({asking}, timeout=0.6)
        assert not done, "nothing gets through"
        assert not (await post(url, {"is_cut": False}))[1]["is_cut"]
        assert (await asking)[1]["choices"][0]["message"]["content"] == SAID
    async with gateway() as place:
        assert (await get(place.url + "/cascade/link"))[1]["error"]["code"] == "no_emulated_link"


def test_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# for the kitchen\n\n key-1 \nkey-2\n")
    assert read_keys(file) == ("key-1", "key-2")
    file.write_text("# none\n")
    with pytest.raises(SettingsError, match="has no key; write one a line"):
        read_keys(file)
    with pytest.raises(SettingsError, match=r"cannot read .*missing"):
        read_keys(tmp_path / "missing")


@pytest.mark.parametrize(
    "options",
    [
        {"port": 70_000}, {"max_streams": 0}, {"max_streams": 257}, {"max_waiting": -1}, {"keep_alive_s": 0},
        {"model_name": ""}, {"cors_origins": ("friend",)}, {"cors_origins": ("http://friend/",)},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        GatewayOptions(**options)
