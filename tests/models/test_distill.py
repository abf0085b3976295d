"""From a tiny random target to a draft: whole, interrupted, and in its target's own ids."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from cascade import cli
from cascade.decoding import Sampling, pick
from cascade.errors import ModelError, SettingsError
from cascade.models.base import Feed
from cascade.models.details import details
from cascade.models.distill.exam import Exam, Paper, grade, set_exam
from cascade.models.distill.generation import continue_all
from cascade.models.distill.lesson import Lesson
from cascade.models.distill.loss import expected_loss
from cascade.models.distill.making import distill, state_folder
from cascade.models.distill.progress import Progress
from cascade.models.distill.result import held_out_prompts
from cascade.models.distill.selfplay import InventedPrompts, WrittenPrompts, write_answers
from cascade.models.distill.settings import DistillSettings, parse_layers
from cascade.models.distill.shelf import put_on_shelf
from cascade.models.distill.surgery import build_draft, choose_vocabulary, default_layers, nearest_kept
from cascade.models.distill.teacher import Notes, teach
from cascade.models.distill.texts import Text, packed, read_texts, write_texts
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.loading import check_same_vocabulary, open_model
from cascade.models.packed import PACKED_FILE
from cascade.models.ragged import ATTENTION_NAME, register
from cascade.models.text import TextTokenizer
from cascade.models.trimmed import TrimmedModel
from cascade.models.vocabulary import VocabularyMap

from .families import build, stock_logits, text
from .test_text import TEMPLATE, byte_level

SMALL = DistillSettings(
    layers=(0, 3),
    vocab=120,
    tokens=5000,
    prompt_tokens=8,
    answer_tokens=12,
    held_out=3,
    passes=2.0,
    batch_texts=4,
)

FEW = dataclasses.replace(SMALL, tokens=200)
"""As many as are written at once."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_fixtures() -> Iterator[None]:
    """Those of a module come before the one of each test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights, a tokenizer and a chat template."""
    folder = tmp_path_factory.mktemp("models") / "target"
    build("llama", vocab_size=300, num_hidden_layers=4).save_pretrained(folder)
    byte_level().save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ready texts over the target's ids, with a common beginning."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl.gz"
    write_texts(path, [some_text(seed) for seed in range(43)])  # 40, when 3 are held out
    return path


