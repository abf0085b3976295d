"""From a device's stream to server-sent events: tokens, comments while nothing comes, an end or an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

from aiohttp import web

from ...device import AnswerStream
from ...errors import CascadeError
from ...events import Token
from .failures import ApiError, as_api_error
from .replies import Reply

__all__ = ["check_whole", "send_events"]

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would gather events until they fill a page
}
COMMENT = b": still working\n\n"
DONE = b"data: [DONE]\n\n"


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
