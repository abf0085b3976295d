"""A link that loses every fifth message, tried for ten minutes that take no time. Needs no extra.

    python examples/lossy_link.py

Everything here is the library's own: an in-memory link, conditions put on it, and virtual time, in which the
event loop jumps to the next timer instead of sleeping. So a run is fast, and the same every time.
"""

from __future__ import annotations

import asyncio

from cascade.testing import Conditions, EmulatedLink, memory_pair, run_virtual

NUM_MESSAGES = 600
INTERVAL_S = 1.0
POOR = Conditions(delay_s=0.1, jitter_s=0.02, loss=0.2)


async def main() -> None:
    device_end, edge_end = memory_pair()
    link = EmulatedLink(device_end, up=POOR, seed=7, is_reliable=False)
    loop = asyncio.get_running_loop()
    delays_s: list[float] = []

    async def listen() -> None:
        while True:
            sent_s = float(await edge_end.receive())
            delays_s.append(loop.time() - sent_s)

    listener = asyncio.create_task(listen())
    for _ in range(NUM_MESSAGES):
        await link.send(str(loop.time()).encode())
        await asyncio.sleep(INTERVAL_S)
    listener.cancel()
    await link.close()

    lost = 1 - len(delays_s) / NUM_MESSAGES
    mean_s = sum(delays_s) / len(delays_s)
    print(f"{loop.time():.0f} virtual seconds: {lost:.0%} lost, {mean_s:.3f} s on the way")


if __name__ == "__main__":
    run_virtual(main())
