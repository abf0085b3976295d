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
    """What the device says; the victims, if there are any, are killed in turn on the way."""
    said: list[dict[str, Any]] = []
    kill_next = itertools.cycle(victims)
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as device:
        try:
            assert device.stdout is not None
            for line in device.stdout:
                said.append(json.loads(line))
                num_kills = sum(victim.num_kills for victim in victims)
                if victims and num_kills < NUM_KILLS and len(said) == (num_kills + 1) * KILL_EVERY:
                    victim = next(kill_next)
                    victim.kill()
                    victim.start()
        finally:
            device.kill()
    return said


def synthetic_device(url: str, seed: int, temperature: float) -> list[str]:
    return module("tests.processes.device_program", str(seed), url, str(NUM_TOKENS), str(temperature))


def judge(said: list[dict[str, Any]], victims: list[Program], seed: int, temperature: float) -> None:
    *tokens, end = said
    ask = Ask(PROMPT, NUM_TOKENS, Sampling(temperature=temperature, seed=seed), frozenset(), Policy.cloud())
    first = len(PROMPT)
    assert [token["position"] for token in tokens] == list(range(first, first + NUM_TOKENS))
    assert [token["id"] for token in tokens] == target_alone(SyntheticTarget(seed=seed), ask)
    assert sum(victim.num_kills for victim in victims) == NUM_KILLS
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
    judge(said, [edge, link], seed, temperature)


@pytest.mark.needs_mosquitto
@pytest.mark.parametrize(("profile", "temperature"), [("lan", 0.0), ("wifi", 1.0)])
def test_kills_behind_a_broker(profile: str, temperature: float, tmp_path: Path) -> None:
    seed = 12
    broker_port, link_port = free_ports(2)
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(
        f"listener {broker_port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_type none\n"
    )
    broker = Program("broker", [find(), "-c", str(conf)], listens_at(broker_port))
    edge = Program(
        "edge",
        module("tests.processes.edge_program", str(seed), f"mqtt://127.0.0.1:{broker_port}"),
        says_so,
    )
    link = link_program(link_port, broker_port, profile)
    with running([broker, edge, link]):
        said = generate(
            synthetic_device(f"mqtt://127.0.0.1:{link_port}", seed, temperature), [edge, link, broker]
        )
    judge(said, [edge, link, broker], seed, temperature)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_kills_of_the_real_target_in_exact_mode(temperature: float) -> None:
    fetch(NAME)
    edge_port, link_port = free_ports(2)
    where = f"127.0.0.1:{edge_port}"
    serve = module(
        "cascade.cli", "serve", "--model", NAME, "--exact", "--http", where, "--drain-seconds", "0"
    )
    edge = Program("edge", serve, says_so)
    link = link_program(link_port, edge_port, "lan")
    url = f"ws://127.0.0.1:{link_port}"
    command = module("tests.processes.real_device_program", url, str(NUM_TOKENS), str(temperature))
    with running([edge, link]):
        *undisturbed, _ = generate(command, [])
    with running([edge, link]):
        *tokens, end = generate(command, [edge, link])
    assert tokens == undisturbed, "the same ids at the same positions, each once"
    assert len(tokens) == NUM_TOKENS
    assert edge.num_kills + link.num_kills == NUM_KILLS
    assert end["num_opens"] > NUM_KILLS
