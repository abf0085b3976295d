"""A device as a process of its own: one generation, a JSON line for every token, and one at the end.

python -m tests.processes.device_program SEED URL TOKENS TEMPERATURE
"""

from __future__ import annotations

import asyncio
import json
import sys

from cascade import Device
from cascade.device import ReconnectSettings
from cascade.links.base import Dialer
from cascade.links.mqtt import MqttDialer, MqttSettings
from cascade.links.websocket import WebSocketDialer
from cascade.testing import PacedRunner, SyntheticDraft, SyntheticTarget

PROMPT = (1, 2, 3)


async def main(seed: int, url: str, num_tokens: int, temperature: float) -> None:
    dial: Dialer
    if url.startswith("mqtt://"):
        dial = MqttDialer(url, edge="edge-1", device="phone", settings=MqttSettings(timeout_s=3.0))
    else:
        dial = WebSocketDialer(url)
    device = Device(
        [dial],
        draft=SyntheticDraft(SyntheticTarget(seed=seed), agreement=0.8),
        runner=PacedRunner(lambda rows: 0.003),
        reconnect=ReconnectSettings(ceiling_s=0.5, silent_s=2.0),
    )
    async with device:
        stream = device.stream(PROMPT, max_new_tokens=num_tokens, temperature=temperature, seed=seed)
        async for token in stream:
            print(json.dumps({"position": token.position, "id": token.id}), flush=True)  # noqa: T201  (what it is there for)
        summary = stream.summary
    end = {"finish_reason": summary.finish_reason, "num_opens": summary.num_opens}
    print(json.dumps(end), flush=True)  # noqa: T201  (what it is there for)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
