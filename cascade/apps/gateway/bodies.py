"""A request's body: one JSON object, in time and not too long."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from aiohttp import web

from .failures import ApiError, bad_request

__all__ = ["read_json"]

READ_TIMEOUT_S = 20.0


async def read_json(request: web.Request) -> dict[str, Any]:
    # JSON only: a page of another origin could send anything else without asking first.
    if request.content_type != "application/json":
        text = "send Content-Type: application/json"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content_type", text)
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            content = json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        text = f"a request may have {request.client_max_size} bytes; shorten the conversation"
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text) from error
    except TimeoutError:
        text = f"the request was not here within {READ_TIMEOUT_S:g} s"
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "timeout", text) from None
    except (ValueError, RecursionError):
        raise bad_request(None, "the request is not JSON", "invalid_json") from None
    if not isinstance(content, dict):
        raise bad_request(None, "the request must be one JSON object", "invalid_json")
    return content
