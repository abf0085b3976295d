"""Text in and out of a device: prompts, stop strings, whole characters, conversations, summaries."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from cascade.device import Chat, Device, Policy, Vocabulary
from cascade.edge import EdgeServer
from cascade.errors import CascadeError, ModelError, SettingsError
from cascade.events import Source, Summary, Token
from cascade.links.base import Link
from cascade.models.base import Feed, LanguageModel
from cascade.models.chat import ChatTemplate
from cascade.models.runner import constant_cost
from cascade.models.text import TextTokenizer
from cascade.testing import Conditions, EmulatedLink, MemoryListener, PacedRunner, SyntheticTarget

from ..helpers import in_virtual_time
from ..models.scripted import ListSequence, Scripted
from ..models.test_text import TEMPLATE, byte_level
from .peers import read

PASS_S, DRAFT_S = 0.05, 0.005
BYTES = 259
"""A vocabulary of bytes and three special tokens: every other character takes several tokens."""


def words(vocab_size: int = 300, template: str = TEMPLATE) -> TextTokenizer:
    tokenizer = byte_level(vocab_size)
    end: int = tokenizer.encode("<|im_end|>").ids[0]
    return TextTokenizer(tokenizer, chat_template=ChatTemplate(template), eos_ids=frozenset({end}))


def says(text: TextTokenizer, prompt: Sequence[int], answer: str, *, ends: bool = True) -> Scripted:
    """A target that answers a prompt so, and then ends."""
    end = [min(text.eos_ids)] if ends else text.encode(" and on and on" * 100)
    return Scripted(text, [*prompt, *text.encode(answer), *end])


@contextlib.asynccontextmanager
async def talking(
    target: LanguageModel,
    text: TextTokenizer | None,
    *,
    draft: LanguageModel | None = None,
    delay_s: float = 0.02,
    **options: Any,
) -> AsyncIterator[Device]:
    """An edge with this target, and a device that has this tokenizer, and the target itself as its draft."""
    listener = MemoryListener()
    link = Conditions(delay_s=delay_s)

    async def dial() -> Link:
        return EmulatedLink(await listener.dial(), up=link, down=link)

    async with EdgeServer.of(target, PacedRunner(constant_cost(PASS_S))) as edge:
        edge.listen(listener)
        runner = PacedRunner(constant_cost(DRAFT_S))
        async with Device([dial], draft=draft or target, runner=runner, tokenizer=text, **options) as device:
            yield device


# Prompts


@in_virtual_time
async def test_a_text_is_answered_in_text() -> None:
    text = words()
    prompt = "Why is the sky blue?"
    answer = " Because air scatters short waves. 🙂 Ça va."
    async with talking(says(text, text.encode(prompt), answer), text) as device:
        stream = device.stream(prompt, max_new_tokens=300)
        tokens = await read(stream)
        assert "".join(token.text for token in tokens) == answer
        assert stream.text == answer
        assert stream.summary.finish_reason == "stop"
        assert tokens[-1].id in text.eos_ids
        whole = await device.generate(prompt, max_new_tokens=300)
        assert str(whole) == whole.text == answer
        assert list(whole.tokens) == [token.id for token in tokens]
        assert whole.summary.num_tokens == len(tokens)


@in_virtual_time
async def test_a_conversation_goes_through_the_chat_template() -> None:
    text = words()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    async with talking(says(text, text.chat(messages), "Hi!"), text) as device:
        assert (await device.generate(messages, max_new_tokens=9)).text == "Hi!"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "empty"),
        ([], "empty"),
        ([{"role": "user"}], "role"),
        ([{"role": "user", "content": 5}], "role"),
        ([{"role": "user", "content": "x"}, 5], "role"),
        ([5, {"role": "user", "content": "x"}], "mixes"),
        ([5, "x"], "integer"),
        ([BYTES], "at most"),
        ([True], "integer"),
    ],
)
@in_virtual_time
async def test_prompts_that_are_none_are_refused(prompt: Any, reason: str) -> None:
    text = words(BYTES)
    async with talking(says(text, [1], "x"), text) as device:
        with pytest.raises(SettingsError, match=reason) as refused:
            device.stream(prompt, max_new_tokens=5)
        assert refused.value.field == "prompt"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 5, "temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 5, "top_p": 2.0}, "top_p"),
        ({"max_new_tokens": 5, "seed": -1, "temperature": 1.0}, "seed"),
        ({"max_new_tokens": 5, "stop": ""}, "stop"),
        ({"max_new_tokens": 5, "stop": ["x", ""]}, "stop"),
        ({"max_new_tokens": 5, "stop": [5]}, "stop"),
    ],
)
@in_virtual_time
async def test_impossible_options_are_refused(options: dict[str, Any], field: str) -> None:
    text = words(BYTES)
    async with talking(says(text, [1], "x"), text) as device:
        with pytest.raises(SettingsError) as refused:
            device.stream("x", **options)
        assert refused.value.field == field
        with pytest.raises(TypeError, match="temprature"):
            device.stream("x", max_new_tokens=5, temprature=1.0)  # type: ignore[call-arg]


@in_virtual_time
async def test_text_without_a_tokenizer_is_refused_and_says_the_way_out() -> None:
    async with talking(SyntheticTarget(), None) as device:
        for prompt in ("Hello", [{"role": "user", "content": "Hello"}]):
            with pytest.raises(SettingsError, match="tokenizer=FOLDER"):
                device.stream(prompt, max_new_tokens=5)
        with pytest.raises(SettingsError, match="stop_ids"):
            device.stream([1], max_new_tokens=5, stop="x")
        with pytest.raises(SettingsError, match="tokenizer=FOLDER"):
            device.chat()
        answer = await device.generate([1], max_new_tokens=5)
        assert (answer.text, len(answer.tokens)) == ("", 5)


@in_virtual_time
async def test_a_tokenizer_of_another_vocabulary_is_refused() -> None:
    text = words()
    with pytest.raises(SettingsError, match=r"tokenizer.*draft's"):
        async with talking(SyntheticTarget(), text):
            pass
    listener = MemoryListener()
    async with EdgeServer.of(SyntheticTarget(), PacedRunner(constant_cost(PASS_S))) as edge:
        edge.listen(listener)
        with pytest.raises(SettingsError, match=r"tokenizer.*edge's"):
            async with Device([listener.dial], tokenizer=text):
                pass


# Characters and stop strings


class Noise(SyntheticTarget):
    """Bytes in no order: most of what it says is no text."""

    def __init__(self, text: TextTokenizer) -> None:
        super().__init__(vocab_size=text.vocab_size)
        self.vocab_fingerprint = text.vocab_fingerprint


@pytest.mark.parametrize("policy", [Policy.cloud(), Policy.hint_driven()])
@in_virtual_time
async def test_characters_come_whole_whatever_the_commits(policy: Policy) -> None:
    text = words(BYTES)
    answer = "naïve 🙂👩‍🚀 你好"
    async with talking(says(text, [1, 2], answer), text) as device:
        tokens = await read(device.stream([1, 2], max_new_tokens=100, policy=policy))
        assert "".join(token.text for token in tokens) == answer
        assert not any("\ufffd" in token.text for token in tokens)
    async with talking(Noise(text), text) as device:
        stream = device.stream([1, 2], max_new_tokens=200, policy=policy)
        tokens = await read(stream)
        assert "".join(token.text for token in tokens) == stream.text == text.decode(stream.tokens)


@pytest.mark.parametrize("policy", [Policy.cloud(), Policy.ask_and_wait(8), Policy.hint_driven()])
@pytest.mark.parametrize("stop", ["STOP", ["nowhere", "STOP", "TOP"], "O"])
@in_virtual_time
async def test_a_stop_string_ends_the_text_and_the_session(policy: Policy, stop: str | list[str]) -> None:
    text = words(BYTES)
    answer = "one two ST three STOP four"
    target = says(text, [1], answer, ends=False)
    async with talking(target, text) as device:
        stream = device.stream([1], max_new_tokens=300, stop=stop, policy=policy)
        tokens = await read(stream)
        shown = "".join(token.text for token in tokens)
        assert (
            shown
            == stream.text
            == answer[
                : min(answer.index(s) for s in ([stop] if isinstance(stop, str) else stop) if s in answer)
            ]
        )
        assert stream.summary.finish_reason == "stop"
        assert len(stream.tokens) == len(tokens) == stream.summary.num_tokens
        assert text.decode(stream.tokens).startswith(shown)


@in_virtual_time
async def test_a_stop_string_ends_the_edges_work() -> None:
    text = words(BYTES)
    listener = MemoryListener()
    target = says(text, [1], "on and STOP", ends=False)
    async with EdgeServer.of(target, PacedRunner(constant_cost(PASS_S))) as edge:
        edge.listen(listener)
        async with Device([listener.dial], tokenizer=text) as device:
            await read(device.stream([1], max_new_tokens=300, stop="STOP"))
            await asyncio.sleep(2 * PASS_S)
            assert edge.num_sessions == 0
            num_passes = edge.engine.stats.num_passes
            assert num_passes <= len("on and STOP") + 2
            await asyncio.sleep(5)
            assert edge.engine.stats.num_passes == num_passes


@in_virtual_time
async def test_what_was_held_back_comes_with_the_last_token() -> None:
    text = words(BYTES)
    async with talking(says(text, [1], "almost STO", ends=False), text) as device:
        tokens = await read(device.stream([1], max_new_tokens=10, stop="STOP"))
        assert [token.text for token in tokens[-4:]] == [" ", "", "", "STO"]
        tokens = await read(device.stream([1], max_new_tokens=9, stop=["nothing"]))
        assert "".join(token.text for token in tokens) == "almost ST"


@in_virtual_time
async def test_stop_ids_are_the_models_ends_unless_named() -> None:
    text = words(BYTES)
    (end,) = text.eos_ids
    script = [1, *text.encode("one"), end, *text.encode("two"), end]
    async with talking(Scripted(text, script), text) as device:
        assert (await device.generate([1], max_new_tokens=50)).tokens == tuple(script[1:5])
        named = await device.generate([1], max_new_tokens=8, stop_ids=())
        assert named.tokens == tuple(script[1:])
        named = await device.generate([1], max_new_tokens=8, stop_ids=text.encode("w"))
        assert named.text == "onetw"


# Seeds


@in_virtual_time
async def test_the_seed_decides_and_is_drawn_where_none_is_named() -> None:
    async with talking(SyntheticTarget(), None, seed=5) as device:

        async def ask(**options: Any) -> tuple[int, ...]:
            return (await device.generate([1], max_new_tokens=12, **options)).tokens

        assert await ask(temperature=1.0, seed=7) == await ask(temperature=1.0, seed=7)
        assert await ask(temperature=1.0, seed=7) != await ask(temperature=1.0, seed=8)
        assert await ask(temperature=1.0) != await ask(temperature=1.0)
        assert await ask() == await ask(seed=7)


# Conversations


class Counting:
    """Counts what a model is fed: a cache that was lost, or a text tokenised anew, is fed again."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.num_fed = 0
        self.num_sequences = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def new_sequence(self) -> Any:
        self.num_sequences += 1
        return self._inner.new_sequence()

    def forward(self, feeds: Sequence[Feed]) -> Any:
        self.num_fed += sum(len(feed.tokens) for feed in feeds)
        return self._inner.forward(feeds)


