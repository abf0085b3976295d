"""What an OPEN asks for, or why it cannot be had: a pure decision, before anything else looks at it."""

from __future__ import annotations

from ..decoding import Sampling
from ..errors import SettingsError
from ..wire import ErrorCode, Open
from .admission import Refusal
from .interface import DecodeRequest, Served

__all__ = ["read_request"]


def read_request(message: Open, served: Served) -> DecodeRequest | Refusal:
    """The part of an OPEN that decides the text, or why it is refused."""
    if not 1 <= message.prompt_length <= len(message.tokens):
        text = "the prompt is empty, or longer than the tokens sent"
        return Refusal(ErrorCode.BAD_MESSAGE, text)
    context_length = served.context_length
    if message.prompt_length >= context_length:
        text = f"a prompt of {message.prompt_length} tokens fills the context of {context_length}"
        return Refusal(ErrorCode.CONTEXT, text)
    try:
        sampling = Sampling(
            temperature=message.temperature,
            top_k=message.top_k,
            top_p=message.top_p,
            min_p=message.min_p,
            seed=message.seed,
        )
    except SettingsError as error:
        return Refusal(ErrorCode.BAD_MESSAGE, str(error))
    request = DecodeRequest(
        prompt=message.tokens[: message.prompt_length],
        sampling=sampling,
        stop_ids=frozenset(message.stop_ids),
        length_limit=min(message.prompt_length + message.max_new_tokens, context_length),
        wants_logprobs=message.wants_logprobs,
        takes_any_noise=message.takes_any_noise,
    )
    if missing := request.demands & served.lacks:
        return Refusal(ErrorCode.LIMIT, missing.reason)
    if len(message.tokens) > request.length_limit:
        return Refusal(ErrorCode.LIMIT, "more tokens sent than the session may have")
    return request
