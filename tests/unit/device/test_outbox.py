"""What a stream owes its edge, message by message."""

from __future__ import annotations

import pytest

from cascade.decoding import Sampling
from cascade.device import Policy
from cascade.device.guesses import Guesses
from cascade.device.keep_outbox import KeepOutbox
from cascade.device.kept_guesses import KeptGuesses
from cascade.device.outbox import STAMP_EVERY_S, Outbox, StreamRequest
from cascade.wire import Close, Hint, Keep, Message, Open, Pen
from cascade.wire.text import HashedText

PROMPT = (5, 6, 7)
REQUEST = StreamRequest(
    prompt=PROMPT,
    max_new_tokens=40,
    sampling=Sampling(),
    stop_ids=frozenset(),
    policy=Policy.hint_driven(patience_s=0.0),
)


def outbox_of(guesses: Guesses) -> Outbox:
    """One whose OPEN is on its way."""
    outbox = Outbox(REQUEST, guesses, session_id=b"session", alias=3)
    outbox.open(1)
    assert isinstance(take(outbox, 0.0), Open)
    return outbox


def take(outbox: Outbox, now_s: float, num_worth_sending: int = 64) -> Message | None:
    return outbox.next_message(now_s, lambda: num_worth_sending)


def hint_of(outbox: Outbox, now_s: float, num_worth_sending: int = 64) -> Hint:
    message = take(outbox, now_s, num_worth_sending)
    assert isinstance(message, Hint)
    return message


def guessed(*tokens: int) -> Guesses:
    guesses = Guesses(PROMPT)
    for token in tokens:
        guesses.add(token)
    return guesses


def test_what_is_due_comes_in_the_order_in_which_the_edge_needs_it() -> None:
    guesses = guessed(8, 9)
    outbox = Outbox(REQUEST, guesses, session_id=b"session", alias=3)
    assert take(outbox, 0.0) is None
    outbox.close()
    assert take(outbox, 0.0) is None, "no edge has heard of it"
    outbox = Outbox(REQUEST, guesses, session_id=b"session", alias=3)
    outbox.open(1)
    outbox.ask_for_commits_before(5)
    outbox.acknowledge_in_time(0.0, run_ahead=2, is_repeated=False)
    opened = take(outbox, 0.0)
    assert isinstance(opened, Open)
    assert (opened.tokens, opened.prompt_length, opened.generation) == (PROMPT, 3, 1)
    question, told = hint_of(outbox, 0.0), hint_of(outbox, 0.0)
    assert (question.position, question.tokens, question.known) == (5, (), 3)
    assert (told.position, told.tokens) == (3, (8, 9))
    assert told.prefix_hash == HashedText(PROMPT).hash_before(3)
    assert take(outbox, 0.0) is None, "hints have carried the acknowledgement"
    outbox.ask_for_commits_before(5)
    outbox.close()
    for _ in range(3):
        assert take(outbox, 0.0) == Close(alias=3, generation=1, known=3)
        assert take(outbox, 0.0) is None, "nothing else is said any more"
        outbox.repeat_close()
    assert take(outbox, 0.0) is None
    outbox.repeat_open()
    assert take(outbox, 0.0) is None


def test_what_was_missing_and_came_is_not_asked_for() -> None:
    guesses = guessed()
    outbox = outbox_of(guesses)
    outbox.ask_for_commits_before(5)
    guesses.commit((8, 9))
    assert take(outbox, 0.0) is None
    outbox.ask_for_commits_before(6)
    assert hint_of(outbox, 0.0).position == 6


def test_a_gap_is_asked_about_once_while_the_answer_may_be_on_its_way() -> None:
    guesses = guessed()
    outbox = outbox_of(guesses)
    assert outbox.ask_for_gap(5, 1.0, again_after_s=0.5)
    assert not outbox.ask_for_gap(6, 1.4, again_after_s=0.5)
    assert outbox.ask_for_gap(6, 1.5, again_after_s=0.5)
    guesses.commit((8,))
    assert outbox.ask_for_gap(6, 1.6, again_after_s=0.5), "another gap"


def test_at_least_one_guess_goes_and_no_more_than_are_worth_it() -> None:
    guesses = guessed(8, 9, 10, 11)
    outbox = outbox_of(guesses)
    assert hint_of(outbox, 0.0, num_worth_sending=0).tokens == (8,)
    assert take(outbox, 0.0) is None
    outbox.send_guesses()
    assert hint_of(outbox, 0.0, num_worth_sending=2).tokens == (9, 10)
    outbox.send_guesses()
    assert hint_of(outbox, 0.0).tokens == (11,)
    outbox.send_guesses()
    assert take(outbox, 0.0) is None


@pytest.mark.parametrize(("run_ahead", "every"), [(None, 64), (1, 1), (2, 1), (16, 8)])
def test_the_edge_hears_how_far_we_are(run_ahead: int | None, every: int) -> None:
    guesses = guessed()
    outbox = outbox_of(guesses)
    for number in range(1, 3 * every + 1):
        guesses.commit((8,))
        is_due = outbox.acknowledge_in_time(1.0, run_ahead=run_ahead, is_repeated=False)
        assert is_due == (number % every == 0)
        if is_due:
            assert hint_of(outbox, 1.0).known == len(PROMPT) + number


