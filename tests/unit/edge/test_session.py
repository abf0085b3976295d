"""What a session owes its device: commits, built when they can be sent, and repeated where some were lost."""

from __future__ import annotations

import asyncio
import itertools

from cascade.decoding import Sampling
from cascade.edge.counters import Counters
from cascade.edge.decode import Decode
from cascade.edge.interface import Committed, DecodeRequest
from cascade.edge.peer import Peer
from cascade.edge.session import MAX_COMMIT_TOKENS, MAX_REPEATED_TAIL, REPEATS_AFTER_LOSS, Session
from cascade.testing import MemoryListener
from cascade.wire import Codec, Commit

from ...helpers import in_virtual_time

PROMPT = (5, 6, 7)
LONG = len(PROMPT)
REQUEST = DecodeRequest(
    prompt=PROMPT, sampling=Sampling(), stop_ids=frozenset(), length_limit=100_000, wants_logprobs=False
)


class Desk:
    """A session whose device has the prompt, and its text."""

    def __init__(self) -> None:
        self.text = Decode(
            REQUEST,
            PROMPT,
            owner="me",
            patience_s=0.0,
            max_buffered_hints=16,
            now_s=0.0,
            on_commit=lambda _: None,
            on_failure=lambda _: None,
        )
        self.session = Session(("me", b"1"), alias=3, generation=2, request=REQUEST, now_s=0.0)
        self.session.attach(self.text, LONG, 2)
        assert self.say() == Commit(alias=3, generation=2, position=LONG, tokens=())
        self._number = itertools.count(10)

    def grow(self, num_tokens: int, *, num_hinted: int = 0) -> tuple[int, ...]:
        """A step of the engine."""
        tokens = tuple(itertools.islice(self._number, num_tokens))
        self.text.hints.commit(list(tokens))
        self.session.note_commit(Committed(tokens, num_hinted), 1.0)
        return tokens

    def say(self, now_s: float = 1.0) -> Commit | None:
        return self.session.next_commit(now_s, 0.05)

    def must_say(self) -> Commit:
        commit = self.say()
        assert commit is not None
        return commit


def test_what_came_since_goes_in_one_commit_and_once() -> None:
    desk = Desk()
    tokens = (*desk.grow(3, num_hinted=2), *desk.grow(2, num_hinted=1))
    assert desk.must_say() == Commit(alias=3, generation=2, position=LONG, tokens=tokens, num_hinted=3)
    assert desk.say() is None
    last = desk.grow(1)
    assert desk.must_say() == Commit(alias=3, generation=2, position=LONG + 5, tokens=last)


def test_a_long_silence_is_made_up_for_in_pieces_that_fit() -> None:
    desk = Desk()
    tokens = desk.grow(MAX_COMMIT_TOKENS + 10, num_hinted=MAX_COMMIT_TOKENS + 5)
    first, second = desk.must_say(), desk.must_say()
    assert (*first.tokens, *second.tokens) == tokens
    assert first.num_hinted == len(first.tokens) == MAX_COMMIT_TOKENS, "no more than there are"
    assert second.position == LONG + MAX_COMMIT_TOKENS
    assert desk.say() is None


def test_after_a_loss_tails_are_repeated_for_a_while_and_not_without_end() -> None:
    desk = Desk()
    desk.grow(200)
    desk.must_say()
    desk.text.acknowledge(LONG + 150)
    desk.session.repeat_from(LONG + 150)
    repeated = desk.must_say()
    assert (repeated.position, len(repeated.tokens), repeated.num_hinted) == (LONG + 150, 50, 0)
    num_repeats = 1  # this one
    while True:
        desk.grow(1)
        commit = desk.must_say()
        if len(commit.tokens) == 1:
            break
        num_repeats += 1
        num_unacknowledged = commit.position + len(commit.tokens) - (LONG + 150)
        assert len(commit.tokens) == min(num_unacknowledged, MAX_REPEATED_TAIL + 1)
    assert num_repeats == REPEATS_AFTER_LOSS


def test_who_was_first_is_not_said_of_what_is_repeated() -> None:
    """Some of it was told before, with its count."""
    desk = Desk()
    desk.grow(4, num_hinted=3)
    desk.must_say()
    desk.grow(4, num_hinted=3)
    desk.session.repeat_from(LONG)
    commit = desk.must_say()
    assert (len(commit.tokens), commit.num_hinted) == (8, 0)


def test_what_is_acknowledged_is_not_repeated() -> None:
    desk = Desk()
    desk.grow(20)
    desk.must_say()
    desk.session.repeat_from(LONG + 10)
    desk.must_say()
    desk.text.acknowledge(LONG + 18)
    desk.grow(1)
    assert desk.must_say().position == LONG + 18


def test_a_device_that_says_it_has_more_than_it_was_told_gets_it_all_the_same() -> None:
    desk = Desk()
    desk.grow(4)
    desk.must_say()
    tokens = desk.grow(4)
    desk.session.repeat_from(LONG + 100)
    assert desk.must_say().tokens[-4:] == tokens


def test_nothing_missing_is_a_sign_of_life_all_the_same() -> None:
    desk = Desk()
    desk.grow(4)
    desk.must_say()
    desk.session.repeat_from(LONG + 4)
    assert desk.must_say() == Commit(alias=3, generation=2, position=LONG + 4, tokens=())
    desk.session.repeat_answer()
    assert desk.must_say().tokens == ()
    assert desk.say() is None


def test_the_newest_stamp_is_echoed_once_with_how_long_it_was_held() -> None:
    desk = Desk()
    desk.session.note_stamp(100, 1.0)
    desk.session.note_stamp(200, 2.0)
    assert desk.say() is None, "it goes with tokens, or not at all"
    desk.grow(1)
    commit = desk.say(2.25)
    assert commit is not None
    assert (commit.echo_ms, commit.held_ms, commit.step_ms, commit.queue_ms) == (200, 250, 50, 0)
    desk.grow(1)
    assert desk.must_say().echo_ms is None


def test_what_was_said_before_another_generation_does_not_count() -> None:
    desk = Desk()
    desk.grow(4, num_hinted=3)
    desk.session.overrule(7, LONG + 1)
    commit = desk.must_say()
    assert (commit.generation, commit.position, len(commit.tokens)) == (7, LONG + 1, 3)
    assert commit.num_hinted == 0
    desk.session.text = None
    assert desk.say() is None, "a tombstone has nothing to say"


@in_virtual_time
async def test_sessions_on_one_link_are_heard_in_turn() -> None:
    """One that has much to say does not keep the others waiting."""
    listener = MemoryListener()
    theirs = await listener.dial()
    peer = Peer(await listener.accept(), Codec(100_000), Counters(), lambda: 0.05, None)
    for alias in range(3):
        desk = Desk()
        desk.session.alias = alias
        desk.grow(3 * MAX_COMMIT_TOKENS)
        peer.commit(desk.session)
    serving = asyncio.create_task(peer.serve(lambda peer, data: None))
    codec = Codec(100_000)
    heard = [codec.decode(await theirs.receive()) for _ in range(9)]
    assert [message.alias for message in heard if isinstance(message, Commit)] == [0, 1, 2] * 3
    await theirs.close()
    await serving
