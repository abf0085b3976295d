"""The layouts of the messages about a link: HELLO, WELCOME, MOVE, PING, PONG, ERROR."""

from __future__ import annotations

from typing import Final

from .fields import U8, U16, U32, optional, text, whole
from .layout import Field, Layout, Values, plain
from .messages import Error, ErrorCode, Feature, Hello, Limits, Move, Ping, Pong, Welcome
from .packing import TokenPacker

__all__ = ["CONTROL_LAYOUTS"]

_COUNT: Final = whole(0, U32)
_VERSION: Final = Field("version", whole(0, U16))
_MODEL: Final = Field("model", text(256))
_FINGERPRINT: Final = Field("vocab_fingerprint", text(128))
_VOCAB_SIZE: Final = Field("vocab_size", whole(1, 1 << 32))
_ALL_FEATURES: Final = sum(Feature)
"""A later version may know of more; what nobody here demands, nobody here misses."""


def _lower_welcome(message: Welcome, _: TokenPacker) -> Values:
    limits = message.limits
    return (
        2,
        message.version,
        message.edge,
        message.model,
        message.vocab_fingerprint,
        message.vocab_size,
        message.numerics,
        limits.max_sessions,
        limits.run_ahead,
        limits.context_length,
        limits.max_message_bytes,
        int(message.lacks),
    )


def _lift_welcome(values: Values, _: TokenPacker) -> Welcome:
    _type, version, edge, model, fingerprint, vocab_size, numerics, *limits, lacks = values
    max_sessions, run_ahead, context_length, max_message_bytes = limits
    return Welcome(
        version=version,
        edge=edge,
        model=model,
        vocab_fingerprint=fingerprint,
        vocab_size=vocab_size,
        numerics=numerics,
        limits=Limits(
            max_sessions=max_sessions,
            run_ahead=run_ahead,
            context_length=context_length,
            max_message_bytes=max_message_bytes,
        ),
        lacks=Feature(lacks & _ALL_FEATURES),
    )


def _lower_error(message: Error, _: TokenPacker) -> Values:
    return (11, int(message.code), message.text, message.alias, message.generation, message.retry_after_ms)


def _lift_error(values: Values, _: TokenPacker) -> Error:
    _type, code, reason, alias, generation, retry_after_ms = values
    return Error(
        code=ErrorCode(code), text=reason, alias=alias, generation=generation, retry_after_ms=retry_after_ms
    )


CONTROL_LAYOUTS: Final = (
    plain(
        1,
        Hello,
        _VERSION,
        Field("identity", text(128)),
        Field("token", text(4096)),
        _MODEL,
        _FINGERPRINT,
        Field("vocab_size", whole(0, 1 << 32)),
    ),
    Layout(
        2,
        Welcome,
        (
            _VERSION,
            Field("edge", text(128)),
            _MODEL,
            _FINGERPRINT,
            _VOCAB_SIZE,
            Field("numerics", text(256)),
            Field("max_sessions", _COUNT),
            Field("run_ahead", _COUNT),
            Field("context_length", _COUNT),
            Field("max_message_bytes", _COUNT),
            Field("lacks", _COUNT, 0),
        ),
        _lower_welcome,
        _lift_welcome,
    ),
    plain(8, Move, Field("edge", text(128)), Field("deadline_ms", _COUNT)),
    plain(9, Ping, Field("nonce", _COUNT)),
    plain(10, Pong, Field("nonce", _COUNT)),
    Layout(
        11,
        Error,
        (
            Field("code", whole(min(ErrorCode), max(ErrorCode))),
            Field("text", text(1024)),
            Field("alias", optional(whole(0, U8)), None),
            Field("generation", optional(_COUNT), None),
            Field("retry_after_ms", optional(_COUNT), None),
        ),
        _lower_error,
        _lift_error,
    ),
)