@pytest.fixture(scope="module")
def whole(target: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A draft that was made in one go."""
    out = tmp_path_factory.mktemp("drafts") / "whole"
    make(target, out, text=texts)
    return out


def some_text(seed: int) -> Text:
    ids = text(30, seed)
    return Text((1, 5, 9, *ids[: 3 + seed % 5]), tuple(ids[10 : 16 + seed % 9]))


def make(target: Path, out: Path, settings: DistillSettings = SMALL, **options: Any) -> dict[str, Any]:
    with closing(asyncio.new_event_loop()) as loop:
        return distill(target, out, settings, clock=loop.time, **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert sorted(first) == sorted(second)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


# From nothing to a draft ------------------------------------------------------------------------------------


def test_a_draft_from_nothing(target: Path, tmp_path: Path) -> None:
    """The target writes prompts and answers itself; the result is read by transformers and by us."""
    out = tmp_path / "draft"
    stages: list[Progress] = []
    card = make(target, out, FEW, report=stages.append)
    order = list(dict.fromkeys(step.stage for step in stages))
    assert order == ["texts", "exam", "teacher", "training", "grades", "done"]
    assert all(step.left_s is None or step.left_s >= 0 for step in stages)
    assert card == json.loads((out / "card.json").read_text())
    assert card["text"]["answer_tokens"] >= FEW.tokens
    assert card["training"]["answer_tokens_seen"] == 2 * card["text"]["answer_tokens"]
    for grades in card["agreement"].values():
        assert 0 <= grades["agreement"] <= 1
        assert len(grades["by_position_in_window"]) == 8
        assert grades["by_position_in_window"][0] == grades["agreement"]
    assert card["step_time"]["draft_step_ms"] > 0

    auto: Any = transformers.AutoModelForCausalLM
    stock = auto.from_pretrained(out)
    assert (stock.config.num_hidden_layers, stock.config.vocab_size) == (2, 120)
    draft, original = open_model(out, dtype="float32"), open_model(target, dtype="float32")
    assert isinstance(draft, TrimmedModel)
    assert isinstance(original, HuggingFaceModel)
    check_same_vocabulary(original, draft)
    assert (draft.vocab_size, draft.eos_ids) == (original.vocab_size, original.eos_ids)
    assert draft.tokenizer is not None
    assert draft.tokenizer.eos_ids == original.eos_ids
    assert draft.tokenizer.has_chat_template
    rows = draft.forward([Feed(draft.new_sequence(), [1, 2, 299], 3)])
    assert set(rows.isfinite().nonzero()[:, 1].tolist()) == set(draft.vocabulary.kept.tolist())
    assert len(held_out_prompts(out)) == FEW.held_out
    assert details(out)["card"] == card


@pytest.mark.slow
def test_the_command_from_nothing(target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "draft"
    with pytest.raises(SystemExit) as caught:
        cli.main(["distill", str(target), "--out", str(out), "--tokens", "20000", "--vocab", "120", "--json"])
    assert caught.value.code == 0
    card = json.loads(capsys.readouterr().out)
    assert card["text"]["answer_tokens"] >= 20000
    assert isinstance(open_model(out), TrimmedModel)


def test_prompts_of_a_file(target: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text('Why?\n\n"two\\nlines"\n' + "".join(f"Number {n}?\n" for n in range(9)))
    source = WrittenPrompts(path, TextTokenizer.load(target))
    assert source.count == 11
    tokenizer = TextTokenizer.load(target)
    assert tokenizer.decode(source.prompts(1, 1)[0]) == "user\ntwo\nlines\nassistant\n"
    card = make(target, tmp_path / "draft", prompts=path)
    assert card["text"]["texts"] == 10, "a tenth is held out"
    assert card["held_out_prompts"] == 1
    with pytest.raises(ModelError, match="holds no prompts"):
        WrittenPrompts(empty(tmp_path), TextTokenizer.load(target))


def empty(folder: Path) -> Path:
    path = folder / "empty.txt"
    path.write_text("\n")
    return path


def test_training_helps(target: Path, texts: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, passes=0.0)
    before = make(target, tmp_path / "draft", settings, text=texts)
    settings = dataclasses.replace(SMALL, passes=12.0, learning_rate=1e-2)
    losses: list[float] = []

    def note(step: Progress) -> None:
        if step.stage == "training":
            losses.append(float(step.note.rpartition("loss ")[2]))

    after = make(target, tmp_path / "draft", settings, text=texts, report=note)
    assert before["training"]["steps"] == 0
    assert after["training"]["steps"] == 120
    assert losses[-1] < losses[0] - 0.3


# Interrupted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "at"), [("teacher", 0), ("training", 7), ("grades", 0)])
def test_interrupted_and_called_again(
    target: Path, texts: Path, whole: Path, tmp_path: Path, stage: str, at: int
) -> None:
    """Stopped without warning at a place in a stage, the second call ends where one call would have."""
    out = tmp_path / "draft"
    settings = dataclasses.replace(SMALL, checkpoint_s=0.0)
    steps: list[Progress] = []

    def stop(step: Progress) -> None:
        steps.append(step)
        if [s.stage for s in steps].count(stage) > at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(target, out, settings, text=texts, report=stop)
    assert not out.exists()
    again: list[Progress] = []
    make(target, out, settings, text=texts, report=again.append)
    assert_same_weights(out, whole)
    num_steps = [s.stage for s in again].count("training")
    # The report comes before the file is written, so the step that was reported is done again.
    assert num_steps == {"teacher": 20, "training": 20 - at, "grades": 0}[stage]
    assert not list(state_folder(out).rglob(".*")), "no scratch file is left"


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A job started in the background ignores Ctrl-C, and so would everything in it, as it should."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_ctrl_c_in_a_step_is_obeyed_after_it(target: Path, texts: Path, whole: Path, tmp_path: Path) -> None:
    """No step is lost though no checkpoint was due, and none is half done."""
    out = tmp_path / "draft"

    def stop(step: Progress) -> None:
        if step.note.startswith("step 7,"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make(target, out, text=texts, report=stop)
    assert checkpoint_steps(out) == 7
    make(target, out, text=texts)
    assert_same_weights(out, whole)


def test_interrupted_while_the_target_writes(target: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, tokens=2500, passes=0.0)
    one, other = tmp_path / "one", tmp_path / "other"
    make(target, one, settings)

    def stop(step: Progress) -> None:
        if step.note == "128 texts":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(target, other, settings, report=stop)
    first = state_folder(other) / "texts" / "00000.jsonl.gz"
    stamp = first.stat().st_mtime_ns
    make(target, other, settings)
    assert first.stat().st_mtime_ns == stamp, "what was written is not written again"
    for path in (state_folder(one) / "texts").iterdir():
        assert path.read_bytes() == (state_folder(other) / "texts" / path.name).read_bytes()
    assert (state_folder(one) / "exam.json").read_text() == (state_folder(other) / "exam.json").read_text()


def test_ctrl_c_saves_and_the_same_command_goes_on(target: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "draft"
    command = [sys.executable, "-m", "cascade.cli", "distill", str(target), "--out", str(out)]
    command += ["--text", str(texts), "--layers", "0,3", "--vocab", "120", "--batch", "4", "--json"]
    environment = {**os.environ, "CASCADE_CACHE": str(tmp_path / "cache")}
    long = [*command, "--passes", "100000"]
    with subprocess.Popen(
        long,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("training"):
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "the same command goes on from here" in errors
    assert not out.exists()
    done = checkpoint_steps(out)
    assert done > 0, "saved though no checkpoint was due"
    with pytest.raises(SystemExit) as caught:
        cli.main([*command[3:], "--passes", str((done + 2) / 10)])
    assert caught.value.code == 0
    card = json.loads((out / "card.json").read_text())
    assert card["training"]["steps"] >= done + 2
    assert checkpoint_steps(out) == card["training"]["steps"] <= done + 3


def checkpoint_steps(out: Path) -> int:
    from safetensors import safe_open

    with safe_open(state_folder(out) / "checkpoint.safetensors", framework="pt") as file:
        return int(json.loads(file.metadata()["counters"])["step"])


def test_a_state_is_for_one_kind_of_draft(target: Path, texts: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"begun with vocab 120, not 99"):
        make(target, whole, dataclasses.replace(SMALL, vocab=99), text=texts)
    out = tmp_path / "draft"
    shutil.copytree(state_folder(whole), state_folder(out))
    more = make(target, out, dataclasses.replace(SMALL, passes=2.2), text=texts)
    assert more["training"]["steps"] == 22, "more training is welcome"


def test_a_folder_of_somebody_else_is_left_alone(target: Path, texts: Path) -> None:
    with pytest.raises(ModelError, match="holds no draft"):
        make(target, target, text=texts)


def test_time_ends_a_training(target: Path, texts: Path, tmp_path: Path) -> None:
    ticks: Iterator[float] = iter(range(10**9))
    settings = dataclasses.replace(SMALL, minutes=0.1, passes=1000.0)
    card = distill(target, tmp_path / "draft", settings, clock=lambda: next(ticks), text=texts)
    assert card["training"]["minutes"] >= 0.1
    assert card["training"]["steps"] <= 6
    assert len(card["training"]["curve"]) == 0


def test_the_curve_is_in_the_card(target: Path, texts: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, exam_s=0.0, passes=0.5)
    card = make(target, tmp_path / "draft", settings, text=texts)
    curve = card["training"]["curve"]
    assert len(curve) == card["training"]["steps"] - 1
    assert [point["answer_tokens_seen"] for point in curve] == sorted(
        point["answer_tokens_seen"] for point in curve
    )


# Parts ------------------------------------------------------------------------------------------------------


def test_a_trimmed_model_is_the_model_inside(whole: Path, target: Path) -> None:
    draft = open_model(whole, dtype="float32")
    assert isinstance(draft, TrimmedModel)
    vocabulary = draft.vocabulary
    kept = vocabulary.kept.tolist()
    tokens = [*text(20, 5), 297, 298, 299]
    inner = [int(vocabulary.inputs[token]) for token in tokens]
    auto: Any = transformers.AutoModelForCausalLM
    stock = stock_logits(auto.from_pretrained(whole, dtype=torch.float32), inner)
    rows = draft.forward([Feed(draft.new_sequence(), tokens, len(tokens))])
    assert rows.shape == (len(tokens), 300)
    torch.testing.assert_close(rows[:, kept], stock, rtol=0, atol=1e-4)
    unsaid = sorted(set(range(300)) - set(kept))
    assert torch.isneginf(rows[:, unsaid]).all()
    assert [vocabulary.inputs[token] for token in kept] == list(range(120)), "kept tokens are themselves"
    original: Any = auto.from_pretrained(target, dtype=torch.float32).get_input_embeddings().weight
    table = torch.nn.functional.normalize(original, dim=1)
    nearest = [int((table[kept] @ table[token]).argmax()) for token in unsaid]
    assert [int(vocabulary.inputs[token]) for token in unsaid] == nearest, "others are their neighbours"
    assert pick(rows[-1], Sampling(temperature=0.8, seed=3), 9) in kept
    earlier = rows.clone()
    draft.forward([Feed(draft.new_sequence(), tokens[:4], 4)])
    assert torch.equal(rows, earlier), "a caller may keep rows over later passes"
    with pytest.raises(ModelError, match="outside the vocabulary of 300"):
        draft.forward([Feed(draft.new_sequence(), [300], 1)])


def test_a_trimmed_model_rolls_back_and_forks(whole: Path) -> None:
    draft = TrimmedModel.load(whole, dtype="float32")
    sequence = draft.new_sequence()
    draft.forward([Feed(sequence, [3, 4, 5], 0)])
    fork = sequence.fork()
    first = draft.forward([Feed(sequence, [6, 7], 2), Feed(fork, [8], 1)])
    sequence.truncate(3)
    again = draft.forward([Feed(sequence, [6, 7], 2)])
    torch.testing.assert_close(first[:2], again, rtol=0, atol=1e-5)


def test_maps_that_cannot_be(tmp_path: Path) -> None:
    def vocabulary(kept: list[int], inputs: list[int]) -> VocabularyMap:
        return VocabularyMap(
            kept=np.array(kept), inputs=np.array(inputs), vocab_fingerprint="x", eos_ids=frozenset({2})
        )

    good = vocabulary([0, 2], [0, 0, 1, 1])
    assert good.outputs.tolist() == [0, -1, 1, -1]
    for kept, inputs in (([2, 0], [0, 0, 1]), ([0, 4], [0, 1]), ([0], [1, 0]), ([], [0])):
        with pytest.raises(ModelError, match="vocabulary map"):
            vocabulary(kept, inputs)
    good.save(tmp_path)
    assert VocabularyMap.load(tmp_path).eos_ids == {2}
    (tmp_path / "vocabulary_map.npz").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be read"):
        VocabularyMap.load(tmp_path)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "granite"])
def test_a_lesson_is_what_the_model_computes(family: str) -> None:
    """Texts end to end with their beginning once, against the stock model on each text."""
    register()
    texts = [some_text(3), some_text(8), some_text(21)]
    lesson = Lesson((1, 5, 9), [one.tokens[:-1] for one in texts])
    stock = build(family)
    expected = [stock_logits(stock, list(one.tokens[:-1]))[-len(one.answer) :] for one in texts]
    module = build(family)
    module.set_attn_implementation(ATTENTION_NAME)
    rows = module(
        input_ids=torch.tensor([lesson.tokens()]),
        position_ids=torch.tensor([lesson.positions()]),
        use_cache=False,
        logits_to_keep=torch.tensor(lesson.last_rows([len(one.answer) for one in texts])),
        cascade_plan=lesson,
    ).logits[0]
    torch.testing.assert_close(rows, torch.cat(expected), rtol=0, atol=1e-4)


def test_the_teacher_says_what_the_target_computes() -> None:
    parts = [some_text(seed) for seed in range(5)]
    best = teach(HuggingFaceModel(build("llama")), parts, 7)
    stock = build("llama")
    at = 0
    for part in parts:
        rows = stock_logits(stock, list(part.tokens[:-1]))[-len(part.answer) :].log_softmax(1)
        values, ids = rows.topk(7)
        here = slice(at, at + len(part.answer))
        at += len(part.answer)
        assert best["ids"][here].tolist() == ids.tolist()
        np.testing.assert_allclose(best["log_probs"][here], values, atol=1e-2)
    assert at == len(best["ids"])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "qwen3"])
def test_all_layers_and_tokens_give_the_target_again(family: str) -> None:
    target = build(family)
    draft = build_draft(target, [0, 1, 2], np.arange(96), frozenset({2}))
    tokens = text(15, 1)
    torch.testing.assert_close(stock_logits(draft.eval(), tokens), stock_logits(target, tokens))
    with pytest.raises(ModelError, match="layers 0,3 cannot be taken: name some of 0 to 2"):
        build_draft(target, [0, 3], np.arange(96), frozenset({2}))


def test_a_vocabulary_of_what_is_used() -> None:
    parts = [Text((40, 41), (50, 51, 50)), Text((40, 42), (50, 2))]
    kept = choose_vocabulary(parts, 5, frozenset({2, 3}), 96)
    assert kept.tolist() == [2, 3, 40, 50, 51]
    assert choose_vocabulary(parts, 200, frozenset(), 96).tolist() == list(range(96))
    with pytest.raises(ModelError, match="no room"):
        choose_vocabulary(parts, 1, frozenset({2, 3}), 96)
    table = torch.tensor([[1.0, 0], [0, 1], [0.9, 0.1], [0, 5]])
    assert nearest_kept(table, np.array([0, 1])).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2"])
def test_answers_depend_on_their_own_prompt_only(family: str) -> None:
    """Side by side or alone, and as the model says them in serving; some end before others."""
    model = HuggingFaceModel(build(family))
    prompts = [[1, 5, *text(2 + 3 * index, index)] for index in range(9)]
    samplings = [Sampling(temperature=0.8 * (index % 2), seed=index) for index in range(9)]
    ends = {answer[3] for answer in continue_all(model, prompts, samplings, 12)[:3]}
    model._eos_ids = frozenset(ends)
    together = continue_all(model, prompts, samplings, 12)
    assert len({len(answer) for answer in together}) > 1
    for prompt, sampling, answer in zip(prompts, samplings, together, strict=True):
        assert continue_all(model, [prompt], [sampling], 12) == [answer]
        assert served(model, prompt, sampling, 12) == answer


def served(model: HuggingFaceModel, prompt: list[int], sampling: Sampling, most: int) -> tuple[int, ...]:
    sequence = model.new_sequence()
    feed, answer = prompt, list[int]()
    while len(answer) < most and not (answer and answer[-1] in model.eos_ids):
        row = model.forward([Feed(sequence, feed, 1)])[0]
        answer.append(pick(row, sampling, len(prompt) + len(answer)))
        feed = answer[-1:]
    return tuple(answer)


def test_what_the_target_expects_while_it_writes_is_what_it_expects_when_it_reads() -> None:
    model = HuggingFaceModel(build("llama"))
    prompts = [tuple(text(4 + index, index)) for index in range(5)]
    notes = Notes(5, 7)
    samplings = [Sampling(temperature=0.8 * (index % 2), seed=index) for index in range(5)]
    answers = continue_all(model, prompts, samplings, 9, None, notes)
    read = teach(model, [Text(*pair) for pair in zip(prompts, answers, strict=True)], 7)
    heard = notes.shard()
    assert heard["ids"].dtype == read["ids"].dtype
    assert heard["ids"].tolist() == read["ids"].tolist()
    np.testing.assert_allclose(heard["log_probs"], read["log_probs"], atol=1e-2)


def test_the_loss_and_its_gradient() -> None:
    """Against torch's own differentiation, in double precision, over more rows than a chunk has."""
    draws = torch.Generator().manual_seed(1)
    logits = torch.randn(130, 23, generator=draws).requires_grad_()
    ids = torch.randint(0, 23, (130, 4), generator=draws)
    chances = torch.rand(130, 4, generator=draws) / 4
    loss = expected_loss(logits, ids, chances) / 130
    loss.backward()  # type: ignore[no-untyped-call]
    wide = logits.detach().double().requires_grad_()
    expected = -(chances * wide.log_softmax(1).gather(1, ids)).sum() / 130
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    assert logits.grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=0, atol=1e-7)


