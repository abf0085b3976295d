"""A note-taker that goes on without an edge, and puts right what it wrote alone. Needs the extra `device`.

    python examples/offline_notes.py

A note comes back fair-copied. The link dies before the second one: the draft goes on alone, and its slips
stand there until the edge is back and takes them out. The toy copies letter by letter; its draft slips in
every fifth. Time is virtual, so four seconds of outage take none.
"""

from __future__ import annotations

from cascade import Device, EdgeServer, Revision, Token
from cascade.links.base import Link
from cascade.models.echo import EchoModel
from cascade.testing import Conditions, EmulatedLink, MemoryListener, PacedRunner, run_virtual

NOTES = ("Milk and bread", "Call Ada about the boat", "A bench by the pond")
ONE_WAY = Conditions(delay_s=0.040)


async def copy(device: Device, note: str) -> None:
    stream = device.stream(
        [{"role": "user", "content": note}],
        max_new_tokens=80,
        on_disconnect="continue",
        offline_after_s=0.5,
        revisions=True,
    )
    written = ""
    async for event in stream.events():
        if isinstance(event, Token):
            written += event.text
        elif isinstance(event, Revision):
            print(f"  alone: {written}")
            written = event.text
    print(f"{written}   [{stream.summary.num_provisional} tokens without an edge]")


async def main() -> None:
    listener, links = MemoryListener(), list[EmulatedLink]()

    async def dial() -> Link:
        links.append(EmulatedLink(await listener.dial(), up=ONE_WAY, down=ONE_WAY))
        return links[-1]

    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.050)) as edge:
        edge.listen(listener)
        draft, runner = EchoModel(slip=0.2), PacedRunner(lambda rows: 0.010)
        async with Device([dial], draft=draft, runner=runner) as device:
            for number, note in enumerate(NOTES):
                if number == 1:
                    links[-1].cut(4.0)
                await copy(device, note)


if __name__ == "__main__":
    run_virtual(main())
