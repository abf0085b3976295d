"""The layouts of the messages of a session: OPEN, HINT, KEEP, COMMIT, CLOSE."""

from __future__ import annotations

from typing import Final

from ..errors import WireError
from .fields import U8, U32, U64, blob, number, optional, whole
from .layout import Field, Layout, Values, plain
from .messages import MAX_HINT_TOKENS, MAX_STOP_IDS, MAX_TOKENS, Close, Commit, Hint, Keep, Open, Pen
from .packing import TokenPacker, pack_floats, pack_marks, unpack_floats, unpack_marks

__all__ = ["STREAM_LAYOUTS"]

_COUNT: Final = whole(0, U32)  # generations, positions, lengths, milliseconds
_CHANCE: Final = number(0, 1)
_ALIAS: Final = Field("alias", whole(0, U8))
_GENERATION: Final = Field("generation", _COUNT)
_POSITION: Final = Field("position", _COUNT)
_TOKENS: Final = blob(0, None, f"at most {MAX_TOKENS} tokens")
_HASH_BYTES: Final = 2  # at the beginning of a guess
_KEEP_HASH_BYTES: Final = 4
"""A guess that is taken for another's costs a little time; a kept token would change the text."""
_USUAL_OWN: Final = 1  # all tokens but the last were hinted, or one was driven


def _lower_open(message: Open, packer: TokenPacker) -> Values:
    return (
        3,
        message.session,
        message.alias,
        message.generation,
        packer.pack(message.tokens, "OPEN.tokens"),
        message.prompt_length,
        message.max_new_tokens,
        message.temperature,
        message.top_k,
        message.top_p,
        message.min_p,
        message.seed,
        packer.pack(message.stop_ids, "OPEN.stop_ids", MAX_STOP_IDS),
        message.patience_s,
        int(message.wants_logprobs),
        int(message.takes_any_noise),
    )


def _relate_open(values: Values, width: int) -> None:
    if values[5] * width > len(values[4]):
        raise WireError("OPEN.prompt_length: must not be above the number of tokens")


def _lift_open(values: Values, packer: TokenPacker) -> Open:
    return Open(
        session=values[1],
        alias=values[2],
        generation=values[3],
        tokens=packer.unpack(values[4], "OPEN.tokens"),
        prompt_length=values[5],
        max_new_tokens=values[6],
        # A language with one kind of number may have written 1.0 as 1.
        temperature=float(values[7]),
        top_k=values[8],
        top_p=float(values[9]),
        min_p=float(values[10]),
        seed=values[11],
        stop_ids=packer.unpack(values[12], "OPEN.stop_ids", MAX_STOP_IDS),
        patience_s=float(values[13]),
        wants_logprobs=bool(values[14]),
        takes_any_noise=bool(values[15]),
    )


def _pack_guess(tokens: Values, prefix_hash: int, packer: TokenPacker, name: str, hash_bytes: int) -> bytes:
    """The prefix hash, then the tokens; nothing at all without tokens, for then no one asks for the hash."""
    packed = packer.pack(tokens, f"{name}.tokens", MAX_HINT_TOKENS)
    if not packed:
        return b""
    if type(prefix_hash) is not int or not 0 <= prefix_hash < 1 << 8 * hash_bytes:
        raise WireError(f"{name}.prefix_hash: expected integer of {hash_bytes} bytes")
    return prefix_hash.to_bytes(hash_bytes, "little") + packed


def _unpack_guess(
    guess: bytes, packer: TokenPacker, name: str, hash_bytes: int
) -> tuple[int, tuple[int, ...]]:
    """The prefix hash and the tokens."""
    if len(guess) <= hash_bytes:
        or_empty = ", or be empty" if name == "HINT" else ""
        raise WireError(f"{name}.guess: must have tokens behind the hash{or_empty}")
    tokens = packer.unpack(guess, f"{name}.guess", MAX_HINT_TOKENS, hash_bytes)
    return int.from_bytes(guess[:hash_bytes], "little"), tokens


