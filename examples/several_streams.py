"""Eight answers at once on one device: they share its link and its drafter. Needs no extra.

    python examples/several_streams.py

Also: an answer that is left early, which stops the edge and the drafter within a step; and one that is
private, which the draft gives alone, and of which nothing is sent.
"""

from __future__ import annotations

import asyncio

from cascade import Device, EdgeServer
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget, run_virtual


async def main() -> None:
    target = SyntheticTarget()
    draft = SyntheticDraft(target, agreement=0.8)
    async with EdgeServer.of(target, PacedRunner(lambda rows: 0.050 + 0.0005 * rows)) as edge:
        edge.listen(MemoryListener("edge"))
        runner = PacedRunner(lambda rows: 0.002)
        async with Device.connect("memory:edge", draft=draft, runner=runner) as device:
            answers = await asyncio.gather(
                *(device.generate([number, 2, 3], max_new_tokens=60) for number in range(8))
            )
            for number, answer in enumerate(answers):
                summary = answer.summary
                print(
                    f"stream {number}: {summary.num_tokens} tokens, {summary.num_hinted} hinted, "
                    f"{summary.time_per_token_s * 1000:.0f} ms a token"
                )

            async for token in device.stream([1, 2, 3], max_new_tokens=1000):
                if token.position == 20:
                    break
            await asyncio.sleep(0.2)
            print(f"left early: {edge.num_sessions} sessions are open at the edge")

            private = await device.generate([1, 2, 3], max_new_tokens=30, private=True)
            print(f"private: {private.summary.num_kept} tokens kept, {private.summary.bytes_up} bytes sent")


if __name__ == "__main__":
    run_virtual(main())  # virtual time: the same figures every time; asyncio.run(main()) takes real time
