"""A paced pair says what was recorded, as long as its cache holds what was recorded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from cascade.decoding import Sampling, pick
from cascade.errors import ContextExceeded, ModelError
from cascade.lab.record import record
from cascade.models.base import Feed, LanguageModel
from cascade.models.paced import (
    PacedDraft,
    PacedTarget,
    RecordedText,
    Recording,
    read_recording,
    write_recording,
)
from cascade.models.synthetic import SyntheticDraft, SyntheticTarget

TEXT = RecordedText(prompt=(1, 2), answer=(3, 4, 5), guesses=(3, 9, 5), chances=(0.9, 0.4, 0.8))
RECORDING = Recording(target="t", draft="d", vocab_size=997, vocab_fingerprint="f", texts=(TEXT,))


def said(model: LanguageModel, tokens: list[int], num: int = 1) -> list[int]:
    logits = model.forward([Feed(model.new_sequence(), tokens, num)])
    return [pick(row, Sampling(), 0) for row in logits]


def test_both_say_what_was_recorded() -> None:
    assert said(PacedTarget(RECORDING), [1, 2, 3, 4], 3) == [3, 4, 5]
    assert said(PacedDraft(RECORDING), [1, 2, 3, 4], 3) == [3, 9, 5]


def test_the_draft_is_as_sure_as_it_was() -> None:
    draft = PacedDraft(RECORDING)
    sequence = draft.new_sequence()
    draft.forward([Feed(sequence, [1, 2, 3], 1)])
    assert sequence.promise == 0.4


def test_a_cache_that_was_not_rolled_back_shows() -> None:
    target = PacedTarget(RECORDING)
    sequence = target.new_sequence()
    target.forward([Feed(sequence, [1, 2, 3, 9], 1)])
    wrong = pick(target.forward([Feed(sequence, [4], 1)])[0], Sampling(), 0)
    sequence.truncate(3)
    right = pick(target.forward([Feed(sequence, [4], 1)])[0], Sampling(), 0)
    assert right == 5 != wrong


def test_off_the_record_the_draft_is_right_about_as_often() -> None:
    target, draft = PacedTarget(RECORDING), PacedDraft(RECORDING)
    text = [1, 2, 7] + [number * 7 % 16 for number in range(600)]
    pairs = list(zip(said(target, text, 600), said(draft, text, 600), strict=True))
    share = sum(one == other for one, other in pairs) / 600
    assert share == pytest.approx(RECORDING.agreement, abs=0.07)


def test_a_context_has_an_end() -> None:
    with pytest.raises(ContextExceeded):
        said(PacedTarget(RECORDING, context_length=3), [1, 2, 3, 4])


def test_what_is_recorded_is_what_the_pair_says(tmp_path: Path) -> None:
    target = SyntheticTarget(seed=3)
    draft = SyntheticDraft(target, agreement=0.7, seed=4)
    made = record(target, draft, [[1, 2], [3, 4, 5]], num_tokens=60, names=("t", "d"))
    path = tmp_path / "made.json.gz"
    write_recording(made, path)
    first = path.read_bytes()
    again = read_recording(path)
    write_recording(again, path)
    assert path.read_bytes() == first
    assert again.agreement == pytest.approx(0.7, abs=0.15)
    replayed = PacedTarget(again)
    for text in again.texts:
        tokens = [*text.prompt, *text.answer]
        assert said(replayed, tokens[:-1], 60) == said(target, tokens[:-1], 60) == list(text.answer)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no gzip", "cannot read"),
        (gzip.compress(b"[1]"), "no recording"),
        (gzip.compress(b"{}"), "format"),
        (gzip.compress(json.dumps({"format": 2}).encode()), "format 2"),
    ],
)
def test_what_is_no_recording_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json.gz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        read_recording(path)


def test_tokens_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json.gz"
    text = RecordedText(prompt=(1,), answer=(99,), guesses=(1,), chances=(0.5,))
    write_recording(
        Recording(target="t", draft="d", vocab_size=16, vocab_fingerprint="f", texts=(text,)), path
    )
    with pytest.raises(ModelError, match="beyond its vocabulary"):
        read_recording(path)
