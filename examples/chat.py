"""A conversation in text, kept as tokens from turn to turn. Needs the extra `device` (tokenizers and jinja2).

A toy that says back what it is told stands in for real models, and the draft gets every fifth letter wrong.
With real ones the device begins with `Device.connect("ws://edge:8080", draft="my-draft")`, and the tokenizer
is the draft's.
"""

from __future__ import annotations

import asyncio

from cascade import Device, EdgeServer
from cascade.models.echo import EchoModel
from cascade.testing import MemoryListener, PacedRunner


async def main() -> None:
    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.010)) as edge:
        edge.listen(MemoryListener("edge"))
        runner = PacedRunner(lambda rows: 0.001)
        async with Device.connect("memory:edge", draft=EchoModel(slip=0.2), runner=runner) as device:
            chat = device.chat(system="Be brief.")
            for question in ("Hello!", "Grüße aus Köln 🙂", "Now stop here; not there."):
                print(f"> {question}")
                async for token in (stream := chat.stream(question, max_new_tokens=80, stop="; ")):
                    print(token, end="", flush=True)
                summary = stream.summary
                print(f"   [{summary.num_hinted} of {summary.num_tokens} tokens hinted]")
            print(f"{len(chat.messages)} messages, {len(chat.tokens)} tokens")


if __name__ == "__main__":
    asyncio.run(main())
