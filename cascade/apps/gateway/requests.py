"""What clients ask for: OpenAI's two bodies in, a prompt and stream options out.

Every field is either understood, or harmless and passed over, or refused by name. Nothing is ignored that
would change the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...device import Objective, Policy
from .failures import bad_request, unsupported
from .fields import read_choice, read_flag, read_int, read_number, read_object, read_texts

__all__ = ["Ask", "read_chat", "read_completion"]

MAX_STOPS = 16
MAX_SEED = 2**64 - 1
COMPLETION_TOKENS = 16
"""OpenAI's default for plain completions."""
DEFAULT_HINTS = 4
"""Guesses between two verdicts with ask-and-wait."""

Message = Mapping[str, str]

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""OpenAI's role -> the one that chat templates know."""

SHARED = (
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "max_tokens",
    "cascade",
)
OURS = ("top_k", "min_p")
"""Not OpenAI's; llama.cpp and vLLM call them so, too."""
HARMLESS = (
    "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier",
    "parallel_tool_calls", "tool_choice", "function_call",
)  # fmt: skip
"""They change no answer, or none without a field that is refused."""
REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda value: value == 1, "one answer a request; ask several times, with another seed each"),
    "best_of": (lambda value: value == 1, "one answer a request"),
    "presence_penalty": (lambda value: value == 0, "the target's tokens are picked as they are"),
    "frequency_penalty": (lambda value: value == 0, "the target's tokens are picked as they are"),
    "logit_bias": (lambda value: value == {}, "the target's tokens are picked as they are"),
    "top_logprobs": (lambda value: value == 0, "the edge sends the log-probability of its own token only"),
    "response_format": (lambda value: value == {"type": "text"}, "answers are plain text"),
    "tools": (lambda value: value == [], "there are no tool calls"),
    "functions": (lambda value: value == [], "there are no function calls"),
    "modalities": (lambda value: value == ["text"], "answers are plain text"),
    "audio": (lambda value: False, "answers are plain text"),
    "prediction": (lambda value: False, "the device's own draft predicts"),
    "reasoning_effort": (lambda value: value == "none", "the model has no such setting"),
    "verbosity": (lambda value: False, "the model has no such setting"),
    "web_search_options": (lambda value: False, "there is no search"),
    "store": (lambda value: value is False, "nothing is stored"),
    "echo": (lambda value: value is False, "the prompt is not repeated"),
    "suffix": (lambda value: value == "", "text is only added at the end"),
}
"""Field -> whether a value means "off", and why it cannot be on."""