class Talkative(Scripted):
    """Answers every question of a conversation, from a list."""

    def __init__(self, text: TextTokenizer, answers: Sequence[str]) -> None:
        super().__init__(text, [])
        (self._end,) = text.eos_ids
        self._asked = text.encode("<|im_start|>assistant\n")
        self._answers = [[*text.encode(answer), self._end] for answer in answers]

    def row(self, tokens: list[int]) -> Any:
        length = len(self._asked)
        starts = [at + length for at in range(len(tokens)) if tokens[at : at + length] == self._asked]
        told = tokens[starts[-1] :]
        answer = self._answers[len(starts) - 1]
        assert answer[: len(told)] == told, "a draft off the text would be answered wrongly"
        row = super().row(tokens) * 0
        row[answer[len(told)] if len(told) < len(answer) else self._end] = 50.0
        return row


@in_virtual_time
async def test_a_chat_keeps_its_tokens_and_the_drafts_cache() -> None:
    text = words()
    answers = ["Hello there!", "Twenty-one, I think. 🙂", "Bye."]
    target, draft = Talkative(text, answers), Counting(Talkative(text, answers))
    async with talking(target, text, draft=draft, delay_s=0.0) as device:
        chat = device.chat(system="Be brief.")
        said = [(await chat.generate(question, max_new_tokens=80)).text for question in ("Hi", "7*3?", "Bye")]
        assert said == answers
        whole = [
            {"role": "system", "content": "Be brief."},
            *itertools.chain(
                *(
                    ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
                    for question, answer in zip(("Hi", "7*3?", "Bye"), answers, strict=True)
                )
            ),
        ]
        assert list(chat.messages) == whole
        # The newline that the template puts behind an answer belongs to the next turn.
        assert text.decode(chat.tokens, skip_special=False) == text.chat_text(whole, generation=False).rstrip(
            "\n"
        )
        assert draft.num_sequences == 1
        assert draft.num_fed < 1.5 * len(chat.tokens), (
            "a cache that is fed each turn anew takes twice as much"
        )


