"""Text in and out, with a tokenizer trained here on a few sentences."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from cascade.errors import ModelError
from cascade.models.chat import ChatTemplate
from cascade.models.text import StopScanner, TextTokenizer

SENTENCES = [
    "The sky is blue because air scatters short waves more than long ones.",
    "Grüße aus Köln! Ça va très bien, merci. Привет, мир. 你好,世界。 🙂🙃👩‍🚀 naïve café",
    '{"temperature": 21.5, "unit": "C", "ok": true}\n{"temperature": 22.0}',
]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level(vocab_size: int = 300) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def sentencepiece_like() -> tokenizers.Tokenizer:
    """Metaspace and byte fallback, as Llama 2 and Gemma have it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    specials = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES[:1], trainer)
    again = json.loads(tokenizer.to_str())
    again["added_tokens"] = [t for t in again["added_tokens"] if not t["content"].startswith("<0x")]
    return tokenizers.Tokenizer.from_str(json.dumps(again))


@pytest.fixture(params=[byte_level, sentencepiece_like])
def tokenizer(request: pytest.FixtureRequest) -> TextTokenizer:
    return TextTokenizer(request.param())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|im_start|>", "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))
    return tmp_path


@pytest.mark.parametrize("text", [*SENTENCES, "  two  spaces ", "\n\n", "👩‍🚀", "x\ufffdy", "\ufffd"])
def test_pieces_add_up_and_are_whole(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    stream = tokenizer.detokenizer()
    pieces = [stream.add(token) for token in ids]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces), "half a character was shown"
    assert "".join(pieces) + stream.flush() == tokenizer.decode(ids)


def test_characters_of_several_tokens_come_whole() -> None:
    tokenizer = TextTokenizer(byte_level(vocab_size=259))  # bytes only: an emoji takes four tokens
    ids = tokenizer.encode("a🙂b")
    assert len(ids) == 6
    stream = tokenizer.detokenizer()
    assert [stream.add(token) for token in ids] == ["a", "", "", "", "🙂", "b"]


def test_an_answer_begins_as_its_prompt_demands(tokenizer: TextTokenizer) -> None:
    whole = "The sky is blue because air scatters short waves"
    ids = tokenizer.encode(whole)
    for cut in range(1, len(ids)):
        stream = tokenizer.detokenizer(ids[:cut])
        answer = "".join(stream.add(token) for token in ids[cut:]) + stream.flush()
        assert tokenizer.decode(ids[:cut]) + answer == whole


def test_bytes_that_are_no_text_do_not_wait_for_ever() -> None:
    tokenizer = TextTokenizer(byte_level(vocab_size=259))
    broken = tokenizer.encode("é")[:1] * 40
    stream = tokenizer.detokenizer()
    shown = "".join(stream.add(token) for token in broken)
    assert len(shown) >= 20
    assert set(shown + stream.flush()) == {"\ufffd"}


def test_an_unfinished_character_shows_only_at_the_end() -> None:
    tokenizer = TextTokenizer(byte_level(vocab_size=259))
    stream = tokenizer.detokenizer()
    assert stream.add(*tokenizer.encode("ok 🙂")[:-1]) == "ok "
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


def test_special_tokens_do_not_show() -> None:
    tokenizer = TextTokenizer(byte_level())
    end = tokenizer.tokens()["<|im_end|>"]
    assert end is not None
    stream = tokenizer.detokenizer()
    assert stream.add(*tokenizer.encode("blue"), end) + stream.flush() == "blue"


