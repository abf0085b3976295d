"""A draft out of one function."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from cascade import Device, EdgeServer
from cascade.errors import ContextExceeded, SettingsError
from cascade.models.base import Feed, promise_of
from cascade.models.echo import EchoModel
from cascade.models.guessing import GuessingDraft
from cascade.testing import MemoryListener, PacedRunner

from ..helpers import in_virtual_time

TOKENIZER = EchoModel().tokenizer


def after_last(tokens: Sequence[int]) -> tuple[int, float] | None:
    """The letter behind the last one, in the alphabet of ids."""
    return (tokens[-1] + 1, 0.75) if tokens[-1] < 100 else None


def test_it_guesses_after_each_token_that_is_asked_about() -> None:
    draft = GuessingDraft(after_last, tokenizer=TOKENIZER)
    sequence = draft.new_sequence()
    rows = draft.forward([Feed(sequence, [5, 6, 7], 2)])
    assert rows.argmax(axis=1).tolist() == [7, 8]
    assert promise_of(sequence) == 0.75
    sequence.truncate(1)
    assert draft.forward([Feed(sequence, [9], 1)]).argmax() == 10
    assert sequence.tokens == [5, 9]
    fork = sequence.fork()
    fork.tokens.append(1)
    assert sequence.length == 2
    assert draft.forward([Feed(sequence, [1], 0)]).shape == (0, draft.vocab_size)


def test_no_idea_is_worth_nothing() -> None:
    draft = GuessingDraft(after_last, tokenizer=TOKENIZER)
    sequence = draft.new_sequence()
    assert np.argmax(draft.forward([Feed(sequence, [200], 1)])) == 200
    assert promise_of(sequence) == 0


@pytest.mark.parametrize("guess", [(-1, 0.5), (10_000, 0.5), (1, 1.5), (1, float("nan")), ("a", 0.5)])
def test_an_impossible_guess_is_refused(guess: tuple[int, float]) -> None:
    draft = GuessingDraft(lambda tokens: guess, tokenizer=TOKENIZER)
    with pytest.raises(SettingsError, match="next_token"):
        draft.forward([Feed(draft.new_sequence(), [1], 1)])


def test_the_context_has_an_end() -> None:
    draft = GuessingDraft(after_last, tokenizer=TOKENIZER)
    with pytest.raises(ContextExceeded):
        draft.forward([Feed(draft.new_sequence(), [1] * (draft.context_length + 1), 0)])


@in_virtual_time
async def test_a_device_drafts_with_it() -> None:
    answer = TOKENIZER.encode("You said: Hello<end>")
    opening = TOKENIZER.encode("<user>Hello<end><assistant>")

    def next_token(tokens: Sequence[int]) -> tuple[int, float] | None:
        at = len(tokens) - len(opening)
        return (answer[at], 0.99) if at < len(answer) else None

    draft = GuessingDraft(next_token, tokenizer=TOKENIZER)
    async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.05)) as edge:
        edge.listen(MemoryListener("edge"))
        runner = PacedRunner(lambda rows: 0.001)
        async with Device.connect("memory:edge", draft=draft, runner=runner) as device:
            said = await device.generate("<user>Hello<end><assistant>", max_new_tokens=50)
        await asyncio.sleep(1)
    assert said.text == "You said: Hello"
    assert said.summary.num_hinted >= len(answer) / 2