@in_virtual_time
async def test_a_chats_tokens_are_never_tokenised_anew() -> None:
    """An answer in other tokens than the tokenizer would choose: the next turn has them as they were."""
    text = words()
    (end,) = text.eos_ids
    letters = [text.encode(letter)[0] for letter in "blue"]
    assert text.encode("blue") != letters
    first = text.chat([{"role": "user", "content": "Colour?"}])
    async with talking(Scripted(text, [*first, *letters, end]), text) as device:
        chat = device.chat()
        assert (await chat.generate("Colour?", max_new_tokens=20)).text == "blue"
        stream = chat.stream("Sure?", max_new_tokens=1)
        glue = text.encode("\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n")
        assert list(stream.request.prompt) == [*first, *letters, end, *glue]
        stream.cancel()


@in_virtual_time
async def test_an_answer_cut_short_is_closed_by_the_template() -> None:
    text = words()
    first = text.chat([{"role": "user", "content": "Go"}])
    async with talking(says(text, first, "on and on"), text) as device:
        chat = device.chat()
        cut = await chat.generate("Go", max_new_tokens=3)
        assert cut.summary.finish_reason == "length"
        stream = chat.stream("More", max_new_tokens=1)
        glue = text.encode("<|im_end|>\n<|im_start|>user\nMore<|im_end|>\n<|im_start|>assistant\n")
        assert list(stream.request.prompt) == [*first, *cut.tokens, *glue]
        stream.cancel()


