"""A draft with another vocabulary: its tokens cross to the target's, and never change the text."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from cascade.decoding import Sampling, pick
from cascade.device import Policy
from cascade.errors import ContextExceeded, ModelError
from cascade.models.base import Feed
from cascade.models.foreign import ForeignDraft
from cascade.models.retokenised import MAX_SEGMENT, Retokenised, proposals
from cascade.models.text import TextTokenizer

from .scripted import Answer, Reader, answer, train_tokenizer

HARBOUR = """\
The pilot boards the ship at the outer buoy and takes her up the river. At the lock the lines are made fast,
and the water rises slowly until the upper gate can be opened. Behind the gate the tug takes the ship to her
berth. The harbour master writes down when she came, what she carries and where she lies. When the tide turns,
the next ship is at the outer buoy, and the pilot boards her, and takes her up the river to the lock.
"""
KITCHEN = """\
Beat the eggs with the sugar until the mixture is pale, then fold in the flour, spoon by spoon. Melt the
butter, let it cool a little, and add it at the end. Bake for forty minutes; the cake is done when a needle
comes out clean. Grüße! Crème brûlée, naïve café. 好吃。 🙂 {"eggs": 4, "sugar_g": 200, "flour_g": 180}
"""
PROMPT = "The pilot boards"
NUM_TOKENS = 100
SAMPLINGS = {"greedy": Sampling(), "sampled": Sampling(temperature=0.8, seed=11)}
PIECES = st.lists(
    st.sampled_from(
        [" the", "ship", " ", "\n", "  ", "é", "好", "🙂", "{", '"x"', "\ufffd", "<end>", "q" * 90]
    ),
    max_size=25,
)


@functools.cache
def target_text() -> TextTokenizer:
    return train_tokenizer([HARBOUR], 420)


@functools.cache
def draft_text() -> TextTokenizer:
    return train_tokenizer([KITCHEN], 360)


@functools.cache
def sentencepiece_text() -> TextTokenizer:
    """Words that begin with ▁, bytes for what it does not know, and a token that begins every text."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=460, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(HARBOUR.splitlines(), trainer)
    settings = json.loads(tokenizer.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"][1:3] != "0x"]
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(settings))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return TextTokenizer(tokenizer, eos_ids=frozenset({2}))


@functools.cache
def reader(text: TextTokenizer) -> Reader:
    return Reader(text, HARBOUR)


def foreign(text: TextTokenizer) -> ForeignDraft:
    return ForeignDraft(reader(text), draft_text=text, target_text=target_text())


@functools.cache
def alone(name: str) -> Answer:
    target = reader(target_text())
    return answer(target, None, target_text().encode(PROMPT), num_tokens=NUM_TOKENS, sampling=SAMPLINGS[name])


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("patience_s", [0.0, 0.11])
@pytest.mark.parametrize("text", [draft_text, sentencepiece_text])
def test_drafts_cross_and_the_text_is_the_targets(
    name: str, patience_s: float, text: Callable[[], TextTokenizer]
) -> None:
    target = reader(target_text())
    came = answer(
        target,
        foreign(text()),
        target_text().encode(PROMPT),
        num_tokens=NUM_TOKENS,
        sampling=SAMPLINGS[name],
        policy=Policy.hint_driven(patience_s=patience_s),
    )
    assert came.tokens == alone(name).tokens
    assert came.num_hinted > (10 if patience_s else 0)


def share_right(text: TextTokenizer, sampling: Sampling) -> float:
    """How often the first token proposed is the one the target picked."""
    prompt, tokens = (
        target_text().encode(PROMPT),
        alone("sampled" if sampling.temperature else "greedy").tokens,
    )
    model = foreign(text)
    sequence = model.new_sequence()
    num_right, fed = 0, prompt
    for number, token in enumerate(tokens):
        row = model.forward([Feed(sequence, fed, 1)])[0]
        num_right += pick(row, sampling, len(prompt) + number) == token
        fed = [token]
    return num_right / len(tokens)


