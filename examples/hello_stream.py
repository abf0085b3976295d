"""An answer, token by token, and where each token came from. Needs no extra.

    python examples/hello_stream.py

Device and edge live in this process, and a synthetic pair of models stands in for real ones: the draft agrees
with the target on four tokens of five. With real ones, the edge runs elsewhere, and the device begins with
`Device.connect("ws://edge:8080", draft="my-draft")`; its prompts are then texts.
"""

from __future__ import annotations

import asyncio

from cascade import Device, EdgeServer, Source
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget

MARKS = {Source.HINTED: "+", Source.DRIVEN: ".", Source.KEPT: "="}


async def main() -> None:
    target = SyntheticTarget()
    draft = SyntheticDraft(target, agreement=0.8)
    async with EdgeServer.of(target, PacedRunner(lambda rows: 0.020)) as edge:  # a pass takes 20 ms
        edge.listen(MemoryListener("edge"))
        runner = PacedRunner(lambda rows: 0.002)  # a draft step takes 2 ms
        async with Device.connect("memory:edge", draft=draft, runner=runner) as device:
            stream = device.stream([1, 2, 3], max_new_tokens=100)
            async for token in stream:
                print(MARKS[token.source], end="", flush=True)
            print("   + hinted by the device, . decided by the edge alone\n")
            print(stream.summary)


if __name__ == "__main__":
    asyncio.run(main())
