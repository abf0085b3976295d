"""The device's parts by themselves: guesses, window, send clock, policy, drafter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.decoding import Sampling, pick
from cascade.device import Policy, ReconnectSettings
from cascade.device.drafter import Drafter
from cascade.device.guesses import Guesses, Judgement
from cascade.device.window import (
    SendClock,
    farness,
    num_worth_sending,
    stands_in_the_way,
    wants_one_more,
)
from cascade.errors import SettingsError
from cascade.models.base import Feed
from cascade.testing import SyntheticDraft, SyntheticTarget
from cascade.wire.text import HashedText

# Guesses


def guesses_of(prompt: list[int], guesses: list[int], *, num_sent: int = 0) -> Guesses:
    these = Guesses(prompt)
    for guess in guesses:
        these.add(guess)
    these.take_unsent(num_sent)
    return these


def test_an_agreeing_commit_changes_nothing_but_the_head() -> None:
    these = guesses_of([1], [2, 3, 4], num_sent=2)
    assert these.commit((2, 3)) == Judgement(2, 0, changed_from=None, verdicts=(True, True))
    assert (these.head, these.sent, these.end) == (3, 3, 4)
    assert (these.num_chained, these.num_sent, these.num_unsent) == (1, 0, 1)


def test_a_contradicting_commit_drops_what_stands_behind_it() -> None:
    these = guesses_of([1], [2, 3, 4, 5], num_sent=4)
    assert these.commit((2, 9)) == Judgement(1, 1, changed_from=2, verdicts=(True, False))
    assert these.tokens == [1, 2, 9]
    assert (these.num_chained, these.num_sent, these.num_unsent) == (0, 0, 0)


def test_a_commit_beyond_the_guesses_disagrees_with_none_of_them() -> None:
    these = guesses_of([1], [2])
    assert these.commit((2, 3, 4)) == Judgement(1, 0, changed_from=2, verdicts=(True,))
    assert these.tokens == [1, 2, 3, 4]


def test_what_is_sent_carries_the_hash_of_all_before_it() -> None:
    these = guesses_of([1], [2, 3, 4])
    assert these.take_unsent(2) == (1, HashedText([1]).hash_before(1), (2, 3))
    assert these.take_unsent(9) == (3, HashedText([1, 2, 3]).hash_before(3), (4,))
    assert these.take_unsent(9)[2] == ()
    these.send_again()
    assert these.take_unsent(9) == (1, HashedText([1]).hash_before(1), (2, 3, 4))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.data())
def test_guesses_follow_the_commits_whatever_is_guessed(data: st.DataObject) -> None:
    these = Guesses([0])
    truth = [0]
    for _ in range(data.draw(st.integers(1, 15))):
        action = data.draw(st.integers(0, 2))
        if action == 0:
            these.add(data.draw(st.integers(0, 1)))
        elif action == 1:
            these.take_unsent(data.draw(st.integers(0, 3)))
        else:
            tokens = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=3))
            before = these.tokens[these.head :]
            judgement = these.commit(tuple(tokens))
            truth += tokens
            kept = these.tokens[these.head :]
            does_agree = before[: len(tokens)] == tokens[: len(before)]
            assert kept == (before[len(tokens) :] if does_agree else [])
            assert judgement.num_disagreed == (not does_agree)
        assert these.committed() == truth
        assert these.head <= these.sent <= these.end
        position, prefix_hash, _ = these.take_unsent(0)
        assert prefix_hash == HashedText(these.tokens).hash_before(position)


# Window


def test_drafting_stops_where_a_token_is_hardly_ever_used() -> None:
    policy = Policy(window=20, patience_s=0, min_chance=0.5)
    wants = [
        wants_one_more(policy, num_chained=chained, num_sent=0, chance=0.8 ** (chained + 1), far=1.0)
        for chained in range(6)
    ]
    assert wants == [True, True, True, False, False, False]  # .8, .64, .512, .41, ...
    assert wants_one_more(policy, num_chained=3, num_sent=0, chance=0.41, far=0.5)
    assert not wants_one_more(policy, num_chained=20, num_sent=0, chance=1.0, far=1.0)


def test_who_waits_for_a_verdict_drafts_nothing_meanwhile() -> None:
    policy = Policy.ask_and_wait(4)
    assert wants_one_more(policy, num_chained=3, num_sent=0, chance=0.1, far=1.0)
    assert not wants_one_more(policy, num_chained=4, num_sent=0, chance=1.0, far=1.0)
    assert not wants_one_more(policy, num_chained=2, num_sent=2, chance=1.0, far=1.0)
    assert num_worth_sending(policy, chance_of_sent=1.0, chances=[0.1] * 4, far=1.0) == 4


@pytest.mark.parametrize(
    ("num_sent", "num_unsent", "agreement", "worth"),
    [
        (0, 8, 0.8, 3),  # .8 .64 .512; .41 is not
        (0, 2, 0.8, 2),
        (0, 0, 0.8, 0),
        (2, 8, 0.8, 0),  # .512 alone is no message's worth
        (1, 8, 0.8, 2),  # .64 + .512 is
        (0, 8, 1.0, 8),
        (0, 8, 0.1, 0),
    ],
)
def test_what_is_worth_its_bytes(num_sent: int, num_unsent: int, agreement: float, worth: int) -> None:
    policy = Policy(window=64, patience_s=0, min_sent_chance=0.5, min_hope=0.75)
    chances = [agreement] * num_unsent
    found = num_worth_sending(policy, chance_of_sent=agreement**num_sent, chances=chances, far=1.0)
    assert found == worth


def test_a_far_link_asks_for_less_certain_guesses() -> None:
    assert farness(None, None) == farness(None, 0.05) == farness(0.1, None) == 1.0
    assert farness(0.0, 0.05) == 1.0
    far = [farness(rtt_s, 0.05) for rtt_s in (0.2, 0.4, 0.8)]
    assert all(0 < value < 1 for value in far)
    assert far == sorted(far, reverse=True)


# Send clock


def test_hints_are_sent_to_arrive_just_before_a_pass() -> None:
    """A commit that came at 1.0 left at 0.95; passes begin then and every 50 ms; the way takes 50 ms."""
    clock = SendClock.after_commit(1.0, rtt_s=0.1, jitter_s=0.0, first_s=0.05, step_s=0.05)
    sends_s = [clock.next_send_s(now_s) for now_s in (1.0, 1.02, 1.048, 1.0495, 1.1)]
    margin_s = clock.margin_s
    assert sends_s == pytest.approx([1.05 - margin_s] * 3 + [1.1 - margin_s, 1.15 - margin_s])
    for send_s in sends_s:
        arrival_s = send_s + 0.05 + margin_s
        assert ((arrival_s - 0.95) / 0.05) == pytest.approx(round((arrival_s - 0.95) / 0.05))


@settings(max_examples=200, derandomize=True)
@given(
    now_s=st.floats(0, 100),
    arrival_s=st.floats(0, 100),
    rtt_s=st.floats(0, 2),
    jitter_s=st.floats(0, 0.1),
    step_s=st.floats(0.001, 1),
)
def test_the_next_send_is_never_past_and_never_further_than_a_pass(
    now_s: float, arrival_s: float, rtt_s: float, jitter_s: float, step_s: float
) -> None:
    clock = SendClock.after_commit(arrival_s, rtt_s=rtt_s, jitter_s=jitter_s, first_s=step_s, step_s=step_s)
    send_s = clock.next_send_s(now_s)
    assert send_s >= now_s - 1e-6
    assert send_s <= max(now_s, arrival_s) + step_s + 1e-6


def test_a_pass_with_hints_takes_longer_than_those_after_it() -> None:
    clock = SendClock.after_commit(1.0, rtt_s=0.02, jitter_s=0.0, first_s=0.06, step_s=0.05)
    assert clock.next_send_s(1.0) == pytest.approx(1.04 - clock.margin_s)
    assert clock.next_send_s(1.045) == pytest.approx(1.09 - clock.margin_s)
    assert clock.next_commit_s(1.0, rtt_s=0.02) == pytest.approx(1.06)
    assert clock.next_commit_s(1.07, rtt_s=0.02) == pytest.approx(1.11)
    woken = clock.after_wake(2.0, 0.07)
    assert woken.next_commit_s(2.0, rtt_s=0.02) == pytest.approx(2.09)


@pytest.mark.parametrize(
    ("now_s", "step_s", "chance_alive", "chance_used", "is_in_the_way"),
    [
        (0.000, 0.005, 0.1, 0.1, False),  # over before the commit
        (0.005, 0.010, 0.1, 0.1, True),  # the chain is as good as dead, and the step in the correction's way
        (0.005, 0.010, 0.9, 0.8, False),  # the chain lives on
        (0.005, 0.010, 0.5, 0.01, True),  # nobody needs a guess that far out
        (0.001, 0.010, 0.5, 0.4, False),  # it idles for long, and would be over soon
        (0.010, 0.010, 0.9, 0.8, True),  # the commit is due at once: to wait costs nothing
        (0.012, 0.010, 0.9, 0.8, True),  # it is late
    ],
)
def test_a_step_waits_for_a_commit_where_it_is_likelier_in_the_way_than_of_use(
    now_s: float, step_s: float, chance_alive: float, chance_used: float, is_in_the_way: bool
) -> None:
    found = stands_in_the_way(
        now_s,
        step_s,
        commit_s=0.01,
        deadline_s=0.02,
        chance_alive=chance_alive,
        chance_used=chance_used,
        chance_of_next=0.9,
    )
    assert found is is_in_the_way


def test_of_what_comes_too_late_for_the_next_pass_anyway_less_is_lost() -> None:
    def waits(deadline_s: float) -> bool:
        return stands_in_the_way(
            0.005,
            0.010,
            commit_s=0.01,
            deadline_s=deadline_s,
            chance_alive=0.5,
            chance_used=0.3,
            chance_of_next=0.8,
        )

    assert waits(0.02)
    assert not waits(0.06)


@settings(max_examples=200, derandomize=True)
@given(st.floats(0, 1), st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 1))
def test_no_step_stands_in_the_way_of_a_commit_that_it_ends_before(
    now_s: float, step_s: float, spare_s: float, later_s: float
) -> None:
    commit_s = now_s + step_s + spare_s
    assert not stands_in_the_way(
        now_s,
        step_s,
        commit_s=commit_s,
        deadline_s=commit_s + later_s,
        chance_alive=0.0,
        chance_used=0.0,
        chance_of_next=0.5,
    )


# Policy


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Policy.ask_and_wait(0), "num_tokens"),
        (lambda: Policy.hint_driven(window=0), "window"),
        (lambda: Policy.hint_driven(window=5000), "window"),
        (lambda: Policy.hint_driven(patience_s=-1), "patience_s"),
        (lambda: Policy(window=1, patience_s=0, min_chance=2), "min_chance"),
        (lambda: Policy(window=1, patience_s=0, min_sent_chance=-1), "min_sent_chance"),
        (lambda: Policy(window=1, patience_s=0, min_hope=-1), "min_hope"),
        (lambda: Policy(window=1, patience_s=0, num_gathered=0), "num_gathered"),
        (lambda: ReconnectSettings(first_s=-1), "first_s"),
        (lambda: ReconnectSettings(silent_s=0), "silent_s"),
    ],
)
def test_impossible_settings_are_refused_by_name(make: Callable[[], object], field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make()
    assert refused.value.field == field


# Drafter

TARGET = SyntheticTarget(vocab_size=64)
DRAFT = SyntheticDraft(TARGET, agreement=0.5)
SAMPLING = Sampling(temperature=1.0, seed=3)


def fresh_guess(text: list[int]) -> int:
    """What the draft says with an empty cache."""
    return pick(DRAFT.forward([Feed(DRAFT.new_sequence(), text, 1)])[0], SAMPLING, len(text))


def test_a_drafter_feeds_only_what_is_new() -> None:
    drafter = Drafter(DRAFT, SAMPLING)
    text = [1, 2, 3]
    rows = []
    for _ in range(4):
        work, num_rows = drafter.step(text)
        rows.append(num_rows)
        guess = work()
        assert guess.token == fresh_guess(text)
        text.append(guess.token)
    assert rows == [3, 1, 1, 1]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 63)), max_size=12))
def test_after_any_roll_backs_the_guess_is_that_of_a_fresh_cache(corrections: list[tuple[int, int]]) -> None:
    drafter = Drafter(DRAFT, SAMPLING)
    text = [1, 2, 3]
    for back, token in corrections:
        work, _ = drafter.step(list(text))
        text.append(work().token)
        position = max(1, len(text) - back)
        if back:
            drafter.roll_back(position)
            text[position:] = [token]
    work, _ = drafter.step(list(text))
    assert work().token == fresh_guess(text)


def test_a_roll_back_in_mid_step_is_kept_for_the_next() -> None:
    drafter = Drafter(DRAFT, SAMPLING)
    work, _ = drafter.step([1, 2, 3, 4])
    drafter.roll_back(2)  # while the step runs
    work()
    work, num_rows = drafter.step([1, 2, 9])
    assert num_rows == 1
    assert work().token == fresh_guess([1, 2, 9])


def test_two_roll_backs_keep_the_earlier() -> None:
    drafter = Drafter(DRAFT, SAMPLING)
    drafter.step([1, 2, 3, 4])[0]()
    drafter.roll_back(1)
    drafter.roll_back(3)
    work, num_rows = drafter.step([1, 9, 3, 4])
    assert num_rows == 3
    assert work().token == fresh_guess([1, 9, 3, 4])
    drafter.release()
    drafter.release()
