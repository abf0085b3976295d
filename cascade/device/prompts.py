"""What an app may ask with: token ids, a text, or a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ..errors import ModelError, SettingsError
from ..models.text import TextTokenizer
from ..settings import check_int

__all__ = ["ChatMessage", "Prompt", "check_message", "next_turn", "prompt_ids"]

ChatMessage: TypeAlias = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": "..."}`"""
Prompt: TypeAlias = str | Sequence[int] | Sequence[ChatMessage]

PLACEHOLDER = "answer8c1f2e"
"""Stands for the assistant's words while the template writes what comes after them."""


def prompt_ids(prompt: Prompt, tokenizer: TextTokenizer | None, vocab_size: int) -> tuple[int, ...]:
    """The token ids of a prompt."""
    if not prompt:
        raise SettingsError("prompt", "is empty; give at least one token")
    if isinstance(prompt, str):
        ids: Sequence[int] = _needed(tokenizer).encode(prompt, special=True)
    elif isinstance(prompt[0], Mapping):
        messages = [check_message(message) for message in prompt]
        ids = _needed(tokenizer).chat(messages)
    else:
        ids = [token for token in prompt if not isinstance(token, Mapping)]
        if len(ids) < len(prompt):
            raise SettingsError("prompt", "mixes token ids and messages; give either")
    for token in ids:
        check_int("prompt", token, low=0, high=vocab_size - 1)
    return tuple(ids)


def check_message(message: object) -> ChatMessage:
    """A message of a conversation, as templates want it."""
    if not isinstance(message, Mapping) or not all(
        isinstance(message.get(key), str) for key in ("role", "content")
    ):
        raise SettingsError("prompt", 'every message is {"role": "user", "content": "..."}, both texts')
    return message


def next_turn(
    tokenizer: TextTokenizer, messages: Sequence[ChatMessage], message: ChatMessage, last_token: int | None
) -> list[int]:
    """The ids that the template puts between an answer and the next one: its end, and the new message.

    `messages` ends with the answer. What was said before is not tokenised again, which might give other ids
    than those the model saw. `last_token` ends the answer already if it is what the template writes there.
    """
    before = [*messages[:-1], {**messages[-1], "content": PLACEHOLDER}]
    text = tokenizer.chat_text([*before, message])
    if text.count(PLACEHOLDER) != 1:
        raise ModelError(
            "the model's chat template does not repeat an assistant's answer as it was, so turns cannot be "
            "added to a conversation; give the whole of it to device.stream() at every turn"
        )
    ids = tokenizer.encode(text.partition(PLACEHOLDER)[2])
    return ids[1:] if last_token in tokenizer.eos_ids and ids[:1] == [last_token] else ids


def _needed(tokenizer: TextTokenizer | None) -> TextTokenizer:
    if tokenizer is None:
        raise SettingsError(
            "prompt",
            "this device has no tokenizer, so it takes token ids only; give one, tokenizer=FOLDER, "
            "or a draft whose folder has one",
        )
    return tokenizer
