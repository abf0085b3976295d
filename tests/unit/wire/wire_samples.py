"""Messages to test with: one rich sample of each, and strategies for all of them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from cascade.wire import (
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

VOCAB_SIZE = 49_152

SAMPLES: tuple[Message, ...] = (
    Hello(
        version=1,
        identity="kettle-7",
        token="s3cret",
        model="",
        vocab_fingerprint="smol:9f2c",
        vocab_size=VOCAB_SIZE,
    ),
    Welcome(
        version=1,
        edge="hall",
        model="smol-1.7b",
        vocab_fingerprint="smol:9f2c",
        vocab_size=VOCAB_SIZE,
        numerics="5be1:bf16:exact",
        limits=Limits(max_sessions=64, run_ahead=256, context_length=8192, max_message_bytes=1 << 20),
        lacks=Feature.KEEP | Feature.LOGPROBS,
    ),
    Open(
        session=b"\xa1\xb2\xc3\xd4",
        alias=3,
        generation=2,
        tokens=(1, 4093, 288, 2),
        prompt_length=3,
        max_new_tokens=256,
        temperature=0.7,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        seed=(1 << 64) - 1,
        stop_ids=(2, 0),
        patience_s=0.25,
        wants_logprobs=True,
        takes_any_noise=True,
    ),
    Hint(
        alias=3,
        generation=2,
        position=412,
        prefix_hash=0xB3C1,
        tokens=(318, 257),
        known=405,
        stamp_ms=4000,
        patience_ms=110,
    ),
    Keep(
        alias=200,
        generation=3,
        position=412,
        prefix_hash=0xB3C1_0042,
        tokens=(318, 257),
        kept=(False, True),
        known=405,
        pen=Pen.DEVICE,
        raised=1,
        stamp_ms=4000,
        patience_ms=110,
        leniency=64,
    ),
    Commit(
        alias=3,
        generation=2,
        position=412,
        tokens=(318, 257),
        num_hinted=0,
        verdict=(True, False),
        echo_ms=4000,
        held_ms=12,
        queue_ms=0,
        step_ms=50,
        logprobs=(-0.5, -2.25),
    ),
    Close(alias=3, generation=2, known=415),
    Move(edge="attic", deadline_ms=5000),
    Ping(nonce=77),
    Pong(nonce=77),
    Error(code=ErrorCode.OVERLOADED, text="später", alias=3, generation=2, retry_after_ms=1500),
)


def examples(count: int) -> settings:
    """So many examples, the same ones at every run, however slow the machine is."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


U8 = st.integers(0, (1 << 8) - 1)
U16 = st.integers(0, (1 << 16) - 1)
U32 = st.integers(0, (1 << 32) - 1)
CHANCE = st.floats(0, 1)
LOGPROB = st.floats(-1e6, 0, width=32)
MAYBE_U32 = st.none() | U32


def text(num_bytes: int) -> st.SearchStrategy[str]:
    return st.text(max_size=min(num_bytes // 4, 40))  # a character has at most four bytes


def token_lists(vocab_size: int, max_size: int = 80) -> st.SearchStrategy[tuple[int, ...]]:
    ids = st.integers(0, vocab_size - 1) | st.just(vocab_size - 1)
    return st.lists(ids, max_size=max_size).map(tuple)


@st.composite
def opens(draw: st.DrawFn, vocab_size: int) -> Open:
    tokens = draw(token_lists(vocab_size))
    return Open(
        session=draw(st.binary(min_size=1, max_size=32)),
        alias=draw(U8),
        generation=draw(U32),
        tokens=tokens,
        prompt_length=draw(st.integers(0, len(tokens))),
        max_new_tokens=draw(U32),
        temperature=draw(st.floats(0, 100)),
        top_k=draw(U32),
        top_p=draw(CHANCE),
        min_p=draw(CHANCE),
        seed=draw(st.integers(0, (1 << 64) - 1)),
        stop_ids=draw(token_lists(vocab_size, 10)),
        patience_s=draw(st.floats(0, 86_400)),
        wants_logprobs=draw(st.booleans()),
        takes_any_noise=draw(st.booleans()),
    )


@st.composite
def hints(draw: st.DrawFn, vocab_size: int) -> Hint:
    position = draw(U32)
    tokens = draw(token_lists(vocab_size))
    return Hint(
        alias=draw(U8),
        generation=draw(U32),
        position=position,
        prefix_hash=draw(U16) if tokens else 0,  # not sent without tokens
        tokens=tokens,
        known=draw(st.integers(0, position) | st.just(position)),
        stamp_ms=draw(MAYBE_U32),
    )


def flags_for(tokens: tuple[int, ...]) -> st.SearchStrategy[tuple[bool, ...]]:
    return st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)).map(tuple)


