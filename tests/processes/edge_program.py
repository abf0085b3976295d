"""An edge as a process of its own: a synthetic target behind a WebSocket, or at a broker.

python -m tests.processes.edge_program SEED WHERE

WHERE is a port of this machine, or the URL of an MQTT broker. Says "ready" once devices may come.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from cascade import EdgeServer
from cascade.edge import EdgeSettings
from cascade.links.mqtt import MqttListener, MqttSettings
from cascade.links.websocket import WebSocketListener
from cascade.testing import PacedRunner, SyntheticTarget

PASS_S = 0.02
RUN_AHEAD = 8
"""An edge whose link is gone stops soon, so that there is something left to kill the next one in."""


async def main(seed: int, where: str) -> None:
    runner = PacedRunner(lambda rows: PASS_S)
    settings = EdgeSettings(run_ahead=RUN_AHEAD)
    async with AsyncExitStack() as stack:
        listener: MqttListener | WebSocketListener
        if where.startswith("mqtt://"):
            listener = MqttListener(where, "edge-1", settings=MqttSettings(backoff_ceiling_s=0.5))
        else:
            listener = WebSocketListener(port=int(where))
        await stack.enter_async_context(listener)
        edge = await stack.enter_async_context(
            EdgeServer.of(SyntheticTarget(seed=seed), runner, settings=settings)
        )
        edge.listen(listener)
        print("ready", flush=True)  # noqa: T201  (what it is waited for)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
