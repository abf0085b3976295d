"""The messages of the protocol, as plain records.

Every message stands alone: it means the same whatever was lost, doubled or reordered before it.
`docs/wire.md` says what each is for and how it looks in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final, TypeAlias, TypeVar, dataclass_transform

__all__ = [
    "MAX_HINT_TOKENS",
    "MAX_STOP_IDS",
    "MAX_TOKENS",
    "PROTOCOL_VERSION",
    "Close",
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

PROTOCOL_VERSION: Final = 1
MAX_TOKENS: Final = 1 << 18
"""Most tokens in one OPEN, KEEP or COMMIT."""
MAX_HINT_TOKENS: Final = 4096
"""Most tokens in one HINT: far above any useful draft, far below what would hurt the edge."""
MAX_STOP_IDS: Final = 256

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A keyword-only, slotted, hashable dataclass that is frozen for type checkers only.

    Freezing it at run time too would make each record more than twice as slow to build, and the
    codec builds one per message.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)


class Pen(IntEnum):
    """Who may decide behind the last token of a KEEP."""

    EDGE = 0
    DEVICE = 1


class ErrorCode(IntEnum):
    """Why the other side said no."""

    VERSION = 1
    UNAUTHORIZED = 2
    VOCABULARY = 3
    MODEL = 4
    UNKNOWN_SESSION = 5
    SETTINGS_DIFFER = 6
    LIMIT = 7
    OVERLOADED = 8
    CONTEXT = 9
    BAD_MESSAGE = 10
    INTERNAL = 11
    DRAINING = 12
    CLOSED = 13


class Feature(IntFlag):
    """What an edge's engine may lack, and a session may demand. The others are the same everywhere."""

    NONE = 0
    SHARED_NOISE = 1
    """Above temperature 0 the seed decides the text, with the noise that the device draws, too."""
    KEEP = 2
    LOGPROBS = 4

    @property
    def reason(self) -> str:
        """Why a session that demands this is refused, where it is lacking."""
        return "; ".join(text for feature, text in _WITHOUT.items() if feature in self)


_WITHOUT: Final = {
    Feature.SHARED_NOISE: "this edge has no shared noise: above temperature 0 the seed decides nothing here; "
    "ask at temperature 0, or say any_noise=True",
    Feature.KEEP: "this edge takes no kept tokens (KEEP); ask with quality=1 and on_disconnect='wait'",
    Feature.LOGPROBS: "this edge gives no log-probabilities; ask without logprobs",
}


@record
class Hello:
    """The device introduces itself. `model` may be empty: any model will do.

    So may `vocab_fingerprint`, with `vocab_size` 0: the device has no vocabulary yet, and takes the edge's.
    """

    version: int
    identity: str
    token: str = field(repr=False)  # a secret; it must not reach a log
    model: str
    vocab_fingerprint: str
    vocab_size: int


@record
class Limits:
    """What the edge allows one device."""

    max_sessions: int
    run_ahead: int
    context_length: int
    max_message_bytes: int


@record
class Welcome:
    """The edge's answer to HELLO. Sessions fail over only between edges of equal `numerics`.

    What it `lacks` is refused to whoever demands it.
    """

    version: int
    edge: str
    model: str
    vocab_fingerprint: str
    vocab_size: int
    numerics: str
    limits: Limits
    lacks: Feature = Feature.NONE


@record
class Open:
    """Open a session, or resume it: `tokens` is the prompt plus all that is committed.

    `top_k` 0, `top_p` 1 and `min_p` 0 each mean no cut. `wants_logprobs`: of every token committed.
    `takes_any_noise`: above temperature 0 an edge without shared noise will do.
    """

    session: bytes
    alias: int
    generation: int
    tokens: tuple[int, ...]
    prompt_length: int
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    stop_ids: tuple[int, ...]
    patience_s: float
    wants_logprobs: bool = False
    takes_any_noise: bool = False


@record
class Hint:
    """Tokens the device thinks will follow `position`; commits are known to it up to `known`.

    Without tokens it is an acknowledgement when `position == known`, and when `position > known`
    it asks the edge to repeat its commits from `known` on; `prefix_hash` is then not sent and arrives as 0.
    `patience_ms` is a new wish for patience, in place of the one of OPEN.
    """

    alias: int
    generation: int
    position: int
    prefix_hash: int
    tokens: tuple[int, ...]
    known: int
    stamp_ms: int | None = None
    patience_ms: int | None = None


@record
class Keep:
    """Tokens from `position` on, at least one. The device has decided by itself those that it flags `kept`,
    and guesses at the others. All of it holds on condition that what stands before it does; `prefix_hash`,
    here with 32 bits, says what that is.

    `raised` is how far the generation is above that of the last OPEN. A KEEP that raises it overrules what
    the edge said from `position` on. `known`, `stamp_ms` and `patience_ms` are those of HINT.

    `leniency`, in 256ths: a guess may stay that is not the edge's own pick, if it is nearly as good.
    """

    alias: int
    generation: int
    position: int
    prefix_hash: int
    tokens: tuple[int, ...]
    kept: tuple[bool, ...]
    known: int
    pen: Pen = Pen.EDGE
    raised: int = 0
    stamp_ms: int | None = None
    patience_ms: int | None = None
    leniency: int = 0


@record
class Commit:
    """Tokens the edge decided, from `position` on; `num_hinted` of them were hinted.

    `verdict` has one flag for each token: whether it is the edge's own pick, given all before it; None: all
    of them are. `echo_ms` is the newest stamp, `held_ms` the time it lay at the edge before this commit.
    `logprobs` has one number per token, in float32 precision, where OPEN asked for them: of the token under
    the model itself, without temperature and cuts.
    """

    alias: int
    generation: int
    position: int
    tokens: tuple[int, ...]
    num_hinted: int = 0
    verdict: tuple[bool, ...] | None = None
    echo_ms: int | None = None
    held_ms: int | None = None
    queue_ms: int | None = None
    step_ms: int | None = None
    logprobs: tuple[float, ...] | None = None


@record
class Close:
    """The device is done with a session and knows its commits up to `known`."""

    alias: int
    generation: int
    known: int


@record
class Move:
    """This edge is draining: be with `edge` (empty: any other) within `deadline_ms`."""

    edge: str
    deadline_ms: int


@record
class Ping:
    """Asks for a PONG with the same nonce."""

    nonce: int


@record
class Pong:
    """Answers a PING."""

    nonce: int


@record
class Error:
    """Something was refused; about the whole link when `alias` is None."""

    code: ErrorCode
    text: str
    alias: int | None = None
    generation: int | None = None
    retry_after_ms: int | None = None


Message: TypeAlias = Hello | Welcome | Open | Hint | Keep | Commit | Close | Move | Ping | Pong | Error
