"""`cascade serve` as a process: it says where it listens, serves, and stops when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cascade.device import Device
from cascade.errors import RefusedError
from cascade.links.websocket import WebSocketDialer
from cascade.models.runner import PacedRunner
from cascade.testing import SyntheticDraft, SyntheticTarget
from cascade.wire import Move

from ..virtual.peers import Talker, greeting, opening
from .servers import ask, write_tokens

TARGET = SyntheticTarget()


class Served:
    """A running `cascade serve`."""

    def __init__(self, process: asyncio.subprocess.Process, facts: dict[str, Any]) -> None:
        self.process = process
        self.facts = facts

    async def stop(self, number: signal.Signals) -> tuple[int, str]:
        """The exit code, and what it had logged."""
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            _, logged = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, logged.decode()


SERVE = ("-m", "cascade.cli", "serve", "--model", "synthetic", "--http", "127.0.0.1:0", "--json")


@contextlib.asynccontextmanager
async def served(*arguments: str, program: tuple[str, ...] = SERVE) -> AsyncIterator[Served]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, (await process.communicate())[1].decode()
        yield Served(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def device_at(url: str, token: str = "") -> Device:
    draft = SyntheticDraft(TARGET, agreement=0.8)
    return Device([WebSocketDialer(url, token=token)], draft=draft, runner=PacedRunner(lambda rows: 0.001))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_and_stops_cleanly(number: signal.Signals) -> None:
    async with served("--name", "basement") as server:
        assert server.facts["edge"] == "basement"
        assert server.facts["pid"] == server.process.pid
        async with device_at(server.facts["link"]) as device:
            assert len(await ask(device)) == 20
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.facts["http"] + "/health") as answer,
        ):
            assert (await answer.json())["status"] == "ok"
        code, logged = await server.stop(number)
    assert code == 0
    assert "Traceback" not in logged
    assert "nobody was cut short" in logged
    (line,) = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert (line["event"], line["reason"], line["tokens"]) == ("session", "finished", 20)


@pytest.mark.parametrize("is_hurried", [False, True])
async def test_a_drain_is_bounded_and_a_second_signal_hurries_it(is_hurried: bool) -> None:
    async with served("--drain-seconds", "3600" if is_hurried else "0.5") as server:
        talker = Talker(await WebSocketDialer(server.facts["link"])())  # a device that does not move
        await talker.say(greeting(), opening(max_new_tokens=100_000))
        await talker.hear_text(2)
        server.process.send_signal(signal.SIGTERM)
        await talker.hear(Move)
        if is_hurried:
            server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            _, logged = await server.process.communicate()
        await talker.link.close()
        assert server.process.returncode == 0
        assert "Traceback" not in logged.decode()
        assert "some sessions were cut short" in logged.decode()


async def test_when_the_engine_dies_the_process_ends_for_a_supervisor_to_start_it_again() -> None:
    """Until then it says what is the matter, to devices and load balancers."""
    async with served(program=("-m", "tests.serving.mortal_edge")) as server:
        async with device_at(server.facts["link"]) as device:
            with pytest.raises(RefusedError, match="the engine is dead"):
                await ask(device, 1000)
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.facts["http"] + "/health") as answer,
        ):
            assert (answer.status, (await answer.json())["status"]) == (503, "dead")
        async with asyncio.timeout(30):
            _, logged = await server.process.communicate()
        assert server.process.returncode == 1
        assert "the model's thread is gone" in logged.decode()


async def test_tokens_are_read_again_on_hangup(tmp_path: Path) -> None:
    path = write_tokens(tmp_path)
    async with served("--tokens", str(path)) as server:
        async with device_at(server.facts["link"], "phone-secret") as device:
            assert len(await ask(device)) == 20
        path.write_text('[phone]\ntokens = ["another-one"]')
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(Exception):
                    async with device_at(server.facts["link"], "another-one") as device:
                        assert len(await ask(device)) == 20
                        break
        code, logged = await server.stop(signal.SIGTERM)
        assert code == 0
        assert "another-one" not in logged
        assert "phone-secret" not in logged


async def test_a_thousand_idle_connections_leave_it_serving() -> None:
    """Some say nothing at all, some open a link and leave it at that."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    async with served() as server, contextlib.AsyncExitStack() as stack:
        host, port = server.facts["http"].removeprefix("http://").split(":")
        for _ in range(800):
            idle = socket.create_connection((host, int(port)))
            stack.callback(idle.close)
        dial = WebSocketDialer(server.facts["link"])
        for _ in range(20):
            for link in await asyncio.gather(*(dial() for _ in range(10))):
                stack.push_async_callback(link.close)
        async with device_at(server.facts["link"]) as device:
            assert len(await ask(device)) == 20
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.facts["http"] + "/health") as answer,
        ):
            assert (await answer.json())["num_links"] >= 200
        code, logged = await server.stop(signal.SIGTERM)
        assert code == 0
        assert "Traceback" not in logged


def run_serve(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "cascade.cli", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    return done.returncode, done.stderr


def test_a_port_in_use_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run_serve("--model", "synthetic", "--http", f"127.0.0.1:{port}")
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "choose another port" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "nonsense"], "no such model"),
        (["--model", "synthetic", "--tokens", "none.toml"], "cannot be read"),
        (["--model", "synthetic", "--config", "none.toml"], "cannot be read"),
        (["--model", "synthetic", "--tls-cert", "none.pem"], "needs its key"),
        (["--model", "synthetic", "--tls-cert", "none.pem", "--tls-key", "none.pem"], "cannot use none.pem"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], says: str) -> None:
    code, said = run_serve("--http", "127.0.0.1:0", *arguments)
    assert code == 2
    assert says in said
    assert "Traceback" not in said


def test_replicas_need_ray() -> None:
    """Without the extra: what to install, and no traceback."""
    program = "import sys; sys.modules['ray'] = None; from cascade.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "serve", "--model", "synthetic", "--http", "127.0.0.1:0"]
    for more, says in (
        (["--ray", "local"], "ray: replicas need Ray: pip install 'cascade-edge[edge,ray]'"),
        (["--replicas", "2"], "replicas: several engines need --ray, for example --ray local"),
    ):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr == f"cascade: {says}\n"
