"""Any OpenAI client, unchanged, before a device and an edge. Needs `device`, and `pip install openai`.

    python examples/openai_client.py                              # a toy that says back what it is told
    python examples/openai_client.py http://127.0.0.1:8000/v1     # a running `cascade gateway`

All that a program has to know is the address. Our facts stand beside OpenAI's: where each token came from,
what the link took.
"""

from __future__ import annotations

import asyncio
import sys

from openai import OpenAI

from cascade import Device, EdgeServer
from cascade.apps.gateway import Gateway, GatewayOptions
from cascade.models.echo import EchoModel
from cascade.testing import MemoryListener, PacedRunner


def ask(base_url: str) -> None:
    with OpenAI(base_url=base_url, api_key="none") as client:
        chunks = client.chat.completions.create(
            model="cascade",
            messages=[{"role": "user", "content": "Why is the sky blue?"}],
            stream=True,
            seed=1,
        )
        for chunk in chunks:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
            facts = (chunk.model_extra or {}).get("cascade", {})
        print(f"\n{facts}")


async def with_toy() -> None:
    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.020)) as edge:
        edge.listen(MemoryListener("edge"))
        async with (
            Device.connect("memory:edge", draft=EchoModel(slip=0.2)) as device,
            Gateway(device, GatewayOptions(port=0)) as gateway,
        ):
            await asyncio.to_thread(ask, f"{gateway.url}/v1")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        ask(sys.argv[1])
    else:
        asyncio.run(with_toy())
