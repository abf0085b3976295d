"""The toy that says back what it was told."""

from __future__ import annotations

import pytest

from cascade.errors import SettingsError
from cascade.models.base import Feed
from cascade.models.echo import EchoModel


def say(model: EchoModel, count: int, *messages: str) -> str:
    sequence = model.new_sequence()
    fed = model.tokenizer.chat([{"role": "user", "content": message} for message in messages])
    said: list[int] = []
    for _ in range(count):
        token = int(model.forward([Feed(sequence, fed, 1)])[0].argmax())
        said.append(token)
        if token in model.eos_ids:
            break
        fed = [token]
    return model.tokenizer.decode(said)


@pytest.mark.parametrize("words", ["Hello", "Grüße 🙂", "", "a <b> c"])
def test_it_says_back_the_last_words(words: str) -> None:
    assert say(EchoModel(), 100, "before", words) == f"You said: {words}"


def test_a_draft_slips_as_often_as_it_is_told() -> None:
    target, draft = EchoModel(), EchoModel(slip=0.25)
    text = target.tokenizer.chat([{"role": "user", "content": "word " * 60}])
    text += target.tokenizer.encode("You said: " + "word " * 60)
    rows = [
        model.forward([Feed(model.new_sequence(), text, 300)]).argmax(axis=1) for model in (target, draft)
    ]
    assert 0.15 < (rows[0] != rows[1]).mean() < 0.3
    with pytest.raises(SettingsError, match="slip"):
        EchoModel(slip=2)


def test_rows_are_of_what_the_cache_holds() -> None:
    model = EchoModel()
    text = model.tokenizer.chat([{"role": "user", "content": "one"}])
    sequence = model.new_sequence()
    model.forward([Feed(sequence, [*text, 5, 5, 5], 0)])
    sequence.truncate(len(text))
    twin = sequence.fork()
    rows = model.forward([Feed(sequence, model.tokenizer.encode("You said: o"), 2)])
    assert model.tokenizer.decode([int(row.argmax()) for row in rows]) == "on"
    assert (sequence.length, twin.length) == (len(text) + 11, len(text))
    assert sequence.memory_bytes == twin.memory_bytes + sequence.growth_bytes(11)
