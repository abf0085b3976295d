"""A policy of your own: a function that is told what was measured and says how to go on. Needs no extra.

    python examples/own_policy.py

This one looks after a phone's battery: full, it drafts far ahead; half empty, it drafts little, and asks the
edge to wait for that; nearly empty, it does not draft. The text is the same either way.
"""

from __future__ import annotations

from cascade import Device, EdgeServer, Policy, testing
from cascade.device import Circumstances
from cascade.links.base import Link

ONE_WAY = testing.Conditions(delay_s=0.040)


class Phone:
    def __init__(self, charge: float) -> None:
        self.charge = charge

    def rule(self, now: Circumstances) -> Policy:
        """Asked every few commits, with round trip, pass and draft step times, and agreement, as they are."""
        if self.charge > 0.7:
            return Policy.hint_driven(window=32)
        if self.charge > 0.2:
            few = max(1, round(now.pass_s / now.draft_step_s))
            return Policy.hint_driven(window=few, patience_s=now.rtt_s + few * now.draft_step_s)
        return Policy.cloud()


async def main() -> None:
    target, listener, texts = testing.SyntheticTarget(), testing.MemoryListener(), set()
    draft, runner = testing.SyntheticDraft(target, agreement=0.8), testing.PacedRunner(lambda rows: 0.005)

    async def dial() -> Link:
        return testing.EmulatedLink(await listener.dial(), up=ONE_WAY, down=ONE_WAY)

    async with EdgeServer.of(target, testing.PacedRunner(lambda rows: 0.050)) as edge:
        edge.listen(listener)
        async with Device([dial], draft=draft, runner=runner) as device:
            for charge in (1.0, 0.5, 0.1):
                policy = Policy.by(Phone(charge).rule)
                answer = await device.generate([1, 2, 3], max_new_tokens=300, policy=policy)
                texts.add(answer.tokens)
                summary = answer.summary
                print(
                    f"charge {charge:4.0%}: {summary.time_per_token_s * 1000:5.1f} ms a token, "
                    f"{summary.num_drafted:4} drafted, {summary.tokens_per_pass:.1f} tokens a pass"
                )
    print("one text" if len(texts) == 1 else "a bug: the texts differ")


if __name__ == "__main__":
    testing.run_virtual(main())  # virtual time: the same figures every time
