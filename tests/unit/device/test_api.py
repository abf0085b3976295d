"""What an app holds: options are keywords, settings are frozen, every figure that was promised is there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cascade import Device, Summary, Token
from cascade.device import AnswerStream, Chat, Policy, ReconnectSettings, Vocabulary
from cascade.device.options import StreamSettings

IN_ORDER = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@pytest.mark.parametrize(
    ("function", "in_order"),
    [
        (Device.__init__, ["self", "edges"]),
        (Device.connect, []),  # the addresses, as many as there are
        (Device.stream, ["self", "prompt"]),
        (Device.generate, ["self", "prompt"]),
        (Device.chat, ["self"]),
        (Chat.stream, ["self", "content"]),
        (Chat.generate, ["self", "content"]),
    ],
)
def test_options_are_keywords(function: Callable[..., Any], in_order: list[str]) -> None:
    parameters = inspect.signature(function).parameters.values()
    assert [one.name for one in parameters if one.kind in IN_ORDER] == in_order


@pytest.mark.parametrize("settings", [Policy, ReconnectSettings, StreamSettings, Summary, Vocabulary])
def test_settings_are_keywords_and_frozen(settings: Any) -> None:
    assert all(field.kw_only for field in dataclasses.fields(settings))
    assert settings.__dataclass_params__.frozen
    assert "__slots__" in vars(settings)


def test_a_token_and_a_summary_tell_what_was_promised() -> None:
    assert {field.name for field in dataclasses.fields(Token)} >= {
        "agreement", "id", "position", "source", "text", "time_s",
    }  # fmt: skip
    told = {field.name for field in dataclasses.fields(Summary)} | {"tokens_per_pass", "estimated_speedup"}
    assert told >= {
        "time_to_first_token_s", "time_per_token_s", "tokens_per_pass", "bytes_up", "bytes_down",
        "rtt_s", "jitter_s", "bandwidth_bytes_per_s", "loss",  # the link
        "edge_pass_s", "edge_queue_s", "draft_step_s", "device_load",  # the load
        "estimated_cloud_s_per_token", "estimated_speedup",
    }  # fmt: skip


def test_a_stream_can_be_read_left_and_cancelled() -> None:
    assert {"__aiter__", "__aenter__", "__aexit__", "cancel", "join", "summary", "text", "tokens"} <= set(
        dir(AnswerStream)
    )
