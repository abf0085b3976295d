"""A device that is given a draft by name: loaded off the loop, from a folder, with its tokenizer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import transformers

from cascade.device import Device, Policy
from cascade.edge import EdgeServer
from cascade.errors import ModelError, SettingsError
from cascade.models.huggingface import HuggingFaceModel
from cascade.models.runner import ThreadRunner
from cascade.models.text import TextTokenizer
from cascade.testing import MemoryListener

from .test_text import TEMPLATE, byte_level


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model with a tokenizer and a chat template."""
    path = tmp_path_factory.mktemp("draft")
    tokenizer = byte_level()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "chat_template.jinja").write_text(TEMPLATE)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.get_vocab_size() + 4,  # padded, as real ones are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


async def test_a_folder_is_loaded_while_the_loop_goes_on(folder: Path) -> None:
    target = await asyncio.to_thread(HuggingFaceModel.load, folder, dtype="float32", device="cpu")
    num_turns = 0

    async def count_turns() -> None:
        nonlocal num_turns
        while True:
            await asyncio.sleep(0)
            num_turns += 1

    async with EdgeServer.of(target, ThreadRunner()) as edge:
        edge.listen(MemoryListener("edge"))
        counting = asyncio.create_task(count_turns())
        await asyncio.sleep(0)
        before = num_turns
        async with Device.connect("memory:edge", draft=folder) as device:
            assert num_turns > before + 20, "loading in the loop would leave it a turn or two"
            counting.cancel()
            messages = [{"role": "user", "content": "Hello"}]
            patient = Policy.hint_driven(patience_s=1.0)  # a tiny draft is no faster than a tiny target
            answer = await device.generate(messages, max_new_tokens=24, stop_ids=(), policy=patient)
            assert len(answer.tokens) == 24
            text = await asyncio.to_thread(TextTokenizer.load, folder)
            assert answer.text == text.decode(answer.tokens)
            assert answer.summary.num_hinted > 0
            plain = await device.generate(
                "Hello", max_new_tokens=8, temperature=0.8, top_p=0.9, seed=3, private=True
            )
            assert plain.summary.num_kept == len(plain.tokens)
            chat = device.chat()
            for _ in range(2):
                assert (await chat.generate("And?", max_new_tokens=8)).summary.num_tokens > 0
    await asyncio.gather(counting, return_exceptions=True)


async def test_a_tokenizer_alone_gives_text_to_a_device_without_a_draft(folder: Path) -> None:
    """Its vocabulary's size is the edge's affair: weights are often padded beyond the tokenizer."""
    target = await asyncio.to_thread(HuggingFaceModel.load, folder, dtype="float32", device="cpu")
    async with EdgeServer.of(target, ThreadRunner()) as edge:
        edge.listen(MemoryListener("edge"))
        for draft in (None, "suffix"):
            async with Device.connect("memory:edge", draft=draft, tokenizer=folder) as device:
                answer = await device.generate("The sky is", max_new_tokens=16, stop_ids=())
                assert len(answer.tokens) == 16
                assert answer.text


async def test_what_cannot_be_loaded_says_so_and_leaves_no_task() -> None:
    for draft in ("no-such-model", Path("/no/such/folder")):
        with pytest.raises(ModelError, match="no such"):
            async with Device.connect("memory:", draft=draft):
                pass
    with pytest.raises(ModelError, match="no such"):
        async with Device.connect("memory:", tokenizer="no-such-model"):
            pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_draft_of_another_vocabulary_than_the_tokenizers_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    byte_level(280).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SettingsError, match="tokenizer"):
        async with Device.connect("memory:", draft=folder, tokenizer=tmp_path):
            pass


def run_without(modules: tuple[str, ...], code: str) -> str:
    """In an interpreter in which importing these fails."""
    blocked = f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-W", "error", "-c", blocked + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


TORCHLESS = ("torch", "transformers", "safetensors", "accelerate", "gguf")


def test_a_device_without_torch_streams_and_drafts_by_suffix(folder: Path) -> None:
    code = f"""
        import asyncio
        from cascade import Device, EdgeServer
        from cascade.models.text import TextTokenizer
        from cascade.testing import MemoryListener, PacedRunner, SyntheticTarget, run_virtual

        text = TextTokenizer.load({str(folder)!r})

        class Loop(SyntheticTarget):
            '''Says the same words again and again.'''
            def forward(self, feeds):
                logits = super().forward(feeds) * 0
                row = 0
                for feed in feeds:
                    states = feed.sequence.states
                    for at in range(len(states) - feed.num_logits, len(states)):
                        logits = logits.copy()
                        logits[row, words[at % len(words)]] = 50.0
                        row += 1
                return logits

        words = text.encode(" round and round and")
        target = Loop(vocab_size=text.vocab_size)
        target.vocab_fingerprint = text.vocab_fingerprint

        async def main():
            async with EdgeServer.of(target, PacedRunner(lambda rows: 0.05)) as edge:
                edge.listen(MemoryListener())
                answers = []
                for draft in (None, "suffix"):
                    async with Device.connect("memory:", draft=draft, tokenizer=text) as device:
                        answers.append(await device.generate("Go", max_new_tokens=120))
                cloud, drafted = answers
                assert cloud.text == drafted.text and "round and" in cloud.text, (cloud.text, drafted.text)
                assert cloud.summary.num_hinted == 0
                print(drafted.summary.num_hinted, drafted.summary.tokens_per_pass)

        run_virtual(main())
        assert "torch" not in sys.modules or sys.modules["torch"] is None
    """
    num_hinted, tokens_per_pass = run_without(TORCHLESS, code).split()
    assert int(num_hinted) > 60
    assert float(tokens_per_pass) > 2


def test_a_neural_draft_without_torch_says_what_to_install(folder: Path) -> None:
    code = f"""
        import asyncio
        from cascade import Device, ModelError

        async def main():
            try:
                async with Device.connect("memory:", draft={str(folder)!r}):
                    pass
            except ModelError as error:
                print(error)

        asyncio.run(main())
    """
    printed = run_without(TORCHLESS, code)
    assert "pip install 'cascade-edge[models]'" in printed
    assert "suffix" in printed


def test_an_address_without_its_library_says_what_to_install() -> None:
    code = """
        from cascade import Device, SettingsError
        try:
            Device.connect("ws://edge")
        except SettingsError as error:
            print(error)
    """
    assert "pip install 'cascade-edge[device]'" in run_without(("aiohttp",), code)
