"""What a stream learns of its link on the way, and how long it thinks that things take there."""

from __future__ import annotations

import pytest

from cascade.device import Policy
from cascade.device.expectations import answer_s, commits_apart_s, hint_s, silence_s
from cascade.device.policy import FOREVER_S
from cascade.device.soundings import Soundings
from cascade.measure import Knowledge, LinkEstimator, stamp_ms
from cascade.wire import Commit, Hint

from ...virtual.peers import opening


def stamped(now_s: float) -> Hint:
    return Hint(
        alias=0, generation=1, position=3, prefix_hash=0, tokens=(), known=3, stamp_ms=stamp_ms(now_s)
    )


def echo(of_s: float | None = None, *, held_ms: int = 0, tokens: tuple[int, ...] = (1,)) -> Commit:
    echo_ms = None if of_s is None else stamp_ms(of_s)
    return Commit(alias=0, generation=1, position=3, tokens=tokens, echo_ms=echo_ms, held_ms=held_ms)


def test_the_answer_to_an_open_is_the_first_round_trip() -> None:
    link = LinkEstimator()
    soundings = Soundings(link)
    soundings.note_sent(opening(), 500, 1.0)
    assert soundings.num_open_bytes == 500
    soundings.note_heard(echo(tokens=(1, 2)), 1.05, apart_s=0.1)
    assert link.rtt_s is None, "these are tokens, which took a pass"
    soundings.note_heard(echo(tokens=()), 1.08, apart_s=0.1)
    assert link.rtt_s == pytest.approx(0.08)
    soundings.note_heard(echo(tokens=()), 9.0, apart_s=0.1)
    assert link.rtt_s == pytest.approx(0.08), "a sign of life answers no OPEN"


def test_stamps_of_an_older_life_are_not_lost() -> None:
    for is_anew in (False, True):
        link = LinkEstimator()
        soundings = Soundings(link)
        for number in range(10):
            soundings.note_sent(stamped(number), 30, number)
        if is_anew:
            soundings.begin_anew()
        for number in range(10, 20):
            soundings.note_sent(stamped(number), 30, number)
            soundings.note_heard(echo(number), number + 0.1, apart_s=0.5)
        assert link.loss is not None
        assert (link.loss > 0.2) is not is_anew


def known(rtt_s: float | None = 0.2, pass_s: float = 0.03) -> Knowledge:
    knowledge = Knowledge()
    if rtt_s is not None:
        knowledge.link.add_round_trip(rtt_s, num_bytes=30)
    knowledge.passes.add_said(pass_s, 0)
    knowledge.draft_step_s.add(0.01)
    return knowledge


def test_as_long_as_nothing_is_known_a_second_is_normal() -> None:
    policy = Policy.hint_driven()
    nothing = Knowledge()
    assert answer_s(nothing) == silence_s(nothing, policy) == 1.0
    assert hint_s(nothing) == pytest.approx(1.0 + 2 * 0.05 + 0.01)


def test_a_question_takes_a_round_trip_and_a_hint_a_pass_besides() -> None:
    assert answer_s(known()) == pytest.approx(1.5 * 0.2)
    assert hint_s(known()) == pytest.approx(0.2 + 2 * 0.03 + 0.01)


@pytest.mark.parametrize(("patience_s", "waits_s"), [(0.0, 0.0), (0.4, 0.4), (FOREVER_S, 0.0)])
def test_an_edge_that_waits_for_hints_may_be_silent_for_longer(patience_s: float, waits_s: float) -> None:
    policy = Policy.hint_driven(patience_s=patience_s, window=4)
    assert commits_apart_s(known(), policy) == pytest.approx(waits_s + 2 * 0.03)
    least_s = 0.25 + 2 * 0.2 + waits_s + 4 * 0.03
    assert silence_s(known(), policy) == pytest.approx(least_s + 4 * 0.01)
    many = Policy.hint_driven(patience_s=patience_s, window=64)
    assert silence_s(known(), many) == pytest.approx(least_s + 16 * 0.01)
