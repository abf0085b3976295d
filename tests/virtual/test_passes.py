"""What a token costs on clean links: passes, time and bytes, in virtual time, where figures are exact.

A broken prefix check, resume or rollback cannot change the text, only waste work: it shows here. The figures
of `MEASURED` are this code's own, and deterministic: whoever changes a policy renews them, while the bounds
beside them stay.
"""

from __future__ import annotations

import asyncio
import functools
import statistics
from collections.abc import Callable

import pytest

from cascade.device import Policy
from cascade.lab.simulation import Outcome, Setting, simulate
from cascade.links.base import Link
from cascade.testing import Conditions, EmulatedLink, MemoryListener

from ..helpers import in_virtual_time
from .peers import PASS_S as QUICK_PASS_S
from .peers import PROMPT, device_for, edge_for, read

PASS_S = 0.050
DRAFT_S = 0.005
ROTATIONS = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Of the draft's dice: together these runs agree at exactly the rate, so short ones are enough."""
NUM_TOKENS = 800

POLICIES: dict[str, Callable[[float], Policy]] = {
    "cloud": lambda rtt_s: Policy.cloud(),
    "ask-and-wait": lambda rtt_s: Policy.ask_and_wait(6),
    "hint-driven": lambda rtt_s: Policy.hint_driven(),
    "patient": lambda rtt_s: Policy.hint_driven(patience_s=rtt_s + 0.01),
}

MEASURED = {
    "ask-and-wait": (0.2575, 45.99, 1.5315),
    "hint-driven": (0.621, 31.03, 3.4205),
    "patient": (0.3533, 40.40, 3.0323),
}
"""Policy -> passes, milliseconds and drafted tokens per token, at an agreement of .8 and R = 100 ms."""
BAND = 0.02


@functools.cache
def outcomes(policy_name: str) -> list[Outcome]:
    policy = POLICIES[policy_name](0.1)
    return [
        run(policy, agreement=0.8, rtt_s=0.1, num_tokens=NUM_TOKENS, rotation=rotation)
        for rotation in ROTATIONS
    ]


def run(
    policy: Policy, *, agreement: float, rtt_s: float, num_tokens: int, seed: int = 1, rotation: float = 0.0
) -> Outcome:
    return simulate(
        Setting(
            agreement=agreement,
            rtt_s=rtt_s,
            policy=policy,
            num_tokens=num_tokens,
            seed=seed,
            rotation=rotation,
            draft_step_s=DRAFT_S,
            pass_s=PASS_S,
        )
    )


def ms_per_token(outcome: Outcome) -> float:
    return outcome.summary.time_per_token_s * 1000


def drafted_per_token(outcome: Outcome) -> float:
    return outcome.summary.num_drafted / outcome.summary.num_tokens


@pytest.mark.parametrize("policy_name", MEASURED)
def test_what_a_token_costs(policy_name: str) -> None:
    found = outcomes(policy_name)
    costs = (
        statistics.fmean(outcome.passes_per_token for outcome in found),
        statistics.fmean(map(ms_per_token, found)),
        statistics.fmean(map(drafted_per_token, found)),
    )
    assert costs == pytest.approx(MEASURED[policy_name], rel=BAND)


@pytest.mark.parametrize("rtt_s", [0.0, 0.1, 0.4])
def test_cloud_streaming_takes_a_pass_a_token(rtt_s: float) -> None:
    outcome = run(Policy.cloud(), agreement=0.8, rtt_s=rtt_s, num_tokens=300)
    assert outcome.passes_per_token == 1
    assert outcome.summary.time_per_token_s == pytest.approx(PASS_S)
    assert outcome.summary.time_to_first_token_s == pytest.approx(rtt_s + PASS_S)
    assert outcome.summary.num_drafted == outcome.summary.num_hinted == 0


@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("rtt_s", [0.0, 0.1])
def test_ask_and_wait_with_a_perfect_draft_is_the_formula(k: int, rtt_s: float) -> None:
    """k draft steps, a round trip and a pass bring k + 1 tokens."""
    num_rounds = 40
    outcome = run(
        Policy.ask_and_wait(k), agreement=1.0, rtt_s=rtt_s, num_tokens=num_rounds * (k + 1) + 1
    )  # the first pass is the edge's alone: it waits for nobody
    num_passes = round(outcome.passes_per_token * outcome.summary.num_tokens)
    assert num_rounds < num_passes <= num_rounds + 2
    elapsed_s = outcome.summary.time_per_token_s * (outcome.summary.num_tokens - 1)
    # While that first pass ran the first question was asked already.
    assert elapsed_s <= (num_rounds + 1) * (k * DRAFT_S + rtt_s + PASS_S) + 1e-6
    assert elapsed_s >= (num_rounds - 1) * (k * DRAFT_S + rtt_s + PASS_S)


