"""The device's text in cascade mode."""

from __future__ import annotations

from cascade.device.kept_guesses import KeptGuesses
from cascade.events import Source

OWN = (True,) * 8


def text_of(*guesses: tuple[int, bool]) -> KeptGuesses:
    """Behind a prompt of one token: (token, is it kept)."""
    text = KeptGuesses([1])
    for token, is_kept in guesses:
        text.add_guess(token, 0.25, is_kept=is_kept)
    return text


def see_all(text: KeptGuesses) -> list[int]:
    seen = []
    while (found := text.see_next()) is not None:
        seen.append(found[1])
    return seen


def test_kept_tokens_are_seen_up_to_the_first_guess() -> None:
    text = text_of((5, True), (6, True), (7, False), (8, True))
    assert see_all(text) == [5, 6]
    assert (text.num_seen, text.num_unaudited, text.num_kept) == (3, 2, 3)
    assert text.is_kept(1, 5) == (True, True, False, True)


def test_what_stands_behind_an_open_guess_is_remembered() -> None:
    text = text_of((5, True))
    see_all(text)
    for token, is_kept in ((6, False), (7, True), (8, False)):
        text.add_guess(token, 0.25, is_kept=is_kept)
    assert text.is_open
    places = [*text.settle((5, 6), OWN[:2]).places, *text.settle((7, 9), OWN[:2]).places]
    assert [place.was_behind for place in places] == [False, False, True, True]
    assert not text.is_open
    text.add_guess(3, 0.25, is_kept=False)
    assert not text.settle((3,), OWN[:1]).places[0].was_behind


def test_a_question_is_asked_when_it_has_gone_out() -> None:
    text = text_of((5, True), (6, False), (7, True))
    see_all(text)
    text.take_unsent(1)
    assert not text.is_asked, "the edge knows of what is kept, and of no question"
    text.take_unsent(1)
    assert text.is_asked
    text.settle((5, 6), OWN[:2])
    see_all(text)
    assert not text.is_asked


def test_a_confirmed_guess_lets_through_what_was_kept_behind_it() -> None:
    text = text_of((5, True), (6, False), (7, True))
    see_all(text)
    settlement = text.settle((5, 6), (False, True))
    assert [(place.source, place.is_own) for place in settlement.places] == [
        (Source.KEPT, False),
        (Source.HINTED, True),
    ]
    assert settlement.judgement.num_agreed == 2
    assert settlement.judgement.verdicts == (False, True)
    assert see_all(text) == [7]


def test_a_correction_kills_what_was_kept_behind_it() -> None:
    text = text_of((5, False), (6, True), (7, True))
    settlement = text.settle((9, 4), OWN[:2])
    assert settlement.num_released == 2
    assert [place.source for place in settlement.places] == [Source.DRIVEN, Source.DRIVEN]
    assert settlement.judgement.changed_from == 1
    assert text.tokens == [1, 9, 4]
    assert (text.num_kept, text.num_seen, see_all(text)) == (0, 3, [])


def test_what_was_seen_stands_and_what_was_said_behind_it_is_void() -> None:
    text = text_of((5, True), (6, True), (7, True))
    see_all(text)
    settlement = text.settle((5, 9, 4), OWN[:3])
    assert settlement.is_contradicted
    assert len(settlement.places) == 1
    assert text.tokens == [1, 5, 6, 7]
    assert (text.head, text.num_seen, text.num_unaudited) == (2, 4, 2)


def test_what_nobody_has_seen_gives_way() -> None:
    text = text_of((5, False), (6, True), (7, True))
    settlement = text.settle((5, 9), OWN[:2])
    assert not settlement.is_contradicted
    assert settlement.num_released == 2
    assert text.tokens == [1, 5, 9]


def test_a_commit_may_go_on_behind_the_chain() -> None:
    text = text_of((5, True))
    settlement = text.settle((5, 6), OWN[:2])
    assert [place.source for place in settlement.places] == [Source.KEPT, Source.DRIVEN]
    assert [place.doubt for place in settlement.places] == [0.25, None]
    assert text.num_seen == 3


def provisional(*guesses: tuple[int, bool], num_seen: int, can_revise: bool) -> KeptGuesses:
    """The first `num_seen` were seen for want of an edge."""
    text = KeptGuesses([1], can_revise=can_revise)
    for token, is_kept in guesses[:num_seen]:
        text.add_guess(token, 0.25, is_kept=is_kept)
        assert text.see_provisionally() is not None
    for token, is_kept in guesses[num_seen:]:
        text.add_guess(token, 0.25, is_kept=is_kept)
    return text


def test_what_is_kept_is_not_seen_behind_what_may_be_withdrawn() -> None:
    """It would stand on a text that does not."""
    guesses = ((5, False), (6, False), (7, True))
    assert see_all(provisional(*guesses, num_seen=2, can_revise=False)) == [7]
    text = provisional(*guesses, num_seen=2, can_revise=True)
    assert see_all(text) == []
    settlement = text.settle((5, 6), OWN[:2])
    assert [place.was_provisional for place in settlement.places] == [True, True]
    assert see_all(text) == [7]


def test_what_is_withdrawn_gives_its_places_back() -> None:
    text = provisional((5, False), (6, False), (7, True), (8, False), num_seen=4, can_revise=True)
    settlement = text.settle((5, 9, 3), OWN[:3])
    assert (settlement.withdrawn_from, settlement.num_withdrawn) == (2, 3)
    assert (settlement.num_unbooked, settlement.num_released) == (2, 1), "6 and 8 beside the ledger, 7 in it"
    assert not settlement.is_contradicted
    assert (text.tokens, text.num_seen, text.num_booked) == ([1, 5, 9, 3], 4, 0)


def test_what_is_provisional_stands_where_nobody_wants_revisions() -> None:
    text = provisional((5, False), (6, False), num_seen=2, can_revise=False)
    assert text.is_kept(1, 3) == (True, True)
    settlement = text.settle((5, 9), OWN[:2])
    assert settlement.is_contradicted
    assert (settlement.num_withdrawn, text.tokens) == (0, [1, 5, 6])
    assert text.seen().is_kept(2, 3) == (True,)


def test_what_was_not_seen_does_not_go_along_with_what_was() -> None:
    """Its place in the ledger was given back already."""
    text = text_of((5, True), (6, False), (7, True))
    see_all(text)
    seen = text.seen()
    assert seen.tokens == [1, 5]
    assert (seen.num_booked, seen.num_booked_unseen, seen.num_unaudited) == (1, 0, 1)
    assert text.num_booked_unseen == 1
