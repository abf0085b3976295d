"""How the HTTP pages answer: JSON or msgpack, errors with a code, a reason and when to come back."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

import msgpack
from aiohttp import web

from ...errors import CascadeError, ContextExceeded, MemoryExceeded, RefusedError, SettingsError

__all__ = ["MSGPACK_TYPES", "ApiError", "answer", "explain"]

MSGPACK_TYPES = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})

STATUS_OF_REFUSAL = {
    "limit": HTTPStatus.TOO_MANY_REQUESTS,
    "overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.SERVICE_UNAVAILABLE,
}


class ApiError(CascadeError):
    """A request that is not served, and the status that says so."""

    def __init__(self, status: HTTPStatus, code: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def answer(content: dict[str, Any], *, is_msgpack: bool, status: int = HTTPStatus.OK) -> web.Response:
    if is_msgpack:
        return web.Response(body=msgpack.packb(content), status=status, content_type="application/msgpack")
    return web.Response(text=json.dumps(content), status=status, content_type="application/json")


def explain(error: CascadeError, *, is_msgpack: bool) -> web.Response:
    """The answer to a request that failed with an error of ours."""
    known = _as_api_error(error)
    content: dict[str, Any] = {"code": known.code, "text": str(known)}
    if known.retry_after_s is not None:
        content["retry_after_s"] = round(known.retry_after_s, 3)
    response = answer({"error": content}, is_msgpack=is_msgpack, status=known.status)
    if known.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(known.retry_after_s)))
    if known.status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _as_api_error(error: CascadeError) -> ApiError:
    match error:
        case ApiError():
            return error
        case RefusedError():
            status = STATUS_OF_REFUSAL.get(error.code, HTTPStatus.BAD_REQUEST)
            return ApiError(status, error.code, error.text, error.retry_after_s)
        case ContextExceeded():
            return ApiError(HTTPStatus.BAD_REQUEST, "context", str(error))
        case MemoryExceeded():
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "limit", str(error), 1.0)
        case SettingsError():
            return ApiError(HTTPStatus.BAD_REQUEST, "bad_request", str(error))
        case _:
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", str(error))