MODES = ("hint-driven", "cloud", "ask-and-wait")
CASCADE_FIELDS = ("mode", "hints", "objective", "quality", "private", "ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that makes sense."""

    is_chat: bool
    model: str
    """As the client wrote it; empty where it named none."""
    prompt: str | Sequence[int] | Sequence[Message]
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    stop: tuple[str, ...]
    policy: Policy | None
    quality: float
    """1: every token is the target's own."""
    is_private: bool
    is_streamed: bool
    includes_usage: bool
    has_logprobs: bool
    """Of each token, as the target's model has it."""
    includes_ids: bool
    """The first chunk of a stream brings the prompt's token ids."""


def read_chat(content: Mapping[str, Any], *, default_max_tokens: int) -> Ask:
    """The body of `/v1/chat/completions`."""
    _check_fields(content, (*SHARED, *OURS, "messages", "max_completion_tokens", "logprobs"))
    newer, older = read_int(content, "max_completion_tokens", low=1), read_int(content, "max_tokens", low=1)
    return _read(
        content,
        prompt=_messages(content),
        max_new_tokens=newer or older or default_max_tokens,
        has_logprobs=read_flag(content, "logprobs"),
    )


def read_completion(content: Mapping[str, Any]) -> Ask:
    """The body of `/v1/completions`."""
    _check_fields(content, (*SHARED, *OURS, "prompt", "logprobs"))
    max_tokens = read_int(content, "max_tokens", low=1) or COMPLETION_TOKENS
    num_logprobs = read_int(content, "logprobs", low=0)
    if num_logprobs:
        raise unsupported("logprobs", "only 0 is: the edge sends the log-probability of its own token only")
    return _read(
        content,
        prompt=_plain_prompt(content),
        max_new_tokens=max_tokens,
        has_logprobs=num_logprobs is not None,
    )


def _read(
    content: Mapping[str, Any],
    *,
    prompt: str | Sequence[int] | Sequence[Message],
    max_new_tokens: int,
    has_logprobs: bool,
) -> Ask:
    model, seed = content.get("model"), read_int(content, "seed")
    if model is not None and not isinstance(model, str):
        raise bad_request("model", "model must be a text", "invalid_type")
    is_streamed = read_flag(content, "stream")
    stream_options = read_object(content, "stream_options")
    if stream_options and not is_streamed:
        raise bad_request("stream_options", "stream_options needs stream to be true")
    ours = read_object(content, "cascade")
    policy, is_private = _ours(ours)
    quality = read_number(ours, "quality", 1.0, low=0.5, high=1)
    if has_logprobs and (is_private or quality < 1):
        raise unsupported(
            "logprobs", "with cascade.private, or cascade.quality below 1, not all of them exist"
        )
    return Ask(
        is_chat="messages" in content,
        model=model or "",
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        temperature=read_number(content, "temperature", 1.0, low=0, high=2),
        top_p=read_number(content, "top_p", 1.0, low=0, high=1),
        top_k=read_int(content, "top_k", low=0) or 0,
        min_p=read_number(content, "min_p", 0.0, low=0, high=1),
        seed=None if seed is None else seed & MAX_SEED,  # OpenAI's are signed
        stop=read_texts(content, "stop", most=MAX_STOPS),
        policy=policy,
        quality=quality,
        is_private=is_private,
        is_streamed=is_streamed,
        includes_usage=read_flag(stream_options, "include_usage"),
        has_logprobs=has_logprobs,
        includes_ids=read_flag(ours, "ids"),
    )


def _check_fields(content: Mapping[str, Any], known: Sequence[str]) -> None:
    for name, value in content.items():
        if name in known or name in HARMLESS:
            continue
        if name not in REFUSED:
            text = f"there is no field {str(name)[:64]!r}"
            raise bad_request(str(name)[:64], text, "unknown_parameter")
        is_off, reason = REFUSED[name]
        if value is not None and not is_off(value):
            raise unsupported(name, reason)


def _messages(content: Mapping[str, Any]) -> list[Message]:
    messages = content.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request(
            "messages", 'messages must be a list such as [{"role": "user", "content": "Hello"}]'
        )
    return [_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _message(where: str, message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise bad_request(where, f"{where} must be an object", "invalid_type")
    for name in ("tool_calls", "function_call", "tool_call_id", "audio", "refusal"):
        if message.get(name):
            raise unsupported(f"{where}.{name}", "messages are plain text")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise bad_request(f"{where}.role", f"{where}.role must be one of {', '.join(ROLES)}")
    return {"role": ROLES[role], "content": _text(f"{where}.content", message.get("content"))}


def _text(where: str, content: Any) -> str:
    """A message's text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise bad_request(where, f"{where} must be a text, or a list of text parts", "invalid_type")
    texts = []
    for part in content:
        if part.get("type") != "text":
            raise unsupported(f"{where}.{str(part.get('type'))[:32]}", "messages are plain text")
        if not isinstance(part.get("text"), str):
            raise bad_request(where, f"{where} has a part without text", "invalid_type")
        texts.append(part["text"])
    return "".join(texts)


def _plain_prompt(content: Mapping[str, Any]) -> str | list[int]:
    """A text, token ids, or a list with one of either."""
    prompt = content.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise unsupported("prompt", "one prompt a request; ask several times")
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return prompt
    raise bad_request("prompt", "prompt must be a text or a list of token ids, not empty", "invalid_type")


def _ours(content: Mapping[str, Any]) -> tuple[Policy | None, bool]:
    """The key `cascade`: how to decode. Only `quality` and `private` change the text."""
    for name in content:
        if name not in CASCADE_FIELDS:
            text = f"cascade has no {str(name)[:64]!r}; there are {', '.join(CASCADE_FIELDS)}"
            raise bad_request(f"cascade.{str(name)[:64]}", text, "unknown_parameter")
    mode = read_choice(content, "mode", MODES, shown="cascade.mode")
    objectives = [objective.value for objective in Objective]
    objective = read_choice(content, "objective", objectives, shown="cascade.objective")
    hints = read_int(content, "hints", low=1)
    is_private = read_flag(content, "private")
    match mode:
        case "cloud":
            return Policy.cloud(), is_private
        case "ask-and-wait":
            return Policy.ask_and_wait(hints or DEFAULT_HINTS), is_private
        case _ if content.get("objective") is None:
            return None, is_private  # whatever suits this device: one without a draft cannot hint
        case _:
            return Policy.adaptive(Objective(objective)), is_private
