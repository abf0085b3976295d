"""A device that means harm, as a program of its own: `python -m cascade.lab.hostile KIND URL TOKEN SECONDS`.

It speaks the wire itself, for a `Device` would not do such things. At the end it prints what it sent and what
it was told, as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..errors import LinkClosed, LinkError
from ..links.base import Link
from ..links.websocket import WebSocketDialer
from ..models.synthetic import SyntheticTarget
from ..wire import PROTOCOL_VERSION, Codec, Commit, Error, Hello, Hint, Message, Open, Ping
from ..wire.text import HashedText

__all__ = ["KINDS", "Attacker", "main"]

PROMPT = (5, 6, 7)
NUM_SESSIONS = 1000
NUM_GARBAGE_SESSIONS = 64
BURST = 50
"""Messages sent before anybody else in this process has a turn."""


class Attacker:
    """One identity at one edge. A link that was cut is dialled again at once."""

    def __init__(self, url: str, token: str) -> None:
        target = SyntheticTarget()
        self.num_sent = 0
        self.num_dials = 0
        self.told: Counter[str] = Counter()
        """Texts of errors, figures in them left out."""
        self._dial = WebSocketDialer(url, token=token)
        self._codec = Codec(target.vocab_size)
        self._hello = Hello(
            version=PROTOCOL_VERSION,
            identity="mallory",
            token="",
            model="",
            vocab_fingerprint=target.vocab_fingerprint,
            vocab_size=target.vocab_size,
        )
        self._dice = random.Random(7)
        self._vocab_size = target.vocab_size
        self._texts: dict[int, HashedText] = {}

    async def attack(self, kind: str, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    with contextlib.suppress(LinkError):
                        await self._once(KINDS[kind])
                    await asyncio.sleep(0.01)

    async def _once(self, behave: Callable[[Attacker, Link], Awaitable[None]]) -> None:
        link = await self._dial()
        self.num_dials += 1
        try:
            await self._say(link, self._hello)
            await behave(self, link)
        finally:
            await link.close()

    # What it does

    async def flood(self, link: Link) -> None:
        """Small messages that are all in order, as fast as the link takes them."""
        data = self._codec.encode(Ping(nonce=1))
        async with _reading(self._listen(link)):
            while True:
                for _ in range(BURST):
                    await link.send(data)
                self.num_sent += BURST
                await asyncio.sleep(0)

    async def sessions(self, link: Link) -> None:
        """A thousand sessions, and then a thousand others."""
        async with _reading(self._listen(link)):
            for number in itertools.count():
                await self._say(link, self._open(number))
                if number % NUM_SESSIONS == 0:
                    await asyncio.sleep(0)

    async def garbage(self, link: Link) -> None:
        """Sessions like any other, whose hints are plausible in form and always wrong."""
        async with _reading(self._listen(link)):
            for number in range(NUM_GARBAGE_SESSIONS):
                self._texts[number] = HashedText(PROMPT)
                await self._say(link, self._open(number))
            while True:
                for number, text in self._texts.items():
                    await self._say(link, self._wrong_hint(number, text))
                await asyncio.sleep(0.005)

    async def deaf(self, link: Link) -> None:
        """It asks for all there is, says that it has it all, and reads nothing."""
        for number in itertools.count():
            await self._say(link, self._open(number))
            if number % BURST == 0:
                await asyncio.sleep(0.001)

    # How

    async def _say(self, link: Link, message: Message) -> None:
        self.num_sent += 1
        await link.send(self._codec.encode(message))

    async def _listen(self, link: Link) -> None:
        with contextlib.suppress(LinkClosed):
            while True:
                message = self._codec.decode(await link.receive())
                if isinstance(message, Error):
                    self.told["".join("#" if char.isdigit() else char for char in message.text)] += 1
                elif isinstance(message, Commit) and message.alias in self._texts:
                    text = self._texts[message.alias]
                    text.extend(message.tokens[len(text) - message.position :])

    def _open(self, number: int) -> Open:
        return Open(
            session=number.to_bytes(8, "little") + self.num_dials.to_bytes(4, "little"),
            alias=number % 256,
            generation=number + 1,
            tokens=PROMPT,
            prompt_length=len(PROMPT),
            max_new_tokens=100_000,
            temperature=0.0,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            seed=0,
            stop_ids=(),
            patience_s=0.0,
        )

    def _wrong_hint(self, number: int, text: HashedText) -> Hint:
        return Hint(
            alias=number,
            generation=number + 1,
            position=len(text),
            prefix_hash=text.hash_before(len(text)),
            tokens=tuple(self._dice.randrange(self._vocab_size) for _ in range(64)),
            known=len(text),
        )


KINDS: dict[str, Callable[[Attacker, Link], Awaitable[None]]] = {
    "flood": Attacker.flood,
    "sessions": Attacker.sessions,
    "garbage": Attacker.garbage,
    "deaf": Attacker.deaf,
}


@contextlib.asynccontextmanager
async def _reading(work: Any) -> Any:
    task = asyncio.create_task(work, name="hostile-reader")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """SIGTERM ends it early, and it still reports."""
    task = asyncio.create_task(work, name="hostile")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: list[str]) -> None:
    kind, url, token, seconds = arguments
    attacker = Attacker(url, token)
    asyncio.run(_until_told(attacker.attack(kind, float(seconds))))
    report = {"sent": attacker.num_sent, "dials": attacker.num_dials, "told": dict(attacker.told)}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
