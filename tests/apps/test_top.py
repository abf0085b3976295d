"""`cascade top`: figures from real edges and gateways, and clear words where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from cascade.apps.top.figures import Figure, Report, report
from cascade.apps.top.looking import Look, http_url, look, parse_metrics
from cascade.apps.top.screen import Panel, sparkline
from cascade.errors import LinkUnavailable, RefusedError, SettingsError
from tests.serving.servers import ask, device_at, serving, write_tokens

from .gateway.gateways import HELLO, SAID, gateway, post

CHAT = "/v1/chat/completions"


@contextlib.asynccontextmanager
async def session(token: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as found:
        yield found


def figures_of(seen: Report) -> dict[str, Any]:
    return seen.as_json


def test_the_text_of_metrics() -> None:
    text = (
        "# HELP a b\n# TYPE a counter\n"
        'a_total{x="1",y="q\\"uo\\\\te\\n"} 3\n'
        'a_total{y="2",x="2"} 4.5e+01 1700000000\n'
        "b 1e999\nb NaN\nnonsense\nc{ 1\nd notanumber\n"
    )
    found = parse_metrics(text)
    assert found["a_total"] == {
        frozenset({("x", "1"), ("y", 'q"uo\\te\n')}): 3.0,
        frozenset({("x", "2"), ("y", "2")}): 45.0,
    }
    assert "d" not in found


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("ws://edge:8080", "http://edge:8080"),
        ("edge:8080", "http://edge:8080"),
        ("https://edge/metrics", "https://edge"),
        ("[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(address: str, url: str) -> None:
    assert http_url(address) == url


@pytest.mark.parametrize("address", ["mqtt://broker/hall", "", "http://"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(SettingsError, match="http://host:port"):
        http_url(address)


async def test_an_edge() -> None:
    async with serving() as server, session() as http, device_at(server, identity="phone") as device:
        await ask(device, 10)
        before = await look(http, server.http_url)
        await ask(device, 25)
        now = await look(http, server.http_url)
        seen = report(before, now)
    figures = figures_of(seen)
    assert (figures["kind"], figures["state"], figures["name"]) == ("edge", "ok", "edge")
    assert round(figures["tokens_per_s"] * (now.time_s - before.time_s)) == 25, "not the first ten"
    assert 1 <= figures["tokens_per_pass"] <= 25
    assert figures["links"] == 1
    assert figures["pass_ms"] >= 2
    assert figures["first_token_p90_ms"] > 0
    assert figures["bytes_per_token"] > 0
    (identity,) = figures["identities"]
    assert (identity["identity"], identity["tokens"]) == ("phone", 35)


async def test_a_gateway() -> None:
    async with gateway(slip=0) as place, session() as http:
        content = {"messages": HELLO, "temperature": 0, "cascade": {"objective": "cost"}}
        await post(place.url + CHAT, content)
        before = await look(http, place.url)
        await post(place.url + CHAT, {**content, "cascade": {"quality": 0.9}})
        now = await look(http, place.url)
        seen = report(before, now)
    figures = figures_of(seen)
    num_tokens = len(SAID.encode()) + 1
    assert (figures["kind"], figures["state"], figures["model"]) == ("gateway", "ok", "echo")
    assert round(figures["tokens_per_s"] * (now.time_s - before.time_s)) == num_tokens
    assert figures["hinted"] + figures["driven"] + figures["kept"] == pytest.approx(100, abs=0.01)
    assert before.value("gateway_tokens_total", source="hinted") > 0
    assert figures["rtt_ms"] > 0
    assert figures["edge_pass_ms"] > 0
    (book,) = figures["ledger"]
    assert (book["promised"], book["delivered"], book["lossless"]) == (0.9, num_tokens, num_tokens)
    assert 0.9 <= book["given"] <= 1


async def test_a_gateways_page_is_what_prometheus_reads() -> None:
    async with gateway(keys=["sesame"]) as place, session("sesame") as http:
        headers = {"Authorization": "Bearer sesame"}
        await post(place.url + CHAT, {"messages": HELLO, "cascade": {"quality": 0.9}}, headers=headers)
        async with http.get(place.url + "/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    theirs = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    ours = {(name, labels): value for name, by in parse_metrics(text).items() for labels, value in by.items()}
    assert ours == theirs
    assert families["cascade_gateway_tokens"].type == "counter"
    assert all(family.documentation and family.type != "unknown" for family in families.values())


async def test_answers_count_while_they_are_made() -> None:
    async with gateway(pass_s=0.02, slip=0.9) as place, session() as http:
        content = {"messages": [{"role": "user", "content": "x" * 200}], "temperature": 0}
        asking = asyncio.create_task(post(place.url + CHAT, content))
        async with asyncio.timeout(30):
            while (seen := await look(http, place.url)).value("gateway_tokens_total", source="driven") < 5:
                pass
        assert seen.value("gateway_num_requests_running") == 1
        assert not asking.done()
        await asking
        done = await look(http, place.url)
        assert sum(done.by("gateway_tokens_total", "source").values()) == len("You said: ") + 200 + 1


# Where there is nothing to see


async def test_nobody_answers() -> None:
    async with session() as http:
        with pytest.raises(
            LinkUnavailable, match=r"nobody answers at .*: Connection refused; .*cascade serve"
        ):
            await look(http, "http://127.0.0.1:9")


async def test_an_edge_that_wants_an_operator(tmp_path: Path) -> None:
    async with serving(tokens=write_tokens(tmp_path)) as server:
        for token in ("", "wrong", "phone-secret"):
            async with session(token) as http:
                with pytest.raises(RefusedError, match="CASCADE_TOKEN"):
                    await look(http, server.http_url)
        async with session("operator-secret") as http:
            assert (await look(http, server.http_url)).value("up") == 1


@pytest.mark.parametrize(
    ("page", "why"), [(None, "there is no "), ("process_cpu_seconds_total 1\n", "is somebody else's")]
)
async def test_somebody_elses_address(page: str | None, why: str) -> None:
    app = web.Application()
    if page is not None:

        async def metrics(_request: web.Request) -> web.Response:
            return web.Response(text=page)

        app.router.add_get("/metrics", metrics)
        app.router.add_get("/health", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with session() as http:
            with pytest.raises(LinkUnavailable, match=why):
                await look(http, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


# What it looks like


def test_sparklines() -> None:
    assert sparkline([0, 1, None, 7]) == "▁▂ █"
    assert sparkline([]) == sparkline([0, 0]) == sparkline([None]) == ""
    assert sparkline([5, 5]) == "██"


def test_a_panel_shows_what_was_there_when_it_is_away() -> None:
    panel = Panel("http://edge:8080")
    rows = tuple({"identity": f"phone-{number}", "tokens": number} for number in range(10))
    figures = (Figure("a", "tokens a second", 1234.5), Figure("b", "a pass", None, "ms"))
    for _ in range(3):
        panel.update(Report(kind="edge", name="hall", state="ok", model="m", figures=figures, rows=rows))
    panel.fail("nobody answers")
    output = io.StringIO()
    Console(file=output, width=100).print(panel.render())
    lines = [" ".join(line.split()) for line in output.getvalue().splitlines()]
    assert lines[:4] == [
        "edge hall m http://edge:8080 ok",
        "nobody answers",
        "tokens a second 1,234 ███",
        "a pass -",
    ]
    assert "phone-7 7" in lines
    assert "phone-8 8" not in lines
    assert "and 2 more" in lines


def test_a_counter_that_began_anew() -> None:
    def at(time_s: float, tokens: float) -> Look:
        metrics = {"cascade_generation_tokens_total": {frozenset[tuple[str, str]](): tokens}}
        return Look(time_s, metrics, {})

    assert report(at(0, 1000), at(2, 10)).as_json["tokens_per_s"] == 5


# As a command


async def top(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "cascade.cli", "top", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    return process.returncode, output.decode(), complaints.decode()


async def test_once_for_scripts_and_for_people() -> None:
    async with serving() as server, gateway() as place:
        code, output, complaints = await top(server.http_url, place.url, "--once", "--json", "--every", "0.1")
        assert (code, complaints) == (0, "")
        edge, device = map(json.loads, output.splitlines())
        assert (edge["kind"], device["kind"]) == ("edge", "gateway")
        assert (edge["address"], device["address"]) == (server.http_url, place.url)
        assert (edge["tokens_per_s"], edge["hints_used"]) == (0, None)
        code, output, complaints = await top(server.link_url, "--once", "--every", "0.1")
        assert (code, complaints) == (0, "")
        assert "tokens a second" in output
        assert "\x1b" not in output


async def test_an_address_that_does_not_answer_is_one_line() -> None:
    code, output, complaints = await top("127.0.0.1:9")
    assert (code, output) == (2, "")
    assert complaints.startswith("cascade: nobody answers at http://127.0.0.1:9: Connection refused")
    assert complaints.count("\n") == 1
