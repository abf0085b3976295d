"""Milliseconds per token over four kinds of link, by three ways to decode. Needs no extra.

    python examples/latency_experiment.py

Device, edge and wire are the real ones; the models are synthetic and time is virtual, so a run takes a second
and gives the same figures everywhere. What needs grids, seeds and plots is a file for `cascade lab`: see
docs/lab.md.
"""

from __future__ import annotations

from cascade import Device, EdgeServer, Policy
from cascade.links.base import Link
from cascade.links.profiles import Profile, load_profile
from cascade.testing import (
    EmulatedLink,
    MemoryListener,
    PacedRunner,
    SyntheticDraft,
    SyntheticTarget,
    run_virtual,
)

POLICIES = {
    "plain streaming": Policy.cloud(),
    "ask and wait, 6 guesses": Policy.ask_and_wait(6),
    "hint-driven": Policy.adaptive(),
}
PROFILES = ("lan", "wifi", "lte", "geo")


async def ms_per_token(profile: Profile, policy: Policy) -> float:
    target = SyntheticTarget()
    listener = MemoryListener()

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=profile.up, down=profile.down, seed=1)

    async with EdgeServer.of(target, PacedRunner(lambda rows: 0.050 + 0.0001 * rows)) as edge:
        edge.listen(listener)
        draft = SyntheticDraft(target, agreement=0.8)
        async with Device([dial], draft=draft, runner=PacedRunner(lambda rows: 0.005)) as device:
            answer = await device.generate([1, 2, 3], max_new_tokens=400, policy=policy)
    return answer.summary.time_per_token_s * 1000


if __name__ == "__main__":
    print(f"{'':24}" + "".join(f"{name:>8}" for name in PROFILES))
    for name, policy in POLICIES.items():
        times_ms = [run_virtual(ms_per_token(load_profile(profile), policy)) for profile in PROFILES]
        print(f"{name:24}" + "".join(f"{time_ms:8.1f}" for time_ms in times_ms))
