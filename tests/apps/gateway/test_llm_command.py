"""The `llm` command, unchanged, against the gateway: what its users write into a file, and what they type."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from .gateways import gateway

MODELS = """
- model_id: cascade
  model_name: cascade
  api_base: "{url}/v1"
  can_stream: {can_stream}
"""


@pytest.mark.parametrize("can_stream", ["true", "false"])
async def test_a_question(can_stream: str, tmp_path: Path) -> None:
    async with gateway() as place:
        (tmp_path / "extra-openai-models.yaml").write_text(
            MODELS.format(url=place.url, can_stream=can_stream)
        )
        options = ["-o", "temperature", "0", "-o", "seed", "7", "-o", "max_tokens", "100"]
        status, said = await llm(tmp_path, "-m", "cascade", *options, "--key", "none", "Hello 🙂")
        assert (status, said) == (0, "You said: Hello 🙂\n")
        status, said = await llm(tmp_path, "-c", "--key", "none", "-o", "temperature", "0", "And now?")
        assert (status, said) == (0, "You said: And now?\n"), "the conversation goes on"


async def test_an_error(tmp_path: Path) -> None:
    async with gateway(keys=["sesame"]) as place:
        (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(url=place.url, can_stream="true"))
        status, said = await llm(tmp_path, "-m", "cascade", "--key", "wrong", "Hello")
        assert status != 0
        assert "needs one of its API keys" in said


async def llm(folder: Path, *arguments: str) -> tuple[int | None, str]:
    """Exit code, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llm",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"LLM_USER_PATH": str(folder), "PYTHONIOENCODING": "utf-8"},
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()
