"""A note-taker that works without any edge, and in private: the draft alone copies. Needs the extra `device`.

    python examples/offline_notes.py

A device that has a draft model starts without an edge. What is private is never made known to the connection,
so it makes no difference whether one is there. The toy draft copies letters, and slips in every fifth.
"""

from __future__ import annotations

from cascade import Device, LinkUnavailable
from cascade.links.base import Link
from cascade.models.echo import EchoModel
from cascade.testing import PacedRunner, run_virtual

NOTES = ("Milk and bread", "Call Ada about the boat", "A bench by the pond")


async def nobody() -> Link:
    raise LinkUnavailable("we are on a train, in a tunnel")


async def main() -> None:
    draft, runner = EchoModel(slip=0.2), PacedRunner(lambda rows: 0.010)
    async with Device([nobody], draft=draft, runner=runner) as device:
        for note in NOTES:
            answer = await device.chat(private=True).generate(note, max_new_tokens=60)
            print(f"{answer.text}   [{answer.summary.bytes_up} bytes sent]")


if __name__ == "__main__":
    run_virtual(main())  # virtual time: a run takes no time