def test_stop_strings_across_borders() -> None:
    text, stops = "one two STOP three", ("STOP", "TOPS")
    generator = random.Random(1)
    for _ in range(200):
        cuts = sorted(generator.sample(range(1, len(text)), 5))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        scanner = StopScanner(stops)
        assert "".join(scanner.add(piece) for piece in pieces) + scanner.flush() == "one two "
        assert scanner.found == "STOP"


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "found"),
    [
        (("END",), ["E", "N", "X"], ["", "", "ENX"], None),
        (("aab",), ["a", "a", "a", "b"], ["", "", "a", ""], "aab"),
        (("\n\n", "\n"), ["x\n\ny"], ["x"], "\n\n"),
        (("b", "abc"), ["xabc"], ["x"], "abc"),
        ((), ["any", "thing"], ["any", "thing"], None),
        (("#",), ["a#b", "c"], ["a", ""], "#"),
    ],
)
def test_stop_scanner(stops: tuple[str, ...], pieces: list[str], shown: list[str], found: str | None) -> None:
    scanner = StopScanner(stops)
    assert [scanner.add(piece) for piece in pieces] == shown
    assert scanner.found == found


def test_what_was_held_back_comes_at_the_end() -> None:
    scanner = StopScanner(["STOP"])
    assert scanner.add("do not ST") == "do not "
    assert scanner.flush() == "ST"
    with pytest.raises(ModelError, match="empty"):
        StopScanner([""])


def test_a_folder_gives_tokens_template_and_ends(folder: Path) -> None:
    tokenizer = TextTokenizer.load(folder)
    assert tokenizer.eos_ids == {0, 2}
    messages = [{"role": "user", "content": "Why?"}]
    text = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.chat_text(messages) == text
    ids = tokenizer.chat(messages)
    assert ids[0] == 1, "special tokens in the template become one token each"
    assert tokenizer.decode(ids, skip_special=False) == text
    assert tokenizer.chat_text(messages, generation=False) == text.removesuffix("<|im_start|>assistant\n")


def test_stored_padding_and_truncation_do_not_touch_prompts(tmp_path: Path) -> None:
    stored = byte_level()
    stored.enable_truncation(4)
    stored.enable_padding(length=32)
    stored.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode(SENTENCES[0])) == SENTENCES[0]
    assert not tokenizer.has_chat_template
    with pytest.raises(ModelError, match="no chat template"):
        tokenizer.chat([{"role": "user", "content": "hi"}])


def test_fingerprints_name_the_vocabulary(folder: Path) -> None:
    same, other = TextTokenizer.load(folder), TextTokenizer(byte_level(vocab_size=290))
    assert same.vocab_fingerprint == TextTokenizer(byte_level()).vocab_fingerprint
    assert same.vocab_fingerprint != other.vocab_fingerprint


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages.__class__.__mro__ }}", "refuses"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "refuses"),
        ("{% for m in messages %}{{ m.content + 1 }}{% endfor %}", "refuses"),
    ],
)
def test_templates_are_caged(source: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        ChatTemplate(source).render([{"role": "user", "content": "hi"}])


def test_templates_find_json_loops_and_no_date() -> None:
    source = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
        "{% if strftime_now is defined %}today{% endif %}{{ bos_token }}"
    )
    template = ChatTemplate(source, {"bos_token": "<s>"})
    assert template.render([{"a": "<é>"}, {"b": 1}]) == '{"a": "<é>"}<s>'
    with pytest.raises(ModelError, match="broken"):
        ChatTemplate("{% if %}")


def test_the_template_says_what_transformers_says(folder: Path) -> None:
    import transformers

    stock = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    stock.chat_template = TEMPLATE
    messages = [{"role": "user", "content": " Grüße "}, {"role": "assistant", "content": "🙂"}]
    expected = stock.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert TextTokenizer.load(folder).chat(messages) == expected


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}'])
def test_broken_folders_say_so(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        TextTokenizer.load(tmp_path)


def test_text_works_without_torch_and_transformers(folder: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import cascade.models\n"
        "from cascade.models.text import TextTokenizer\n"
        "t = TextTokenizer.load(sys.argv[1])\n"
        "ids = t.chat([{'role': 'user', 'content': 'Why?'}])\n"
        "d = t.detokenizer(); print(d.add(*ids) + d.flush())\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Why?" in done.stdout