def _lower_hint(message: Hint, packer: TokenPacker) -> Values:
    position = message.position
    return (
        4,
        message.alias,
        message.generation,
        position,
        _pack_guess(message.tokens, message.prefix_hash, packer, "HINT", _HASH_BYTES),
        position - message.known,
        message.stamp_ms,
        message.patience_ms,
    )


def _relate_hint(values: Values, width: int) -> None:
    if values[5] > values[3]:
        raise WireError("HINT.behind: must not be above the position")


def _relate_keep(values: Values, width: int) -> None:
    if values[6] > values[3]:
        raise WireError("KEEP.behind: must not be above the position")
    if values[8] > values[2]:
        raise WireError("KEEP.raised: must not be above the generation")


def _lift_hint(values: Values, packer: TokenPacker) -> Hint:
    _, alias, generation, position, guess, behind, stamp_ms, patience_ms = values
    prefix_hash, tokens = _unpack_guess(guess, packer, "HINT", _HASH_BYTES) if guess else (0, ())
    return Hint(
        alias=alias,
        generation=generation,
        position=position,
        prefix_hash=prefix_hash,
        tokens=tokens,
        known=position - behind,
        stamp_ms=stamp_ms,
        patience_ms=patience_ms,
    )


def _lower_keep(message: Keep, packer: TokenPacker) -> Values:
    position, tokens, kept = message.position, message.tokens, message.kept
    if not tokens:
        raise WireError("KEEP.tokens: must not be empty")
    if len(kept) != len(tokens):
        raise WireError("KEEP.kept: must have one flag for each token")
    return (
        5,
        message.alias,
        message.generation,
        position,
        _pack_guess(tokens, message.prefix_hash, packer, "KEEP", _KEEP_HASH_BYTES),
        pack_marks(kept),
        position - message.known,
        int(message.pen),
        message.raised,
        message.stamp_ms,
        message.patience_ms,
        message.leniency,
    )


def _lift_keep(values: Values, packer: TokenPacker) -> Keep:
    _, alias, generation, position, guess, kept, behind, pen, raised, stamp_ms, patience_ms, leniency = values
    prefix_hash, tokens = _unpack_guess(guess, packer, "KEEP", _KEEP_HASH_BYTES)
    return Keep(
        alias=alias,
        generation=generation,
        position=position,
        prefix_hash=prefix_hash,
        tokens=tokens,
        kept=unpack_marks(kept, len(tokens), "KEEP.kept"),
        known=position - behind,
        pen=Pen(pen),
        raised=raised,
        stamp_ms=stamp_ms,
        patience_ms=patience_ms,
        leniency=leniency,
    )


def _lower_commit(message: Commit, packer: TokenPacker) -> Values:
    verdict, logprobs = message.verdict, message.logprobs
    count, num_hinted = len(message.tokens), message.num_hinted
    if verdict is not None and len(verdict) != count:
        raise WireError("COMMIT.verdict: must have one flag for each token")
    if type(num_hinted) is not int or not 0 <= num_hinted <= count:
        raise WireError("COMMIT.num_hinted: expected integer from 0 to the number of tokens")
    return (
        6,
        message.alias,
        message.generation,
        message.position,
        packer.pack(message.tokens, "COMMIT.tokens"),
        count - num_hinted if count else _USUAL_OWN,
        None if verdict is None else pack_marks(verdict),
        message.echo_ms,
        message.held_ms,
        message.queue_ms,
        message.step_ms,
        None if logprobs is None else pack_floats(logprobs, "COMMIT.logprobs"),
    )


def _relate_commit(values: Values, width: int) -> None:
    num_bytes, own, logprobs = len(values[4]), values[5], values[11]
    if own > _USUAL_OWN and own * width > num_bytes:
        raise WireError("COMMIT.own: must not be above the number of tokens")
    if logprobs is not None and len(logprobs) * width != num_bytes * 4:
        raise WireError("COMMIT.logprobs: must be one for each token")


