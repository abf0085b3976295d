"""Messages and their bytes: bytes in, records out, and no I/O.

`Codec` writes and reads the records of `messages`; `hashing` is the prefix hash that hints carry.
The bytes are described in `docs/wire.md`.
"""

from .codec import Codec
from .messages import (
    MAX_HINT_TOKENS,
    MAX_STOP_IDS,
    MAX_TOKENS,
    PROTOCOL_VERSION,
    Close,
    Commit,
    Error,
    ErrorCode,
    Feature,
    Hello,
    Hint,
    Keep,
    Limits,
    Message,
    Move,
    Open,
    Pen,
    Ping,
    Pong,
    Welcome,
)

__all__ = [
    "MAX_HINT_TOKENS",
    "MAX_STOP_IDS",
    "MAX_TOKENS",
    "PROTOCOL_VERSION",
    "Close",
    "Codec",
    "Commit",
    "Error",
    "ErrorCode",
    "Feature",
    "Hello",
    "Hint",
    "Keep",
    "Limits",
    "Message",
    "Move",
    "Open",
    "Pen",
    "Ping",
    "Pong",
    "Welcome",
]
