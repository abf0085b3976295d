"""A device for the real target as a process of its own; suffix matching drafts. A JSON line for every token.

python -m tests.processes.real_device_program URL TOKENS TEMPERATURE
"""

from __future__ import annotations

import asyncio
import json
import sys

from cascade import Device
from cascade.device import ReconnectSettings
from cascade.models.bundled import fetch

NAME = "smollm2-135m"
QUESTION = "Repeat ten times, each on a line of its own: the quick brown fox jumps over the lazy dog."


async def main(url: str, num_tokens: int, temperature: float) -> None:
    device = Device.connect(
        url,
        draft="suffix",
        tokenizer=fetch(NAME),
        reconnect=ReconnectSettings(ceiling_s=0.5, silent_s=5.0),
        connect_timeout_s=60.0,
    )
    async with device:
        messages = [{"role": "user", "content": QUESTION}]
        stream = device.stream(
            messages, max_new_tokens=num_tokens, temperature=temperature, seed=5, stop_ids=()
        )
        async for token in stream:
            print(json.dumps({"position": token.position, "id": token.id}), flush=True)  # noqa: T201
        summary = stream.summary
    end = {"finish_reason": summary.finish_reason, "num_opens": summary.num_opens}
    print(json.dumps(end), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
