"""From a device's stream to server-sent events: tokens, comments while nothing comes, an end or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from ...device import AnswerStream
from ...errors import CascadeError, LinkClosed
from ...events import Token
from .failures import ApiError, as_api_error
from .replies import Reply

__all__ = ["check_whole", "send_events", "tokens_or_silence"]

LOOK_EVERY_S = 0.02
"""Whether an edge has taken a request is looked at so often."""
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would gather events until they fill a page
}
COMMENT = b": still working\n\n"
DONE = b"data: [DONE]\n\n"


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


async def send_events(
    request: web.Request,
    reply: Reply,
    stream: AnswerStream,
    items: AsyncGenerator[Token | None, None],
    *,
    includes_usage: bool,
    includes_ids: bool,
    send_timeout_s: float,
) -> web.StreamResponse:
    """Answer with events. What fails before an edge has taken the request is raised; later it is an event."""
    response = web.StreamResponse(headers=HEADERS)

    async def send(data: bytes) -> None:
        async with asyncio.timeout(send_timeout_s):
            await response.write(data)

    async def send_object(content: dict[str, Any]) -> None:
        if includes_usage:
            content.setdefault("usage", None)
        await send(b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n")

    try:
        async with contextlib.aclosing(items):
            async for token in items:
                if not response.prepared:
                    await response.prepare(request)
                    await send_object(reply.first(includes_ids=includes_ids))
                if token is None:
                    await send(COMMENT)
                else:
                    await send_object(reply.piece(token))
        check_whole(stream)
        await send_object(reply.last())
        if includes_usage:
            await send_object(reply.usage())
        await send(DONE)
    except CascadeError as error:
        if not response.prepared:
            raise
        with contextlib.suppress(OSError, TimeoutError):
            await send_object(as_api_error(error).as_json())
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # its unread bytes would stay for ever
    except OSError:
        pass  # it has gone
    with contextlib.suppress(OSError):
        await response.write_eof()
    return response


def check_whole(stream: AnswerStream) -> None:
    """A device that is left ends its streams without an error; their readers are owed one."""
    if stream.summary.finish_reason == "cancelled":
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "shutting_down", "the gateway is going down")


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
            raise LinkClosed(f"none answered within {timeout_s:g} s" + (f" ({why()})" if why() else ""))


async def _next(tokens: AsyncIterator[Token]) -> Token | None:
    return await anext(tokens, None)