def test_agreement_is_as_promised() -> None:
    """High where the target's tokens are not longer than the draft's; noise above T = 0 costs some of it."""
    same = share_right(target_text(), SAMPLINGS["greedy"])
    other = share_right(draft_text(), SAMPLINGS["greedy"])
    assert same == 1.0
    assert 0.2 < other < same
    assert share_right(target_text(), SAMPLINGS["sampled"]) == 1.0
    assert share_right(draft_text(), SAMPLINGS["sampled"]) > 0.1


@pytest.mark.parametrize("text", [draft_text, sentencepiece_text])
def test_rows_speak_the_targets_vocabulary(text: Callable[[], TextTokenizer]) -> None:
    model = foreign(text())
    assert (model.vocab_size, model.vocab_fingerprint, set(model.eos_ids)) == (
        target_text().vocab_size,
        target_text().vocab_fingerprint,
        {0},
    )
    prompt = target_text().encode(PROMPT)
    logits = model.forward([Feed(model.new_sequence(), prompt, 2), Feed(model.new_sequence(), prompt[:1], 0)])
    assert logits.shape == (2, model.vocab_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits[1]).sum() == model.num_proposable
    best = int(logits[1].argmax())
    assert HARBOUR.startswith(PROMPT + target_text().decode([best]))
    size = model.vocab_size + 9
    padded = ForeignDraft(reader(text()), draft_text=text(), target_text=target_text(), vocab_size=size)
    row = padded.forward([Feed(padded.new_sequence(), prompt, 1)])[0]
    assert np.array_equal(row[:-9], logits[1])
    assert np.all(row[-9:] == -np.inf)


def test_what_stands_for_what() -> None:
    target, draft = target_text(), draft_text()
    pairs = proposals(draft, target, draft_ends=draft.eos_ids)
    by_draft = {draft_id: target_id for target_id, draft_id in pairs}
    assert by_draft[0] == 0, "the end is the end"
    for word in (" the", "e", "\n"):
        assert by_draft[draft.encode(word)[0]] == target.encode(word)[0]
    own = [
        index
        for name, index in draft.tokens().items()
        if name[0] == "Ġ" and len(name) > 2 and name[1:].isascii() and name not in target.tokens()
    ]
    assert own
    for index in own:
        assert by_draft[index] == target.encode(draft.decode([index]))[0]
    first_byte = draft.tokens()["ð"]  # of an emoji
    assert first_byte is not None
    assert draft.decode([first_byte]) == "\ufffd"
    assert by_draft[first_byte] == target.tokens()["ð"]
    other_end = TextTokenizer(target._tokenizer, eos_ids=frozenset({7}))
    assert (7, 0) in proposals(draft, other_end, draft_ends=frozenset({0}))


def test_a_letter_is_not_its_byte() -> None:
    """Where two tokens of the target have one text, the one that the target writes is meant."""
    pairs = proposals(draft_text(), sentencepiece_text(), draft_ends=frozenset())
    by_draft = {draft_id: target_id for target_id, draft_id in pairs}
    letter, byte = (sentencepiece_text().tokens()[name] for name in ("e", "<0x65>"))
    assert by_draft[draft_text().encode("e")[0]] == letter != byte