def test_a_draft_on_the_shelf(target: Path, whole: Path, tmp_path: Path) -> None:
    """A quarter of the size, the same interface, nearly the same numbers, and its notes in the card."""
    out = tmp_path / "shelf"
    num_bytes = put_on_shelf(whole, out, {"stored_as": "int8"})
    assert num_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    weights = (whole / "model.safetensors").stat().st_size
    assert (out / PACKED_FILE).stat().st_size < 0.4 * weights, "small matrices have many scales"
    before, after = open_model(whole, dtype="float32"), open_model(out, dtype="float32")
    assert isinstance(before, TrimmedModel)
    assert isinstance(after, TrimmedModel)
    assert after.vocab_fingerprint == before.vocab_fingerprint
    assert after.tokenizer is not None
    assert before.tokenizer is not None
    chat = [{"role": "user", "content": "Why?"}]
    assert after.tokenizer.chat(chat) == before.tokenizer.chat(chat)
    rows = [model.inner.forward([Feed(model.new_sequence(), text(20, 3), 20)]) for model in (before, after)]
    assert 0 < (rows[0] - rows[1]).abs().max() < 0.05 * rows[0].abs().max()
    assert details(out)["card"] == {**details(whole)["card"], "stored_as": "int8"}
    assert details(out)["parameters"] == details(whole)["parameters"]
    (out / PACKED_FILE).write_bytes(b"torn")
    with pytest.raises(ModelError, match="no safetensors file"):
        open_model(out)