def test_an_edge_that_repeats_itself_is_told_sooner_and_one_that_hears_nothing_in_time() -> None:
    guesses = guessed()
    outbox = outbox_of(guesses)
    guesses.commit((8,) * 7)
    assert not outbox.acknowledge_in_time(1.0, run_ahead=256, is_repeated=True)
    guesses.commit((8,))
    assert not outbox.acknowledge_in_time(1.0, run_ahead=256, is_repeated=False)
    assert outbox.acknowledge_in_time(1.0, run_ahead=256, is_repeated=True)
    hint_of(outbox, 1.0)
    guesses.commit((8,))
    assert not outbox.acknowledge_in_time(5.0, run_ahead=256, is_repeated=False)
    assert outbox.acknowledge_in_time(5.1, run_ahead=256, is_repeated=False)


def test_stamps_are_rare_and_asked_for_when_there_is_a_reason() -> None:
    guesses = guessed()
    outbox = outbox_of(guesses)

    def is_stamped(now_s: float) -> bool:
        guesses.add(8)
        outbox.send_guesses()
        return hint_of(outbox, now_s).stamp_ms is not None

    assert [is_stamped(now_s) for now_s in (0, 0.1, 0.25, 0.3)] == [True, False, True, False]
    outbox.stamp_every_s = STAMP_EVERY_S
    assert not is_stamped(4.2)
    assert is_stamped(4.25)
    outbox.stamp_soon()
    assert not is_stamped(4.4)
    assert is_stamped(4.46)
    assert not is_stamped(4.7)


def test_a_wish_is_said_at_once_and_with_every_stamp() -> None:
    outbox = outbox_of(guessed(8))
    first = hint_of(outbox, 0.0)
    assert (first.stamp_ms is None, first.patience_ms) == (False, None), "OPEN has said it"
    outbox.wish_patience(0.0301)
    wish = hint_of(outbox, 0.1)
    assert (wish.stamp_ms, wish.patience_ms) == (None, 31), "rounded up: less would be waiting in vain"
    outbox.acknowledge_in_time(1.0, run_ahead=256, is_repeated=False)
    outbox.ask_for_commits_before(9)
    assert hint_of(outbox, 1.0).patience_ms == 31
    outbox.ask_for_commits_before(9)
    assert hint_of(outbox, 1.1).patience_ms is None
    outbox.open(2)
    opened = take(outbox, 1.2)
    assert isinstance(opened, Open)
    assert opened.patience_s == 0.0301


def test_a_hint_is_lost_if_it_had_time_to_arrive() -> None:
    guesses = guessed(8, 9)
    outbox = outbox_of(guesses)
    hint_of(outbox, 1.0)
    assert not outbox.has_lost_hint(sent_before_s=2.0), "no commit has come as far"
    guesses.commit((8,))
    assert not outbox.has_lost_hint(sent_before_s=1.0)
    assert not outbox.has_lost_hint(sent_before_s=2.0), "it was looked at before"
    for is_contradicted in (False, True):
        outbox.repeat_guesses()
        hint_of(outbox, 3.0)
        guesses.commit((guesses.tokens[guesses.head],))
        if is_contradicted:
            outbox.forget_in_flight()
        assert outbox.has_lost_hint(sent_before_s=3.1) != is_contradicted
        guesses.add(9)


# Where the device decides


def kept_of(*guesses: tuple[int, bool, bool]) -> KeptGuesses:
    """Behind the prompt: (token, is it kept, is it booked)."""
    text = KeptGuesses(PROMPT)
    for token, is_kept, is_booked in guesses:
        text.add_guess(token, 0.1, is_kept=is_kept, is_booked=is_booked)
    return text


def keeps_of(text: KeptGuesses, **options: object) -> KeepOutbox:
    outbox = KeepOutbox(REQUEST, text, session_id=b"session", alias=3, **options)  # type: ignore[arg-type]
    outbox.open(4)
    assert isinstance(take(outbox, 0.0), Open)
    return outbox


@pytest.mark.parametrize("last_is_booked", [True, False])
def test_the_edge_may_be_lenient_only_with_what_is_booked(
    last_is_booked: bool,
) -> None:
    text = kept_of((8, True, True), (9, False, True), (10, False, last_is_booked))
    keep = take(keeps_of(text, alpha=0.25), 0.0)
    assert isinstance(keep, Keep)
    assert (keep.tokens, keep.kept) == ((8, 9, 10), (True, False, False))
    assert keep.leniency == (64 if last_is_booked else 0)
    assert keep.prefix_hash == HashedText(PROMPT).state_before(3), "all bits of it"
    assert (keep.pen, keep.raised) == (Pen.EDGE, 0)


def test_guesses_alone_are_said_as_lossless_streams_say_them() -> None:
    text = kept_of((8, False, False))
    assert isinstance(take(keeps_of(text, is_lossless=True), 0.0), Hint)
    text = kept_of((8, False, False))
    assert isinstance(take(keeps_of(text), 0.0), Keep)
    text = kept_of((8, True, True))
    assert isinstance(take(keeps_of(text, is_lossless=True), 0.0), Keep)


def test_overruling_raises_the_generation_and_says_first_what_the_app_has_seen() -> None:
    text = kept_of((8, True, True), (9, True, True))
    outbox = keeps_of(text, is_lossless=True)
    take(outbox, 0.0)
    outbox.ask_for_commits_before(9)
    outbox.overrule(7)
    keep = take(outbox, 0.0)
    assert isinstance(keep, Keep)
    assert (keep.generation, keep.raised, keep.position, keep.tokens) == (7, 3, 3, (8, 9))
    outbox.open(9)
    assert outbox.raised == 0
