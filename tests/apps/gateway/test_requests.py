"""Every field is understood, harmless, or refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from cascade.apps.gateway.failures import ApiError
from cascade.apps.gateway.requests import Ask, read_chat, read_completion
from cascade.device import Objective, Policy

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> Ask:
    return read_chat({"model": "cascade", "messages": HELLO, **fields}, default_max_tokens=100)


def completion(**fields: Any) -> Ask:
    return read_completion({"model": "cascade", "prompt": "Hello", **fields})


def refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as refused:
        chat(**fields)
    assert refused.value.status == 400
    return refused.value


def test_what_is_left_out_is_openais_default() -> None:
    ask = chat()
    assert (ask.is_chat, ask.prompt, ask.max_new_tokens) == (True, HELLO, 100)
    assert (ask.temperature, ask.top_p, ask.seed, ask.stop, ask.policy) == (1.0, 1.0, None, (), None)
    assert not ask.is_streamed
    assert not ask.includes_usage
    assert completion().max_new_tokens == 16
    assert chat(temperature=None, seed=None, stop=None, stream=None, max_tokens=None) == ask


def test_what_is_said_is_taken() -> None:
    ask = chat(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, seed=3, stop="x", max_tokens=7,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    assert (ask.temperature, ask.top_p, ask.top_k, ask.min_p, ask.seed) == (0.5, 0.9, 40, 0.05, 3)
    assert (ask.stop, ask.max_new_tokens, ask.is_streamed, ask.includes_usage) == (("x",), 7, True, True)
    assert chat(max_completion_tokens=9, max_tokens=7).max_new_tokens == 9
    assert chat(seed=-1).seed == 2**64 - 1
    assert chat(stop=["a", "b"]).stop == ("a", "b")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "developer", "content": "Be brief."}], [{"role": "system", "content": "Be brief."}]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            [{"role": "user", "content": "ab"}],
        ),
        ([{"role": "user", "content": "x", "name": "Ann"}], [{"role": "user", "content": "x"}]),
        (
            [{"role": "assistant", "content": "x", "refusal": None, "tool_calls": None}],
            [{"role": "assistant", "content": "x"}],
        ),
    ],
)
def test_messages(messages: list[Any], expected: list[Any]) -> None:
    assert chat(messages=messages).prompt == expected


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("Hello", "messages"),
        (["Hello"], "messages[0]"),
        ([*HELLO, {"role": "tool", "content": "x"}], "messages[1].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content.image_url"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "messages[0].tool_calls"),
    ],
)
def test_messages_that_are_none(messages: Any, param: str) -> None:
    assert refusal(messages=messages).param == param


OFF = {
    "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "logprobs": False,
    "top_logprobs": 0, "response_format": {"type": "text"}, "tools": [], "functions": [], "store": False,
    "modalities": ["text"], "reasoning_effort": "none",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OFF.items())
def test_fields_that_are_off_may_be_there(name: str, value: Any) -> None:
    assert chat(**{name: value}) == chat(**{name: None}) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("presence_penalty", 0.5), ("frequency_penalty", -1), ("logit_bias", {"5": 100}),
        ("top_logprobs", 3), ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]), ("functions", [{}]), ("store", True), ("audio", {}),
        ("modalities", ["text", "audio"]), ("prediction", {"type": "content"}), ("reasoning_effort", "high"),
        ("verbosity", "low"), ("web_search_options", {}),
    ],
)  # fmt: skip
def test_fields_that_would_change_the_answer_are_refused(name: str, value: Any) -> None:
    refused = refusal(**{name: value})
    assert (refused.param, refused.code) == (name, "unsupported_parameter")
    assert repr(name) in str(refused)


@pytest.mark.parametrize(
    ("name", "value"),
    [("user", "ann"), ("metadata", {"a": "b"}), ("service_tier", "auto"), ("parallel_tool_calls", False)],
)
def test_fields_that_change_nothing_are_passed_over(name: str, value: Any) -> None:
    assert chat(**{name: value}) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"), ("temperature", True), ("temperature", -0.1), ("temperature", 2.1),
        ("temperature", float("nan")), ("top_p", 1.5), ("top_k", -1), ("top_k", 1.5), ("min_p", 2),
        ("seed", "7"), ("seed", 1.5), ("stop", 5), ("stop", ""), ("stop", ["a"] * 17), ("stop", [1]),
        ("max_tokens", 0), ("max_tokens", "many"), ("max_completion_tokens", 0), ("stream", "yes"),
        ("stream_options", {"include_usage": True}), ("stream_options", 5), ("model", 5), ("cascade", "fast"),
        ("temprature", 1),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(name: str, value: Any) -> None:
    refused = refusal(**{name: value})
    assert refused.param == name
    assert name in str(refused)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("Hi", "Hi"), (["Hi"], "Hi"), ([5, 6], [5, 6]), ([[5, 6]], [5, 6])],
)
def test_prompts(prompt: Any, expected: Any) -> None:
    assert completion(prompt=prompt).prompt == expected


@pytest.mark.parametrize("ours", [{"quality": 0.9}, {"private": True}])
def test_logprobs_are_the_targets_or_refused(ours: dict[str, Any]) -> None:
    assert chat(logprobs=True).has_logprobs
    assert completion(logprobs=0).has_logprobs
    assert not chat(logprobs=False).has_logprobs
    assert not completion().has_logprobs
    refused = refusal(logprobs=True, cascade=ours)
    assert (refused.param, refused.code) == ("logprobs", "unsupported_parameter")


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]], ["a", "b"], [[1], [2]], [1, "a"], [True], 5])
def test_prompts_that_are_none(prompt: Any) -> None:
    with pytest.raises(ApiError) as refused:
        completion(prompt=prompt)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize(
    ("name", "value"), [("echo", True), ("best_of", 3), ("suffix", "x"), ("logprobs", 1)]
)
def test_completions_refuse_too(name: str, value: Any) -> None:
    with pytest.raises(ApiError, match="not supported") as refused:
        completion(**{name: value})
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("ours", "policy"),
    [
        ({}, None),
        ({"mode": "hint-driven"}, None),
        ({"objective": "cost"}, Policy.adaptive(Objective.COST)),
        ({"mode": "cloud"}, Policy.cloud()),
        ({"mode": "ask-and-wait", "hints": 6}, Policy.ask_and_wait(6)),
    ],
)
def test_our_own_key(ours: dict[str, Any], policy: Policy | None) -> None:
    assert chat(cascade=ours).policy == policy
    assert chat(cascade={**ours, "private": True}).is_private
    assert chat(cascade=ours).quality == 1
    assert chat(cascade={**ours, "quality": 0.95}).quality == 0.95


@pytest.mark.parametrize(
    ("ours", "param"),
    [
        ({"mode": "warp"}, "cascade.mode"),
        ({"objective": 5}, "cascade.objective"),
        ({"speed": 5}, "cascade.speed"),
        ({"hints": 0}, "hints"),
        ({"private": "yes"}, "private"),
        ({"ids": 1}, "ids"),
        ({"quality": 0.4}, "quality"),
    ],
)
def test_our_own_key_is_read_strictly(ours: dict[str, Any], param: str) -> None:
    assert refusal(cascade=ours).param == param