def test_self_play(target: Path) -> None:
    model = HuggingFaceModel.load(target, dtype="float32")
    assert model.tokenizer is not None
    source = InventedPrompts(lambda: model, model.tokenizer, SMALL)
    prompts = source.prompts(5, 4)
    assert source.prompts(7, 2) == prompts[2:], "number n is always the same prompt"
    assert len(set(prompts)) == 4
    before, after = model.tokenizer.encode("<|im_start|>user\n"), model.tokenizer.encode("assistant\n")
    for prompt in prompts:
        assert list(prompt[: len(before)]) == before
        assert list(prompt[-len(after) :]) == after
    answers = write_answers(model, prompts, 4, SMALL)
    greedy = continue_all(model, prompts, [Sampling()] * 4, SMALL.answer_tokens)
    assert [one.answer == other for one, other in zip(answers, greedy, strict=True)][::2] == [True, True]


def test_a_draft_that_is_the_target_has_the_best_grades(tmp_path: Path) -> None:
    model = HuggingFaceModel(build("llama"))
    exam = set_exam(model, [text(6, seed) for seed in range(4)], 20, seed=11)
    exam.save(tmp_path / "exam.json")
    assert Exam.load(tmp_path / "exam.json") == exam
    for paper in (exam.greedy, exam.sampled):
        grades = grade(model, paper)
        assert grades.agreement == 1
        assert set(grades.by_position) == {1.0}
    assert exam.greedy.texts != exam.sampled.texts