@in_virtual_time
async def test_a_new_turn_ends_the_one_before_which_counts_as_far_as_it_came() -> None:
    text = words()
    first = text.chat([{"role": "user", "content": "Go"}])
    async with talking(says(text, first, "on and on and on", ends=False), text) as device:
        chat = device.chat()
        stream = chat.stream("Go", max_new_tokens=200)
        async for token in stream:
            if token.position > len(first) + 5:
                break
        never_answered = chat.stream("Stop", max_new_tokens=5)
        assert stream.summary.finish_reason == "cancelled"
        assert chat.messages[-1] == {"role": "assistant", "content": stream.text}
        assert chat.tokens == (*first, *stream.tokens)
        never_answered.cancel()
        assert len(chat.messages) == 2
        with pytest.raises(SettingsError, match="content"):
            chat.stream([1], max_new_tokens=5)  # type: ignore[arg-type]


@in_virtual_time
async def test_a_template_that_rewrites_answers_is_refused_for_chats() -> None:
    forgetful = TEMPLATE.replace(
        "message['content']", "(message['content'] if message['role'] == 'user' else '')"
    )
    text = words(template=forgetful)
    async with talking(says(text, text.chat([{"role": "user", "content": "Go"}]), "on"), text) as device:
        chat = device.chat()
        await chat.generate("Go", max_new_tokens=5)
        with pytest.raises(ModelError, match=r"device\.stream"):
            chat.stream("More", max_new_tokens=5)


class Tracked(Scripted):
    """Knows how many of its caches are in use."""

    num_held = 0

    def new_sequence(self) -> ListSequence:
        self.num_held += 1
        model = self

        class Sequence(ListSequence):
            def release(self) -> None:
                model.num_held -= 1

        return Sequence()


@pytest.mark.parametrize("way", ["close", "drop", "device"])
@in_virtual_time
async def test_a_chats_cache_is_given_back(way: str) -> None:
    text = words()
    first = text.chat([{"role": "user", "content": "Go"}])
    target = says(text, first, "on and on")
    draft = Tracked(text, target.script)
    async with talking(target, text, draft=draft) as device:
        chat: Chat | None = device.chat()
        assert chat is not None
        await chat.generate("Go", max_new_tokens=30)
        assert draft.num_held == 1
        if way == "close":
            chat.close()
        elif way == "drop":
            chat = None
            gc.collect()
        await asyncio.sleep(2 * DRAFT_S)  # a step may have been running
        assert draft.num_held == (1 if way == "device" else 0)
    assert draft.num_held == 0


