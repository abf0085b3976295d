"""Errors as OpenAI's clients know them: a status, and an object with message, type, param and code."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from aiohttp import web

from ...errors import (
    CascadeError,
    ContextExceeded,
    LinkError,
    MessageTooLong,
    ModelError,
    RefusedError,
    RunnerStopped,
    SettingsError,
)

__all__ = ["ApiError", "as_api_error", "bad_request", "error_response", "unsupported"]

PARAM_OF_FIELD = {"max_new_tokens": "max_tokens", "stop_ids": "stop"}
"""Our name of a setting -> the client's, where they differ."""


class ApiError(CascadeError):
    """A request that is not served, and how to say so."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        text: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def as_json(self) -> dict[str, Any]:
        kind = {
            HTTPStatus.UNAUTHORIZED: "authentication_error",
            HTTPStatus.FORBIDDEN: "permission_error",
            HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
        }.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def bad_request(param: str | None, text: str, code: str = "invalid_value") -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, code, text, param=param)


def unsupported(param: str, reason: str) -> ApiError:
    """A field that OpenAI has and we have not: to ignore it would be a silent lie."""
    return bad_request(param, f"{param!r} is not supported: {reason}", "unsupported_parameter")


def as_api_error(error: CascadeError) -> ApiError:
    """What went wrong at the device or the edge, in the client's terms."""
    match error:
        case ApiError():
            return error
        case RefusedError():
            return _refused(error)
        case SettingsError():
            param = PARAM_OF_FIELD.get(error.field, error.field)
            return bad_request(param, f"{param}: {error.reason}")
        case ContextExceeded() | MessageTooLong():
            return bad_request("messages", str(error), "context_length_exceeded")
        case ModelError() if not isinstance(error, RunnerStopped):
            return bad_request("messages", str(error))
        case LinkError():
            text = f"no edge can be reached: {error}"
            return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "edge_unreachable", text, retry_after_s=5.0)
        case _:
            return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", str(error))


def error_response(error: ApiError) -> web.Response:
    response = web.Response(
        text=json.dumps(error.as_json()), status=error.status, content_type="application/json"
    )
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _refused(error: RefusedError) -> ApiError:
    """An edge's no. What concerns the gateway itself is not the client's fault, nor cured by asking again."""
    match error.code:
        case "context":
            return bad_request("messages", error.text, "context_length_exceeded")
        case "limit" if error.retry_after_s is None:
            return bad_request(None, error.text, "not_served")  # nor would it be if it were asked for again
        case "limit":
            status = HTTPStatus.TOO_MANY_REQUESTS
            return ApiError(
                status, "rate_limit_exceeded", error.text, retry_after_s=error.retry_after_s or 1.0
            )
        case "overloaded" | "draining" | "internal":
            status = HTTPStatus.SERVICE_UNAVAILABLE
            return ApiError(
                status, f"edge_{error.code}", error.text, retry_after_s=error.retry_after_s or 1.0
            )
        case "unauthorized":
            advice = "start the gateway with a token that the edge knows (--token)"
        case "vocabulary":
            advice = "start the gateway with the draft, or the tokenizer, of the edge's model (--draft)"
        case _:
            advice = "look at how gateway and edge were started"
    text = f"the edge refuses this gateway: {error.text}; {advice}"
    return ApiError(HTTPStatus.BAD_GATEWAY, f"edge_{error.code}", text)
