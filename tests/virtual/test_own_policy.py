"""A policy in code: it is given what was measured, and what it returns holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cascade.device import Circumstances, Objective, Policy
from cascade.errors import SettingsError
from cascade.lab.simulation import Outcome, Setting, simulate


def outcome(rule: Callable[[Circumstances], Any]) -> Outcome:
    return simulate(Setting(agreement=0.8, rtt_s=0.1, policy=Policy.by(rule), num_tokens=400))


def test_a_rule_is_given_what_was_measured() -> None:
    seen: list[Circumstances] = []

    def rule(now: Circumstances) -> Policy:
        seen.append(now)
        return Policy.hint_driven()

    outcome(rule)
    assert len(seen) > 20
    last = seen[-1]
    assert last.rtt_s == pytest.approx(0.1, abs=0.005)
    assert last.pass_s == pytest.approx(0.05, abs=0.005)
    assert last.draft_step_s == pytest.approx(0.005, abs=0.001)
    assert last.agreement == pytest.approx(0.8, abs=0.1)


def test_what_it_returns_holds() -> None:
    eager = outcome(lambda now: Policy.hint_driven())
    patient = outcome(lambda now: Policy.hint_driven(patience_s=now.rtt_s + 0.01))
    cloud = outcome(lambda now: Policy.cloud())
    assert patient.passes_per_token < 0.7 * eager.passes_per_token < 0.7 * cloud.passes_per_token
    assert cloud.summary.num_drafted < 60 < eager.summary.num_drafted  # what was drafted before it spoke


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "cloud",
        Policy.ask_and_wait(4),
        Policy.adaptive(Objective.COST),
        Policy.by(lambda now: Policy.cloud()),
    ],
)
def test_what_is_no_answer_ends_the_stream_with_a_reason(answer: object) -> None:
    with pytest.raises(SettingsError, match=r"policy: its rule must return Policy\.hint_driven"):
        outcome(lambda now: answer)


def test_a_rule_that_fails_ends_the_stream_with_its_reason() -> None:
    def rule(now: Circumstances) -> Policy:
        return Policy.hint_driven(patience_s=1 / (now.rtt_s - now.rtt_s))

    with pytest.raises(SettingsError, match="policy: its rule failed: ZeroDivisionError") as caught:
        outcome(rule)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