@pytest.mark.parametrize("k", [2, 6])
def test_ask_and_wait_follows_the_textbook(k: int) -> None:
    """(1 - a^(k+1)) / (1 - a) tokens a round, within three standard errors (about 2 % here)."""
    a, rtt_s = 0.8, 0.1
    outcome = run(Policy.ask_and_wait(k), agreement=a, rtt_s=rtt_s, num_tokens=3000)
    tokens_per_round = (1 - a ** (k + 1)) / (1 - a)
    round_s = k * DRAFT_S + rtt_s + PASS_S
    assert outcome.passes_per_token == pytest.approx(1 / tokens_per_round, rel=0.05)
    assert outcome.summary.time_per_token_s == pytest.approx(round_s / tokens_per_round, rel=0.05)


@pytest.mark.parametrize("rtt_s", [0.0, 0.05, 0.2])
def test_a_perfect_draft_is_as_fast_as_it_drafts(rtt_s: float) -> None:
    """As long as the window covers the round trip, the draft step is the limit, and passes are few."""
    outcome = run(Policy.hint_driven(), agreement=1.0, rtt_s=rtt_s, num_tokens=1000)
    assert DRAFT_S * 1000 * 0.9 <= ms_per_token(outcome) <= 1000 * DRAFT_S * 1.25
    assert outcome.passes_per_token <= 0.125


@pytest.mark.parametrize("rtt_s", [0.0, 0.1])
def test_a_useless_draft_costs_nothing_but_its_bytes(rtt_s: float) -> None:
    outcome = run(Policy.hint_driven(), agreement=0.0, rtt_s=rtt_s, num_tokens=300)
    assert outcome.passes_per_token == 1
    assert outcome.summary.time_per_token_s == pytest.approx(PASS_S)
    assert outcome.summary.num_hinted == 0


@pytest.mark.parametrize("rtt_s", [0.0, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.6, 0.8, 0.9, 1.0])
def test_without_patience_never_slower_than_cloud_streaming(agreement: float, rtt_s: float) -> None:
    outcome = run(Policy.hint_driven(), agreement=agreement, rtt_s=rtt_s, num_tokens=300, seed=4)
    assert ms_per_token(outcome) <= 50.5
    assert outcome.summary.time_to_first_token_s == pytest.approx(rtt_s + PASS_S)
    assert outcome.passes_per_token <= 1


@pytest.mark.parametrize(("policy_name", "most_bytes"), [("hint-driven", 24), ("patient", 15)])
def test_payload_per_token(policy_name: str, most_bytes: float) -> None:
    """Up and down together, wasted hints included."""
    found = outcomes(policy_name)
    assert sum(outcome.summary.num_tokens for outcome in found) == NUM_TOKENS * len(ROTATIONS)
    assert statistics.fmean(outcome.payload_bytes_per_token for outcome in found) <= most_bytes


@pytest.mark.parametrize("rtt_s", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("policy_name", POLICIES)
@in_virtual_time
async def test_time_to_the_first_token(policy_name: str, rtt_s: float) -> None:
    """Open link: that of cloud streaming. Cold: the round trip more that dialling takes, and no other."""
    listener = MemoryListener()
    one_way = Conditions(delay_s=rtt_s / 2)

    async def dial() -> Link:
        await asyncio.sleep(rtt_s)  # as a TCP handshake does
        return EmulatedLink(await listener.dial(), up=one_way, down=one_way)

    policy = POLICIES[policy_name](rtt_s)
    async with edge_for(listener), device_for(dial) as device:
        cold = device.stream(PROMPT, max_new_tokens=20, policy=policy)
        await read(cold)
        open_link = device.stream(PROMPT, max_new_tokens=20, policy=policy)
        await read(open_link)
        assert open_link.summary.time_to_first_token_s == pytest.approx(rtt_s + QUICK_PASS_S)
        assert cold.summary.time_to_first_token_s <= 2 * rtt_s + QUICK_PASS_S + 1e-9
