"""A device's stream as those read it who have to say something while nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from ..device import AnswerStream
from ..errors import LinkClosed
from ..events import Token

__all__ = ["tokens_or_silence"]

LOOK_EVERY_S = 0.02
"""Whether an edge has taken a request is looked at so often."""


async def tokens_or_silence(
    stream: AnswerStream, *, edge_timeout_s: float, keep_alive_s: float, why: Callable[[], str]
) -> AsyncGenerator[Token | None, None]:
    """The tokens, and None for every `keep_alive_s` without one.

    The first item, which may be None, comes when an edge has taken the request; if none has within
    `edge_timeout_s`, an `ApiError` says so, and `why()` what is known about it. An edge that goes away
    later is waited for.
    """
    tokens = aiter(stream)
    coming = asyncio.create_task(_next(tokens), name="gateway-token")
    try:
        await _wait_until_taken(stream, coming, edge_timeout_s, why)
        if not coming.done():
            yield None
        while True:
            done, _ = await asyncio.wait({coming}, timeout=keep_alive_s)
            if not done:
                yield None
                continue
            token = coming.result()
            if token is None:
                return
            coming = asyncio.create_task(_next(tokens), name="gateway-token")
            yield token
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _wait_until_taken(
    stream: AnswerStream, coming: asyncio.Task[Token | None], timeout_s: float, why: Callable[[], str]
) -> None:
    """An edge answers OPEN at once, long before the first token of a long prompt."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + timeout_s
    while not stream.summary.bytes_down:
        done, _ = await asyncio.wait({coming}, timeout=LOOK_EVERY_S)
        if done:
            return
        if loop.time() >= until_s:
            raise LinkClosed(f"no edge answered within {timeout_s:g} s" + (f" ({why()})" if why() else ""))


async def _next(tokens: AsyncIterator[Token]) -> Token | None:
    return await anext(tokens, None)