# What a stream says of itself


@in_virtual_time
async def test_tokens_and_summary() -> None:
    text = words(BYTES)
    answer = "a long answer, word by word, of which the draft knows four fifths of all the letters " * 4
    target = says(text, [1], answer)
    draft = Scripted(text, target.script, agreement=0.8)
    loop = asyncio.get_running_loop()
    async with talking(target, text, draft=draft, delay_s=0.05) as device:
        stream = device.stream([1], max_new_tokens=500)
        began_s = loop.time()
        tokens = await read(stream)
        summary = stream.summary
        with pytest.raises(dataclasses.FrozenInstanceError):
            tokens[0].text = ""  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            summary.num_tokens = 0  # type: ignore[misc]
        assert [token.position for token in tokens] == list(range(1, len(tokens) + 1))
        assert str(tokens[0]) == tokens[0].text == answer[0]
        assert all(token.agreement is not None for token in tokens if token.source is Source.HINTED)
        assert 0.6 < next(token.agreement or 0 for token in tokens[::-1] if token.agreement) < 0.95
        assert summary.num_tokens == len(tokens)
        assert summary.time_to_first_token_s == pytest.approx(tokens[0].time_s - began_s)
        assert summary.rtt_s == pytest.approx(0.1, abs=0.01)
        assert summary.jitter_s is not None
        assert summary.edge_pass_s == pytest.approx(PASS_S, rel=0.1)
        assert summary.draft_step_s == pytest.approx(DRAFT_S, rel=0.1)
        assert summary.tokens_per_pass is not None
        assert summary.tokens_per_pass == pytest.approx(len(tokens) / (len(tokens) - summary.num_hinted))
        assert 1.2 < summary.tokens_per_pass < 3
        # The estimate, against what plain streaming really takes.
        plain = (await device.generate([1], max_new_tokens=500, policy=Policy.cloud())).summary
        assert summary.estimated_cloud_s_per_token == pytest.approx(plain.time_per_token_s, rel=0.05)
        assert plain.estimated_cloud_s_per_token == plain.time_per_token_s
        assert plain.tokens_per_pass == 1
        assert summary.estimated_speedup == pytest.approx(
            plain.time_per_token_s / summary.time_per_token_s, rel=0.05
        )
        assert stream.summary == summary, "what came later does not change it"
        printed = str(summary)
        for part in (
            f"{len(tokens)} tokens",
            "hinted",
            "plain streaming, estimated",
            "times this",
            "bytes up",
        ):
            assert part in printed


def test_a_summary_of_nothing_is_printable() -> None:
    empty = Summary(
        num_tokens=0,
        num_hinted=0,
        time_to_first_token_s=0.0,
        time_per_token_s=0.0,
        num_drafted=0,
        bytes_up=0,
        bytes_down=0,
        num_opens=0,
        finish_reason="",
    )
    assert "unknown" in str(empty)
    assert empty.tokens_per_pass is None
    assert empty.estimated_speedup is None
    assert str(Token(5, 0, Source.DRIVEN, 0.0)) == ""


@in_virtual_time
async def test_a_stream_is_read_once_and_can_be_a_block() -> None:
    async with talking(SyntheticTarget(), None) as device:
        async with device.stream([1], max_new_tokens=200) as stream:
            iterator = aiter(stream)
            await anext(iterator)
            with pytest.raises(CascadeError, match="read once"):
                await anext(aiter(stream))
        assert stream.is_settled
        assert stream.summary.finish_reason == "cancelled"


@in_virtual_time
async def test_a_vocabulary_given_saves_the_question() -> None:
    listener = MemoryListener()
    target = SyntheticTarget()
    vocabulary = Vocabulary(size=target.vocab_size, fingerprint=target.vocab_fingerprint)
    async with Device([listener.dial], vocabulary=vocabulary) as device:
        stream = device.stream([1], max_new_tokens=3)
        async with EdgeServer.of(target, PacedRunner(constant_cost(PASS_S))) as edge:
            edge.listen(listener)
            assert len(await read(stream)) == 3
