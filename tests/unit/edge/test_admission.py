"""Who may open a session, and what the others are told."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cascade.edge import EdgeSettings, Quota, State
from cascade.edge.admission import AccountLoad, EdgeLoad, admit
from cascade.edge.health import judge
from cascade.wire import ErrorCode

SETTINGS = EdgeSettings(max_sessions=10, max_waiting=4, max_wait_s=2.0)
QUOTA = Quota(max_sessions=3, max_queued_bytes=1000, tokens_per_s=50)
EDGE = EdgeLoad(num_running=9, num_waiting=3, oldest_wait_s=2.0)
MINE = AccountLoad(num_running=2, queued_bytes=900, work_wait_s=0.0)


def test_below_every_limit_it_may_come_in() -> None:
    assert admit(EDGE, MINE, SETTINGS, QUOTA, num_bytes=100) is None


@pytest.mark.parametrize(
    ("edge", "mine", "code", "says", "retry_s"),
    [
        ({"num_running": 10}, {}, ErrorCode.OVERLOADED, "too many open sessions", 1),
        ({"num_waiting": 4}, {}, ErrorCode.OVERLOADED, "4 sessions wait", 2),
        ({"oldest_wait_s": 2.1}, {}, ErrorCode.OVERLOADED, "for 2.1 s", 2.1),
        ({"oldest_wait_s": 500.0}, {}, ErrorCode.OVERLOADED, "for 500.0 s", 30),
        ({}, {"num_running": 3}, ErrorCode.LIMIT, "your 3 open sessions", 1),
        ({}, {"queued_bytes": 901}, ErrorCode.LIMIT, "901 bytes of yours", 1),
        ({}, {"work_wait_s": 7.5}, ErrorCode.LIMIT, "more than 50 tokens a second", 7.5),
        ({"is_draining": True}, {}, ErrorCode.DRAINING, "going down", 1),
        ({"is_engine_dead": True}, {}, ErrorCode.INTERNAL, "the engine is dead", None),
    ],
)
def test_a_refusal_says_why_and_when_to_come_back(
    edge: dict[str, Any], mine: dict[str, Any], code: ErrorCode, says: str, retry_s: float | None
) -> None:
    refusal = admit(
        dataclasses.replace(EDGE, **edge), dataclasses.replace(MINE, **mine), SETTINGS, QUOTA, num_bytes=100
    )
    assert refusal is not None
    assert refusal.code is code
    assert says in refusal.text
    assert refusal.retry_after_s == retry_s


def test_one_text_longer_than_the_queue_passes_when_nothing_waits() -> None:
    """It could never be opened otherwise."""
    mine = dataclasses.replace(MINE, queued_bytes=0)
    assert admit(EDGE, mine, SETTINGS, QUOTA, num_bytes=5000) is None


@pytest.mark.parametrize(
    ("edge", "stalled_s", "state"),
    [
        ({}, 0.0, State.OK),
        ({"oldest_wait_s": 2.1}, 0.0, State.DROWNING),
        ({"num_waiting": 4}, 0.0, State.DROWNING),
        ({}, 2.1, State.STALLED),
        ({"oldest_wait_s": 9.0}, 2.1, State.STALLED),
        ({"is_draining": True}, 9.0, State.DRAINING),
        ({"is_draining": True, "is_engine_dead": True}, 9.0, State.DEAD),
    ],
)
def test_health_is_a_judgement_over_figures(edge: dict[str, Any], stalled_s: float, state: State) -> None:
    assert judge(dataclasses.replace(EDGE, **edge), SETTINGS, stalled_s=stalled_s) is state