@pytest.mark.parametrize("draft", [draft_text, sentencepiece_text])
@given(pieces=PIECES, edits=st.lists(st.tuples(st.floats(0, 1), PIECES), max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_rolled_back_text_is_a_fresh_one(
    draft: Callable[[], TextTokenizer], pieces: list[str], edits: list[tuple[float, list[str]]]
) -> None:
    target = target_text()
    tokens = target.encode("".join(pieces))
    text = Retokenised(target, draft())
    text.extend(tokens)
    for share, more in edits:
        kept = int(share * len(tokens))  # in the middle of characters, too
        added = target.encode("".join(more))
        tokens = tokens[:kept] + added
        text.truncate(kept)
        twin = text.copy()
        text.extend(added)
        for token in added:
            twin.extend([token])
        fresh = Retokenised(target, draft())
        fresh.extend(tokens)
        assert text.length == twin.length == fresh.length == len(tokens)
        assert text.draft_ids() == twin.draft_ids() == fresh.draft_ids()
        assert text._segments == twin._segments == fresh._segments


@pytest.mark.parametrize("draft", [draft_text, sentencepiece_text])
@given(st.text(st.sampled_from("ab .\n\té好🙂"), max_size=400))
@settings(max_examples=40, deadline=None)
def test_both_sides_say_the_same_text(draft: Callable[[], TextTokenizer], said: str) -> None:
    target = target_text()
    text = Retokenised(target, draft())
    text.extend(target.encode(said))
    ids = text.draft_ids()
    assert draft().decode(ids) == said.removeprefix("" if draft is draft_text else " ")
    if draft is draft_text and len(said) <= MAX_SEGMENT:
        assert ids == draft().encode(said)


@pytest.mark.parametrize("seed", range(8))
def test_a_rolled_back_sequence_is_a_fresh_one(seed: int) -> None:
    """The draft's cache may hold another text than ours until it is asked: what it answers is ours."""
    dice = random.Random(seed)
    model = foreign(draft_text())
    corpus = target_text().encode(HARBOUR + KITCHEN)
    sequence, tokens = model.new_sequence(), corpus[:3]
    model.forward([Feed(sequence, tokens, 1)])
    for _ in range(25):
        if dice.random() < 0.5:
            del tokens[dice.randrange(len(tokens) + 1) :]
            sequence.truncate(len(tokens))
        if dice.random() < 0.2:
            old, sequence = sequence, sequence.fork()
            old.text.extend(corpus[:5])
            old.release()
        start = dice.randrange(len(corpus) - 6)
        fed = corpus[start : start + dice.randrange(1, 6)]
        tokens += fed
        row = model.forward([Feed(sequence, fed, 1)])
        assert np.array_equal(row, model.forward([Feed(model.new_sequence(), tokens, 1)]))
        assert sequence.length == len(tokens)
        assert sequence.cache.length == len(sequence.text.draft_ids())


def test_only_the_tail_is_fed_again() -> None:
    draft = Reader(draft_text(), HARBOUR)
    model = ForeignDraft(draft, draft_text=draft_text(), target_text=target_text())
    sequence, tokens = model.new_sequence(), target_text().encode(HARBOUR)
    model.forward([Feed(sequence, tokens[:-40], 1)])
    before = draft.num_rows_fed
    for token in tokens[-40:]:
        model.forward([Feed(sequence, [token], 1)])
    assert draft.num_rows_fed - before < 40 * 5


def test_where_there_is_nothing_to_go_by_it_still_answers() -> None:
    model = foreign(draft_text())
    half = target_text().encode("🙂")[:1]
    assert model.forward([Feed(model.new_sequence(), half, 1)]).shape == (1, model.vocab_size)
    short = Reader(draft_text(), HARBOUR)
    short.context_length = 4
    small = ForeignDraft(short, draft_text=draft_text(), target_text=target_text())
    word = target_text().encode(" harbour")
    assert len(word) <= 4 < len(draft_text().encode(" harbour"))
    assert np.all(small.forward([Feed(small.new_sequence(), word, 1)]) == 0)
    with pytest.raises(ContextExceeded):
        small.forward([Feed(small.new_sequence(), [5] * 5, 1)])


def test_mismatches_are_said() -> None:
    draft = reader(draft_text())
    with pytest.raises(ModelError, match="belongs to the draft"):
        ForeignDraft(draft, draft_text=target_text(), target_text=target_text())
    with pytest.raises(ModelError, match="more than the 10"):
        ForeignDraft(draft, draft_text=draft_text(), target_text=target_text(), vocab_size=10)
    mute = TextTokenizer(tokenizers.Tokenizer(models.BPE()))
    with pytest.raises(ModelError, match="share no token"):
        ForeignDraft(Reader(mute, HARBOUR), draft_text=mute, target_text=target_text())
