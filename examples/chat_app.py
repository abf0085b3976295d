"""A chat app in ten lines: `chat` below is the app, all else is a place to run it. Needs the extra `device`.

    python examples/chat_app.py                        # a toy that says back what it is told
    python examples/chat_app.py ws://localhost:8080    # after: cascade serve --model smollm2-135m

With an address it talks to that edge and drafts with the bundled draft model (extra `models`). An empty line
ends it.
"""

from __future__ import annotations

import asyncio
import sys

from cascade import Device, EdgeServer
from cascade.models.echo import EchoModel
from cascade.testing import MemoryListener, PacedRunner


async def chat(device: Device) -> None:
    conversation = device.chat(system="You answer in a sentence or two.")
    while question := await asyncio.to_thread(read, "> "):
        stream = conversation.stream(question, max_new_tokens=300)
        async for token in stream:
            print(token, end="", flush=True)
        print(f"   [{stream.summary.num_hinted} of {stream.summary.num_tokens} tokens guessed here]")


def read(prompt: str) -> str:
    print(prompt, end="", flush=True)
    return sys.stdin.readline().strip()


async def with_edge(address: str) -> None:
    async with Device.connect(address, draft="smollm2-135m-draft") as device:
        await chat(device)


async def with_toy() -> None:
    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.020)) as edge:  # a pass takes 20 ms
        edge.listen(MemoryListener("edge"))
        async with Device.connect("memory:edge", draft=EchoModel(slip=0.2)) as device:
            await chat(device)


if __name__ == "__main__":
    asyncio.run(with_edge(sys.argv[1]) if len(sys.argv) > 1 else with_toy())
