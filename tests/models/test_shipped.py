"""The draft that comes with the package: small, whole, honest about itself, and readable without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cascade import cli
from cascade.lab.bench import draft as examination
from cascade.models import bundled
from cascade.models.base import Feed
from cascade.models.details import details
from cascade.models.distill.result import held_out_prompts
from cascade.models.loading import open_model, resolve
from cascade.models.text import TextTokenizer, tokenizer_folder
from cascade.models.trimmed import TrimmedModel

NAME = "smollm2-135m-draft"
MOST_BYTES = 20_000_000
CHAT = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve(NAME).folder


def test_it_is_small_and_nothing_has_to_be_fetched(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MOST_BYTES
    assert bundled.fetch(NAME) == folder


def test_its_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = details(NAME)["card"]
    assert card["target"] == "smollm2-135m"
    assert card["training"]["answer_tokens_seen"] > 1_000_000
    assert card["training"]["minutes"] > 0
    for name in ("greedy", "temperature_0.8"):
        assert 0 < card["agreement"][name]["agreement"] < 1
    with pytest.raises(SystemExit):
        cli.main(["models", "info", NAME])
    said = capsys.readouterr().out
    assert f"agreement: {card['agreement']['greedy']['agreement']}" in said
    with pytest.raises(SystemExit):
        cli.main(["models", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)["models"]
    assert NAME in [row["name"] for row in listed if row["fetched"]]


def test_it_speaks() -> None:
    """In int8, as it is stored: an answer in words, of tokens that it can say."""
    draft = open_model(NAME, dtype="int8")
    assert isinstance(draft, TrimmedModel)
    assert draft.tokenizer is not None
    prompt = draft.tokenizer.chat(CHAT)
    sequence, answer = draft.new_sequence(), []
    feed = prompt
    for _ in range(12):
        feed = [int(draft.forward([Feed(sequence, feed, 1)])[0].argmax())]
        answer += feed
    said = draft.tokenizer.decode(answer)
    assert said.startswith("The sky"), said


def test_its_rows_are_its_target_s_tokens() -> None:
    draft = open_model(NAME, dtype="float32")
    prompt = held_out_prompts(NAME)[0]
    rows = draft.forward([Feed(draft.new_sequence(), prompt, 2)])
    assert rows.shape == (2, draft.vocab_size)
    assert int(torch.isfinite(rows[0]).sum()) == details(NAME)["card"]["vocab_size"]


def test_a_device_without_torch_reads_its_text(folder: Path) -> None:
    texts = tokenizer_folder(folder)
    assert texts is not None
    expected = TextTokenizer.load(texts).chat(CHAT)
    program = (
        "import sys, json\n"
        "from cascade.models.loading import resolve\n"
        "from cascade.models.text import TextTokenizer, tokenizer_folder\n"
        f"t = TextTokenizer.load(tokenizer_folder(resolve({NAME!r}).folder))\n"
        f"print(json.dumps([t.chat({CHAT!r}), 'torch' in sys.modules]))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [expected, False]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_command_finds_what_the_card_says() -> None:
    """On a few of its prompts, so only roughly; step times are for the reader."""
    bundled.fetch(examination.TARGET)
    card, found = details(NAME)["card"], examination.run(quick=True)
    for name, grades in found["agreement"].items():
        assert abs(grades["agreement"] - card["agreement"][name]["agreement"]) < 0.12
    assert set(found["step_time"]) == {"bfloat16", "int8"}
