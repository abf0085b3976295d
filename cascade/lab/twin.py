"""A real run once more in virtual time: the real code, the same texts and guesses, and the costs declared.

What is missing in it is all that nobody declared: timers that are late, threads that wait for each other, a
processor that is elsewhere. So the difference to the real run is theirs, and not the scheduler's.
"""

from __future__ import annotations

from ..device import Device, Policy
from ..edge import EdgeServer, EdgeSettings
from ..links.base import Link
from ..models.paced import PacedDraft, PacedTarget, Recording
from ..models.runner import PacedRunner, constant_cost
from ..testing import Conditions, EmulatedLink, MemoryListener, run_virtual
from .forecast import Costs

__all__ = ["times_in_virtual_time_s"]

LIMIT_S = 10_000.0


def times_in_virtual_time_s(recording: Recording, costs: Costs, policy: Policy) -> list[float]:
    """Seconds per token of each text; one device answers them in turn, after a first one to warm up."""
    return run_virtual(_answer_all(recording, costs, policy), limit_s=LIMIT_S)


async def _answer_all(recording: Recording, costs: Costs, policy: Policy) -> list[float]:
    listener = MemoryListener()
    one_way = Conditions(delay_s=costs.rtt_s / 2)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=one_way, down=one_way)

    edge = EdgeServer.of(
        PacedTarget(recording), PacedRunner(costs.of_pass_s), settings=EdgeSettings(keep_kv_s=0.0)
    )
    runner = PacedRunner(constant_cost(costs.draft_step_s))
    times_s = []
    async with edge:
        edge.listen(listener)
        async with Device([dial], draft=PacedDraft(recording), runner=runner, seed=1) as device:
            for text in (recording.texts[0], *recording.texts):
                answer = await device.generate(
                    list(text.prompt), max_new_tokens=len(text.answer), stop_ids=(), policy=policy
                )
                times_s.append(answer.summary.time_per_token_s)
    return times_s[1:]