def test_grades_by_hand() -> None:
    """A paper whose third token in each four is not what the target would say."""
    model = HuggingFaceModel(build("llama"))
    tokens = text(6, 1)
    wrong = []
    for index in range(16):
        row = model.forward([Feed(model.new_sequence(), tokens, 1)])[0]
        order = row.argsort(descending=True).tolist()
        tokens.append(order[1] if index % 4 == 2 else order[0])
        wrong.append(index % 4 == 2)
    grades = grade(model, Paper(0.0, 1, (Text(tuple(tokens[:6]), tuple(tokens[6:])),)))
    assert grades.agreement == 1 - sum(wrong) / 16
    # Windows with a right first guess begin at 0, 1, 3, 4, 5, 7 ...: 12, of which one reaches the text's end.
    assert grades.by_position[1] == 7 / 11


def test_files_that_hold_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"p": [1], "r": []}\n'))
    with pytest.raises(ModelError, match="holds no texts"):
        read_texts(path)
    path.write_bytes(b"not compressed")
    with pytest.raises(ModelError, match="wanted are lines of JSON"):
        read_texts(path)
    plain = tmp_path / "texts.jsonl"
    plain.write_text('{"p": [1, 2], "r": [3]}\n')
    assert read_texts(plain) == [Text((1, 2), (3,))]


def test_settings() -> None:
    assert parse_layers("0, 1,29") == (0, 1, 29)
    assert parse_layers("") == ()
    assert default_layers(30) == (0, 1, 2, 29)
    assert default_layers(2) == (0, 1)
    assert packed([5, 9, 3, 4, 1], 9) == [[1], [0, 3], [2, 4]]
    for wrong in ({"vocab": 0}, {"layers": (-1,)}, {"passes": -1.0}, {"warmup": 2.0}):
        with pytest.raises(SettingsError):
            DistillSettings(**wrong)
    with pytest.raises(SettingsError, match="layers"):
        parse_layers("0;1")
