"""Two edges, and one of them goes away in the middle of an answer. Needs the extra `device`.

    python examples/two_edges.py

The device is given both addresses. It stays with the first; when that one is gone, it opens the answer again
at the second, with all tokens so far, and the text goes on where it was: it is a function of the question
alone. The edges are real WebSocket servers on free ports; the model is a toy that says back what it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from cascade import Device, EdgeServer
from cascade.links.websocket import WebSocketListener
from cascade.models.echo import EchoModel
from cascade.testing import PacedRunner

QUESTION = "Which of you is going to finish this sentence, which is long enough to be cut in two?"


@asynccontextmanager
async def serving(name: str) -> AsyncIterator[str]:
    """An edge's address, while it is there."""
    async with (
        WebSocketListener(port=0) as listener,
        EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.020), name=name) as edge,
    ):
        edge.listen(listener)
        yield listener.url


async def main() -> None:
    async with AsyncExitStack() as attic, serving("cellar") as cellar_url:
        attic_url = await attic.enter_async_context(serving("attic"))
        async with Device.connect(attic_url, cellar_url, draft=EchoModel(slip=0.2)) as device:
            stream = device.chat().stream(QUESTION, max_new_tokens=200)
            async for token in stream:
                print(token, end="", flush=True)
                if len(stream.tokens) >= 30:
                    await attic.aclose()  # pulls the plug; a second time it does nothing
            print(f"\nopened {stream.summary.num_opens} times")
            print("one text" if stream.text == f"You said: {QUESTION}" else "a bug: another text")


if __name__ == "__main__":
    asyncio.run(main())
