"""Edge, link and broker are processes, killed in turn and started again, ten times in one generation.

The text is the target's own, every position comes once. Nothing here judges how long that takes.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers.mosquitto import find
from cascade import Policy, Sampling
from cascade.models.bundled import fetch
from cascade.testing import SyntheticTarget

from ..virtual.schedules import Ask, target_alone
from .device_program import PROMPT
from .edge_program import RUN_AHEAD
from .real_device_program import NAME

ROOT = Path(__file__).parents[2]
NUM_TOKENS = 200
NUM_KILLS = 10
KILL_EVERY = 18
"""Tokens between two kills."""


class Program:
    """A process that is started again after every kill."""

    def __init__(self, name: str, command: list[str], ready: Callable[[subprocess.Popen[str]], None]) -> None:
        self.name = name
        self.num_kills = 0
        self._command = command
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ready(self._process)

    def kill(self) -> None:
        """No goodbye: SIGKILL."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended by itself"
        self._process.kill()
        self._process.communicate()
        self.num_kills += 1

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def says_so(process: subprocess.Popen[str]) -> None:
    """The program prints a line when it is ready."""
    assert process.stdout is not None
    assert process.stdout.readline(), "it ended before it was ready"


def listens_at(port: int) -> Callable[[subprocess.Popen[str]], None]:
    def wait(process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                continue
            return
        pytest.fail("it ended before it was ready")

    return wait


def free_ports(count: int) -> list[int]:
    """Ports that outlive the processes that listen there."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def link_program(port: int, to_port: int, profile: str) -> Program:
    command = module(
        "cascade.cli",
        "link",
        *("--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{to_port}", "--profile", profile),
    )
    return Program("link", command, says_so)


ACCOUNTS = {"edge-1": "secret-of-the-edge", "phone": "secret-of-the-phone"}


def at(name: str, port: int) -> str:
    """Where this account finds the broker, or the link to it."""
    return f"mqtt://{name}:{ACCOUNTS[name]}@127.0.0.1:{port}"


def broker_program(kind: str, port: int, folder: Path) -> Program:
    """A broker that comes back on the same port, with the same accounts."""
    if kind == "amqtt":
        accounts = folder / "accounts.json"
        accounts.write_text(json.dumps(ACCOUNTS))
        command = module("cascade.cli", "broker", "--port", str(port), "--accounts", str(accounts))
        return Program("broker", [*command, "--edge", "edge-1", "--device", "phone"], says_so)
    conf = folder / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\n")
    return Program("broker", [find(), "-c", str(conf)], listens_at(port))


@contextmanager
def running(programs: list[Program]) -> Iterator[None]:
    try:
        for program in programs:
            program.start()
        yield
    finally:
        for program in programs:
            program.stop()


def generate(command: list[str], victims: list[Program]) -> list[dict[str, Any]]:
    """What the device says; the victims, if there are any, are killed in turn on the way, ten times."""
    said: list[dict[str, Any]] = []
    in_turn = itertools.islice(itertools.cycle(victims), NUM_KILLS)
    num_kills_before = sum(victim.num_kills for victim in victims)
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as device:
        try:
            assert device.stdout is not None
            for line in device.stdout:
                said.append(json.loads(line))
                if len(said) % KILL_EVERY == 0 and (victim := next(in_turn, None)) is not None:
                    victim.kill()
                    victim.start()
        finally:
            device.kill()
    if victims:
        assert sum(victim.num_kills for victim in victims) - num_kills_before == NUM_KILLS
    return said


def synthetic_device(url: str, seed: int, temperature: float) -> list[str]:
    return module("tests.processes.device_program", str(seed), url, str(NUM_TOKENS), str(temperature))


def judge(said: list[dict[str, Any]], seed: int, temperature: float) -> None:
    *tokens, end = said
    ask = Ask(PROMPT, NUM_TOKENS, Sampling(temperature=temperature, seed=seed), frozenset(), Policy.cloud())
    first = len(PROMPT)
    assert [token["position"] for token in tokens] == list(range(first, first + NUM_TOKENS))
    assert [token["id"] for token in tokens] == target_alone(SyntheticTarget(seed=seed), ask)
    assert end["finish_reason"] == "length"
    assert end["num_opens"] > NUM_KILLS, "every kill cost the device its link"


@pytest.mark.parametrize(("profile", "temperature"), [("lan", 0.0), ("lossy-wifi", 1.0)])
def test_kills_behind_a_websocket(profile: str, temperature: float) -> None:
    seed = 11
    edge_port, link_port = free_ports(2)
    edge = Program("edge", module("tests.processes.edge_program", str(seed), str(edge_port)), says_so)
    link = link_program(link_port, edge_port, profile)
    with running([edge, link]):
        said = generate(synthetic_device(f"ws://127.0.0.1:{link_port}", seed, temperature), [edge, link])
    judge(said, seed, temperature)


@pytest.mark.parametrize(
    ("kind", "profile", "temperature"),
    [
        pytest.param("mosquitto", "lan", 0.0, marks=pytest.mark.needs_mosquitto),
        pytest.param("mosquitto", "wifi", 1.0, marks=pytest.mark.needs_mosquitto),
        pytest.param("amqtt", "wifi", 0.8),
    ],
)
def test_kills_behind_a_broker(kind: str, profile: str, temperature: float, tmp_path: Path) -> None:
    seed = 12
    broker_port, link_port = free_ports(2)
    broker = broker_program(kind, broker_port, tmp_path)
    edge = Program(
        "edge", module("tests.processes.edge_program", str(seed), at("edge-1", broker_port)), says_so
    )
    link = link_program(link_port, broker_port, profile)
    with running([broker, edge, link]):
        said = generate(synthetic_device(at("phone", link_port), seed, temperature), [edge, link, broker])
    judge(said, seed, temperature)


@pytest.mark.slow
@pytest.mark.needs_mosquitto
@pytest.mark.timeout(1800)  # the real edge takes its time to start, and does so nine times
def test_kills_of_the_real_target_in_exact_mode(tmp_path: Path) -> None:
    """Greedy, then with noise, over the same processes: what they held of the text before has to be lost."""
    fetch(NAME)
    broker_port, link_port = free_ports(2)
    limits = tmp_path / "limits.toml"
    limits.write_text(f"run_ahead = {RUN_AHEAD}\n")
    serve = module("cascade.cli", "serve", "--model", NAME, "--exact", "--http", "127.0.0.1:0")
    serve += ["--mqtt", at("edge-1", broker_port), "--name", "edge-1", "--config", str(limits)]
    broker = broker_program("mosquitto", broker_port, tmp_path)
    edge = Program("edge", serve, says_so)
    link = link_program(link_port, broker_port, "lan")
    with running([broker, edge, link]):
        for temperature in (0.0, 0.8):
            device = module("tests.processes.real_device_program", f"{at('phone', link_port)}/edge-1")
            device += [str(NUM_TOKENS), str(temperature)]
            *undisturbed, _ = generate(device, [])
            *tokens, end = generate(device, [edge, link, broker])
            assert tokens == undisturbed, "the same ids at the same positions, each once"
            assert len(tokens) == NUM_TOKENS
            assert end["num_opens"] > NUM_KILLS