def _lift_commit(values: Values, packer: TokenPacker) -> Commit:
    (
        _,
        alias,
        generation,
        position,
        packed,
        own,
        verdict,
        echo_ms,
        held_ms,
        queue_ms,
        step_ms,
        logprobs,
    ) = values
    tokens = packer.unpack(packed, "COMMIT.tokens")
    return Commit(
        alias=alias,
        generation=generation,
        position=position,
        tokens=tokens,
        num_hinted=max(0, len(tokens) - own),
        verdict=None if verdict is None else unpack_marks(verdict, len(tokens), "COMMIT.verdict"),
        echo_ms=echo_ms,
        held_ms=held_ms,
        queue_ms=queue_ms,
        step_ms=step_ms,
        logprobs=None if logprobs is None else unpack_floats(logprobs, "COMMIT.logprobs"),
    )


STREAM_LAYOUTS: Final = (
    Layout(
        3,
        Open,
        (
            Field("session", blob(1, 32, "1 to 32 bytes")),
            _ALIAS,
            _GENERATION,
            Field("tokens", _TOKENS),
            Field("prompt_length", _COUNT),
            Field("max_new_tokens", _COUNT),
            Field("temperature", number(0, 100)),
            Field("top_k", _COUNT),
            Field("top_p", _CHANCE),
            Field("min_p", _CHANCE),
            Field("seed", whole(0, U64)),
            Field("stop_ids", blob(0, None, f"at most {MAX_STOP_IDS} tokens")),
            Field("patience_s", number(0, 86400)),
            Field("wants_logprobs", whole(0, 1), 0),
            Field("takes_any_noise", whole(0, 1), 0),
        ),
        _lower_open,
        _lift_open,
        _relate_open,
    ),
    Layout(
        4,
        Hint,
        (
            _ALIAS,
            _GENERATION,
            _POSITION,
            Field(
                "guess", blob(0, None, f"prefix hash and at most {MAX_HINT_TOKENS} tokens, or nothing"), b""
            ),
            Field("behind", _COUNT, 0),
            Field("stamp_ms", optional(_COUNT), None),
            Field("patience_ms", optional(_COUNT), None),
        ),
        _lower_hint,
        _lift_hint,
        _relate_hint,
    ),
    Layout(
        5,
        Keep,
        (
            _ALIAS,
            _GENERATION,
            _POSITION,
            Field("guess", blob(0, None, f"prefix hash and at most {MAX_HINT_TOKENS} tokens")),
            Field("kept", blob(0, None, "packed flags")),
            Field("behind", _COUNT, 0),
            Field("pen", whole(min(Pen), max(Pen)), int(Pen.EDGE)),
            Field("raised", _COUNT, 0),
            Field("stamp_ms", optional(_COUNT), None),
            Field("patience_ms", optional(_COUNT), None),
            Field("leniency", whole(0, U8), 0),
        ),
        _lower_keep,
        _lift_keep,
        _relate_keep,
    ),
    Layout(
        6,
        Commit,
        (
            _ALIAS,
            _GENERATION,
            _POSITION,
            Field("tokens", _TOKENS, b""),
            Field("own", _COUNT, _USUAL_OWN),
            Field("verdict", optional(blob(0, None, "packed flags")), None),
            Field("echo_ms", optional(_COUNT), None),
            Field("held_ms", optional(_COUNT), None),
            Field("queue_ms", optional(_COUNT), None),
            Field("step_ms", optional(_COUNT), None),
            Field("logprobs", optional(blob(0, None, "packed float32")), None),
        ),
        _lower_commit,
        _lift_commit,
        _relate_commit,
    ),
    plain(7, Close, _ALIAS, _GENERATION, Field("known", _COUNT)),
)
