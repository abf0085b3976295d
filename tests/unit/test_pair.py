"""The parts of `cascade bench pair` that need no model: forecasts, blocks, and processes with a core each."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from cascade.decoding import Sampling
from cascade.device import Policy
from cascade.edge import EdgeServer
from cascade.errors import CascadeError
from cascade.lab import cores, pair
from cascade.lab.forecast import best_question, expected_gain
from cascade.links.base import Link
from cascade.models.runner import PacedRunner, constant_cost
from cascade.testing import MemoryListener, SyntheticDraft, SyntheticTarget, run_virtual

FLAT = {1: 0.02, 2: 0.02, 4: 0.02, 8: 0.02}
STEEP = {1: 0.02, 2: 0.04, 4: 0.08, 8: 0.16}


def coins(agreement: float, count: int = 2000) -> list[bool]:
    dice = random.Random(3)
    return [dice.random() < agreement for _ in range(count)]


def gain(agreement: float, curve: dict[int, float], rtt_s: float = 0.0, step_s: float = 0.004) -> float:
    return expected_gain(coins(agreement), curve, rtt_s=rtt_s, draft_step_s=step_s, pass_s=0.02)


def test_forecasts_follow_agreement_rows_and_link() -> None:
    assert 1.1 < gain(0.55, FLAT) < gain(0.8, FLAT) < 5
    assert gain(0.8, STEEP) < gain(0.8, FLAT)
    assert gain(0.8, FLAT, rtt_s=0.2) < gain(0.8, FLAT)


def test_where_nothing_helps_plain_streaming_is_the_best_policy() -> None:
    assert gain(0.3, STEEP) == 1.0
    assert gain(0.6, FLAT, step_s=0.05) >= 1.0


def test_only_the_shape_of_the_curve_counts() -> None:
    slower = {rows: 3 * seconds for rows, seconds in FLAT.items()}
    assert gain(0.7, slower) == gain(0.7, FLAT)


def test_a_dear_question_is_longer_than_a_cheap_one() -> None:
    near = best_question(0.6, STEEP, rtt_s=0.0, draft_step_s=0.004)
    far = best_question(0.6, STEEP, rtt_s=0.4, draft_step_s=0.004)
    assert near < far


def test_a_block_runs_every_policy_on_the_same_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    target = SyntheticTarget(seed=4)
    draft = SyntheticDraft(target, agreement=0.7, seed=5)

    async def main() -> pair.Block:
        listener = MemoryListener()

        async def dial() -> Link:
            return await listener.dial()

        monkeypatch.setattr(pair, "_dialer", lambda url, rtt_s: dial)
        monkeypatch.setattr(pair, "Device", paced_device)
        edge = EdgeServer.of(target, PacedRunner(constant_cost(0.02)))
        async with edge:
            edge.listen(listener)
            courses = {
                "cloud": pair.Course(policy=Policy.cloud()),
                "hint_driven": pair.Course(policy=Policy.adaptive()),
                "ask_and_wait": pair.Course(policy=Policy.ask_and_wait(3), every=2),
            }
            prompts = [[1 + number, 2, 3] for number in range(5)]
            return await pair.run_block(
                "nowhere", draft, prompts, courses, rtt_s=0.0, temperature=0.8, num_tokens=40
            )

    block = run_virtual(main(), limit_s=600)
    assert {name: sorted(runs) for name, runs in block.runs.items()} == {
        "cloud": [1, 2, 3, 4],
        "hint_driven": [1, 2, 3, 4],
        "ask_and_wait": [2, 4],
    }
    for number, run in block.runs["cloud"].items():
        assert run.sampling == Sampling(temperature=0.8, seed=1 + number)
        assert all(runs[number].tokens == run.tokens for runs in block.runs.values() if number in runs)
    assert all(time_s == pytest.approx(0.02, rel=1e-3) for time_s in block.times_s("cloud"))
    assert max(block.ratios("hint_driven", "cloud")) < 1
    assert len(block.ratios("ask_and_wait", "cloud")) == 2
    assert block.mean("hint_driven", "tokens_per_pass") > 1.2
    judged = [coin for run in block.runs["cloud"].values() for coin in pair.agreed(draft, run)]
    assert 0.5 < sum(judged) / len(judged) < 0.9


def paced_device(dialers: Any, **options: Any) -> Any:
    from cascade.device import Device

    return Device(dialers, runner=PacedRunner(constant_cost(0.004)), **options)


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    with pytest.raises(CascadeError, match="a core each"):
        cores.two_cores()
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(CascadeError, match="Linux"):
        cores.two_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_pinning_ends_as_it_began() -> None:
    before = os.sched_getaffinity(0)
    with cores.pinned(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_an_edge_that_does_not_start_says_how_to_find_out() -> None:
    edge = cores.real_edge("no-such-model", "int8", min(os.sched_getaffinity(0)))
    with pytest.raises(CascadeError, match="cascade serve --model no-such-model"), edge:
        raise AssertionError("it started")
