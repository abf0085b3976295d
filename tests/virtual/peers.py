"""Both sides of a conversation, for tests that speak one of them by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from cascade.device import AnswerStream, Device, Policy, ReconnectSettings
from cascade.edge import Authenticator, EdgeServer, EdgeSettings
from cascade.errors import LinkClosed
from cascade.events import Token
from cascade.links.base import Dialer, Link
from cascade.models.base import Feed, LanguageModel
from cascade.models.runner import constant_cost
from cascade.testing import MemoryListener, PacedRunner, SyntheticDraft, SyntheticTarget
from cascade.wire import PROTOCOL_VERSION, Codec, Commit, Hello, Hint, Limits, Message, Open, Welcome
from cascade.wire.text import HashedText

VOCAB_SIZE = 64
PASS_S = 0.02
DRAFT_S = 0.002
PROMPT = (5, 6, 7)

M = TypeVar("M")


def greedy(target: LanguageModel, prompt: Sequence[int], count: int) -> list[int]:
    """What the target says by itself at temperature 0."""
    sequence = target.new_sequence()
    fed, answer = list(prompt), []
    for _ in range(count):
        token = int(target.forward([Feed(sequence, fed, 1)])[0].argmax())
        answer.append(token)
        fed = [token]
    return answer


@contextlib.asynccontextmanager
async def edge_for(
    *listeners: MemoryListener,
    target: LanguageModel | None = None,
    pass_s: float = PASS_S,
    authenticate: Authenticator | None = None,
    **settings: Any,
) -> AsyncIterator[EdgeServer]:
    """An edge that serves these listeners."""
    server = EdgeServer.of(
        target or SyntheticTarget(vocab_size=VOCAB_SIZE),
        PacedRunner(constant_cost(pass_s)),
        settings=EdgeSettings(**settings),
        authenticate=authenticate,
    )
    async with server:
        for listener in listeners:
            server.listen(listener)
        yield server


def device_for(
    *dialers: Dialer,
    target: SyntheticTarget | None = None,
    draft: LanguageModel | None = None,
    agreement: float = 0.8,
    **options: Any,
) -> Device:
    """A device that dials these edges, with a synthetic draft beside it."""
    if draft is None:
        draft = SyntheticDraft(target or SyntheticTarget(vocab_size=VOCAB_SIZE), agreement=agreement)
    options.setdefault("seed", 3)
    options.setdefault("reconnect", ReconnectSettings(first_s=0.1, ceiling_s=0.5, silent_s=6.0))
    return Device(dialers, draft=draft, runner=PacedRunner(constant_cost(DRAFT_S)), **options)


async def read(stream: AnswerStream) -> list[Token]:
    return [token async for token in stream]


async def ask(device: Device, count: int = 40, *, policy: Policy | None = None) -> list[int]:
    """The ids of a whole answer."""
    stream = device.stream(PROMPT, max_new_tokens=count, policy=policy)
    return [token.id for token in await read(stream)]


def opening(**fields: Any) -> Open:
    """An OPEN with the fields that matter to a test."""
    plain: dict[str, Any] = {
        "session": b"session",
        "alias": 0,
        "generation": 1,
        "tokens": PROMPT,
        "prompt_length": len(PROMPT),
        "max_new_tokens": 40,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": 0,
        "stop_ids": (),
        "patience_s": 0.0,
    }
    return Open(**(plain | fields))


def hint(text: Sequence[int], guesses: Sequence[int] = (), *, known: int, **fields: Any) -> Hint:
    """A HINT of these guesses behind this text."""
    plain: dict[str, Any] = {"alias": 0, "generation": 1, "position": len(text)}
    return Hint(
        prefix_hash=HashedText(text).hash_before(len(text)) if guesses else 0,
        tokens=tuple(guesses),
        known=known,
        **(plain | fields),
    )


class Talker:
    """One end of a link, by hand."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._codec = Codec(VOCAB_SIZE)

    async def say(self, *messages: Message) -> None:
        for message in messages:
            await self.link.send(self._codec.encode(message))

    async def hear(self, kind: type[M], *, within_s: float = 5.0) -> M:
        """The next message of this kind; others are passed over."""
        async with asyncio.timeout(within_s):
            while True:
                message = self._codec.decode(await self.link.receive())
                if isinstance(message, kind):
                    return message

    async def hear_all(self, *, for_s: float) -> list[Message]:
        """All that comes within a time, or until the other side hangs up."""
        heard: list[Message] = []
        try:
            async with asyncio.timeout(for_s):
                while True:
                    heard.append(self._codec.decode(await self.link.receive()))
        except (TimeoutError, LinkClosed):
            return heard

    async def hear_text(self, count: int, *, start: int = len(PROMPT), within_s: float = 20.0) -> list[int]:
        """The committed tokens from `start` on, put together from commits."""
        text: list[int] = []
        async with asyncio.timeout(within_s):
            while len(text) < count:
                commit = await self.hear(Commit, within_s=within_s)
                num_known = start + len(text) - commit.position
                assert num_known >= 0, "a gap"
                text += commit.tokens[num_known:]
        return text


def greeting(**fields: Any) -> Hello:
    """A HELLO that the synthetic edge welcomes."""
    target = SyntheticTarget(vocab_size=VOCAB_SIZE)
    plain: dict[str, Any] = {
        "version": PROTOCOL_VERSION,
        "identity": "device",
        "token": "",
        "model": "",
        "vocab_fingerprint": target.vocab_fingerprint,
        "vocab_size": VOCAB_SIZE,
    }
    return Hello(**(plain | fields))


@contextlib.asynccontextmanager
async def talk_to(listener: MemoryListener, device: str = "device") -> AsyncIterator[Talker]:
    """Dial an edge and be welcomed."""
    talker = Talker(await listener.dial(device))
    try:
        await talker.say(greeting())
        await talker.hear(Welcome)
        yield talker
    finally:
        await talker.link.close()


async def welcome_device(listener: MemoryListener, **limits: int) -> Talker:
    """Be the edge: accept a device and welcome it."""
    talker = Talker(await listener.accept())
    await talker.hear(Hello)
    target = SyntheticTarget(vocab_size=VOCAB_SIZE)
    plain = {
        "max_sessions": 8,
        "run_ahead": 256,
        "context_length": 1 << 20,
        "max_message_bytes": 1 << 20,
    }
    await talker.say(
        Welcome(
            version=PROTOCOL_VERSION,
            edge="by hand",
            model="",
            vocab_fingerprint=target.vocab_fingerprint,
            vocab_size=VOCAB_SIZE,
            numerics="",
            limits=Limits(**(plain | limits)),
        )
    )
    return talker
