"""litellm, unchanged, against the gateway: in an environment of its own, for it wants other versions than we.

pip install --target FOLDER litellm
CASCADE_LITELLM=FOLDER pytest tests/apps/gateway/test_litellm.py
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from .gateways import HELLO, SAID, gateway

FOLDER = os.environ.get("CASCADE_LITELLM", "")
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="CASCADE_LITELLM names no folder; see this file's first lines"),
    pytest.mark.timeout(600),
]

PROGRAM = """
import json, sys
import litellm

url, messages = sys.argv[1], json.loads(sys.argv[2])
common = dict(model="openai/cascade", api_base=url, api_key="sesame", messages=messages, max_retries=0)
whole = litellm.completion(**common, temperature=0, seed=7)
usage = {"include_usage": True}
chunks = list(litellm.completion(**common, temperature=0, stream=True, stream_options=usage))
stopped = litellm.completion(**common, temperature=0, stop=["lo,"], max_tokens=50)
said = []
for wrong in ({"n": 2}, {"api_key": "wrong"}, {"model": "openai/gpt-9"}):
    try:
        litellm.completion(**{**common, **wrong})
    except Exception as error:
        said.append(type(error).__name__)
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "usage": whole.usage.completion_tokens,
    "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
    "streamed_usage": [chunk.usage.completion_tokens for chunk in chunks if getattr(chunk, "usage", None)],
    "stopped": [stopped.choices[0].message.content, stopped.choices[0].finish_reason],
    "errors": said,
}))
"""


async def test_litellm() -> None:
    async with gateway(keys=["sesame"]) as place:
        found = await run(f"{place.url}/v1", json.dumps(HELLO))
    assert found["whole"] == found["streamed"] == SAID
    assert found["usage"] == found["streamed_usage"][-1] == len(SAID.encode()) + 1
    assert found["stopped"] == ["You said: Hel", "stop"]
    assert found["errors"] == ["BadRequestError", "AuthenticationError", "NotFoundError"]


async def run(*arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": FOLDER, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )  # fmt: skip
    output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    found = json.loads(output.splitlines()[-1])
    assert isinstance(found, dict)
    return found
