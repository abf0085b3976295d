"""A device whose processor has other things to do: it is seen, nobody waits for it, and it recovers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from cascade.device import Device, Objective, Policy
from cascade.device.effort import with_effort
from cascade.device.planning import Circumstances, Plan, make_plan
from cascade.device.scheduler import Scheduler
from cascade.edge import EdgeServer
from cascade.measure import Knowledge, LoadEstimator
from cascade.models.base import Feed, Logits
from cascade.models.runner import PacedRunner, ThreadRunner, constant_cost
from cascade.testing import MemoryListener, SyntheticDraft, SyntheticTarget


def plan(load: float, *, rtt_s: float = 0.0, objective: Objective = Objective.LATENCY) -> Plan:
    """As measured with the bundled pair and a process that never rests beside the draft."""
    these = Circumstances(
        rtt_s=rtt_s, jitter_s=0.001, pass_s=0.018, draft_step_s=0.0096, agreement=0.57, load=load
    )
    return make_plan(these, objective.prices)


def test_an_edge_does_not_wait_for_a_device_that_waits_for_its_processor() -> None:
    assert plan(0.0).patience_s > 0
    assert plan(0.46).patience_s == 0
    assert plan(0.46).does_pay, "drafting ahead of an edge that drives costs it nothing"


def test_where_passes_are_dear_it_waits_longer() -> None:
    idle, busy = (plan(load, objective=Objective.COST) for load in (0.0, 0.46))
    assert 0 < idle.patience_s < busy.patience_s
    assert idle.s_per_token < busy.s_per_token


def test_load_comes_and_goes() -> None:
    load = LoadEstimator()
    assert load.share == 0.0
    for _ in range(20):
        load.add(0.0, 0.003)
    for _ in range(20):
        load.add(0.006, 0.009)
    assert load.share == pytest.approx(2 / 3, abs=0.1)
    for _ in range(30):
        load.add(0.0, 0.003)
    assert load.share < 0.1


def test_only_waiting_for_the_processor_counts_as_waiting() -> None:
    times_s = iter([10.0, 12.0])
    slow = with_effort(lambda: "done", lambda: next(times_s))()
    assert (slow.result, slow.seconds) == ("done", 2.0)
    assert slow.waited_s == pytest.approx(2.0, abs=0.5), "it hardly computed"
    virtual = with_effort(lambda: sum(range(10_000)), lambda: 5.0)()
    assert (virtual.seconds, virtual.waited_s) == (0.0, 0.0)


def test_a_busy_scheduler_wishes_for_no_patience_and_recovers() -> None:
    known = Knowledge()
    for _ in range(8):
        known.link.add_round_trip(0.0, num_bytes=30)
        known.draft_step_s.add(0.0096)
    known.passes.add_said(0.018, 0)
    known.agreement.add(num_agreed=57, num_disagreed=43)
    scheduler = Scheduler(Policy.adaptive(), known)
    patience_s = []
    for share in (0.0, 0.5, 0.0):
        for _ in range(40):
            known.load.add(share * 0.01, 0.01)
        for _ in range(4):
            scheduler.note_commit(0.0)
        patience_s.append(scheduler.policy.patience_s)
    assert patience_s[0] > 0
    assert patience_s[1] == 0
    assert patience_s[2] > 0


class _Starved:
    """A draft whose thread gets no processor for most of each step."""

    def __init__(self, inner: SyntheticDraft) -> None:
        self._inner = inner
        self.vocab_size, self.context_length = inner.vocab_size, inner.context_length
        self.eos_ids, self.vocab_fingerprint = inner.eos_ids, inner.vocab_fingerprint
        self.numerics, self.new_sequence = inner.numerics, inner.new_sequence

    def forward(self, feeds: Sequence[Feed]) -> Logits:
        threading.Event().wait(0.02)
        return self._inner.forward(feeds)


async def test_a_streams_summary_says_how_busy_the_device_was() -> None:
    target, listener = SyntheticTarget(), MemoryListener()
    draft, runner = _Starved(SyntheticDraft(target, agreement=0.9)), ThreadRunner("starved")
    async with (
        asyncio.timeout(30),
        EdgeServer.of(target, PacedRunner(constant_cost(0.02))) as edge,
        Device([listener.dial], draft=draft, runner=runner) as device,
    ):
        edge.listen(listener)
        answer = await device.generate([1, 2, 3], max_new_tokens=12)
    assert answer.summary.device_load is not None
    assert answer.summary.device_load > 0.3
    assert "of it taken by other work" in str(answer.summary)
