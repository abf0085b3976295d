"""A device without torch: it drafts by looking up what followed the same words before. Needs `device` alone.

    python examples/without_torch.py                        # a toy that says back what it is told
    python examples/without_torch.py ws://localhost:8080    # after: cascade serve --model smollm2-135m

Such a device learns the vocabulary from the edge. For text it needs the target's tokenizer; that of the
bundled target comes with the package. Drafting so pays where answers quote: JSON, logs, code.
"""

from __future__ import annotations

import asyncio
import sys

from cascade import Device, EdgeServer
from cascade.models.echo import EchoModel
from cascade.models.text import TextTokenizer
from cascade.testing import MemoryListener, PacedRunner

QUESTION = """Repeat this as JSON:
{"room": "kitchen", "temperature": 21.5, "humidity": 40}
{"room": "hall", "temperature": 20.5, "humidity": 41}
{"room": "attic", "temperature": 19.5, "humidity": 39}"""


async def ask(address: str, tokenizer: TextTokenizer | str) -> None:
    async with Device.connect(address, draft="suffix", tokenizer=tokenizer) as device:
        stream = device.chat().stream(QUESTION, max_new_tokens=300)
        async for token in stream:
            print(token, end="", flush=True)
        print(f"\n{stream.summary.num_hinted} of {stream.summary.num_tokens} tokens were looked up")
    print("torch was not imported" if "torch" not in sys.modules else "torch is here: a bug")


async def with_toy() -> None:
    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.020)) as edge:
        edge.listen(MemoryListener("edge"))
        await ask("memory:edge", EchoModel().tokenizer)


if __name__ == "__main__":
    asyncio.run(ask(sys.argv[1], "smollm2-135m-draft") if len(sys.argv) > 1 else with_toy())