@st.composite
def keeps(draw: st.DrawFn, vocab_size: int) -> Keep:
    tokens = draw(token_lists(vocab_size).filter(len))
    position, generation = draw(U32), draw(U32)
    return Keep(
        alias=draw(U8),
        generation=generation,
        position=position,
        prefix_hash=draw(U32),
        tokens=tokens,
        kept=draw(flags_for(tokens)),
        known=draw(st.integers(0, position)),
        pen=draw(st.sampled_from(Pen)),
        raised=draw(st.integers(0, generation)),
        stamp_ms=draw(MAYBE_U32),
        patience_ms=draw(MAYBE_U32),
        leniency=draw(U8),
    )


@st.composite
def commits(draw: st.DrawFn, vocab_size: int) -> Commit:
    tokens = draw(token_lists(vocab_size))
    logprobs = st.lists(LOGPROB, min_size=len(tokens), max_size=len(tokens)).map(tuple)
    return Commit(
        alias=draw(U8),
        generation=draw(U32),
        position=draw(U32),
        tokens=tokens,
        num_hinted=draw(st.integers(0, len(tokens)) | st.just(max(0, len(tokens) - 1))),
        verdict=draw(st.none() | flags_for(tokens)),
        echo_ms=draw(MAYBE_U32),
        held_ms=draw(MAYBE_U32),
        queue_ms=draw(MAYBE_U32),
        step_ms=draw(MAYBE_U32),
        logprobs=draw(st.none() | logprobs),
    )


def messages(vocab_size: int) -> dict[type[Message], st.SearchStrategy[Message]]:
    """A strategy for each kind of message."""
    sizes = st.integers(1, 1 << 32)
    limits = st.builds(Limits, max_sessions=U32, run_ahead=U32, context_length=U32, max_message_bytes=U32)
    return {
        Hello: st.builds(
            Hello,
            version=U16,
            identity=text(128),
            token=text(4096),
            model=text(256),
            vocab_fingerprint=text(128),
            vocab_size=sizes,
        ),
        Welcome: st.builds(
            Welcome,
            version=U16,
            edge=text(128),
            model=text(256),
            vocab_fingerprint=text(128),
            vocab_size=sizes,
            numerics=text(256),
            limits=limits,
            lacks=st.sampled_from(Feature) | st.just(Feature.NONE),
        ),
        Open: opens(vocab_size),
        Hint: hints(vocab_size),
        Keep: keeps(vocab_size),
        Commit: commits(vocab_size),
        Close: st.builds(Close, alias=U8, generation=U32, known=U32),
        Move: st.builds(Move, edge=text(128), deadline_ms=U32),
        Ping: st.builds(Ping, nonce=U32),
        Pong: st.builds(Pong, nonce=U32),
        Error: st.builds(
            Error,
            code=st.sampled_from(ErrorCode),
            text=text(1024),
            alias=st.none() | U8,
            generation=MAYBE_U32,
            retry_after_ms=MAYBE_U32,
        ),
    }
