"""`POST /v1/verify`: a draft in, the target's verdict out, nothing remembered. See `docs/http.md`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgpack
from aiohttp import web

from ...decoding import Sampling
from ...edge import EdgeServer, Verdict, VerifyRequest
from ...errors import CascadeError, SettingsError
from ...settings import check_int, check_number
from .answers import MSGPACK_TYPES, ApiError, answer, explain
from .gate import Gate

__all__ = ["VERIFY_PATH", "VerifyPage", "read_verify_request"]

VERIFY_PATH = "/v1/verify"
READ_TIMEOUT_S = 20.0
"""A request that is not here by then is refused."""
MAX_STOP_IDS = 256
KEYS = ("tokens", "draft", "temperature", "top_k", "top_p", "min_p", "seed", "stop_ids", "model")


class VerifyPage:
    def __init__(self, edge: EdgeServer, gate: Gate) -> None:
        self._edge = edge
        self._gate = gate

    async def serve(self, request: web.Request) -> web.Response:
        is_msgpack = request.content_type in MSGPACK_TYPES
        try:
            identity = self._gate.identity(request)
            content = _decode(await _read(request), request.content_type)
            if content.get("model", self._edge.model_name) != self._edge.model_name:
                text = f"this edge serves {self._edge.model_name!r}"
                raise ApiError(HTTPStatus.CONFLICT, "model", text)
            verdict = await self._edge.verify(identity, read_verify_request(content))
        except CascadeError as error:
            return explain(error, is_msgpack=is_msgpack)
        return answer(_as_content(verdict), is_msgpack=is_msgpack)


def read_verify_request(content: Mapping[str, Any]) -> VerifyRequest:
    """Strict: unknown keys and wrong types are refused by name."""
    for key in content:
        if key not in KEYS:
            raise SettingsError(str(key)[:64], f"unknown key; there are {', '.join(KEYS)}")
    if "tokens" not in content:
        raise SettingsError("tokens", "is missing; give the text so far as token ids")
    stop_ids = _token_ids(content, "stop_ids")
    if len(stop_ids) > MAX_STOP_IDS:
        raise SettingsError("stop_ids", f"at most {MAX_STOP_IDS} are allowed")
    for key in ("top_k", "seed"):
        check_int(key, content.get(key, 0), low=0)
    for key in ("temperature", "top_p", "min_p"):
        check_number(key, content.get(key, 0.0))
    return VerifyRequest(
        tokens=_token_ids(content, "tokens"),
        draft=_token_ids(content, "draft"),
        sampling=Sampling(
            temperature=content.get("temperature", 0.0),
            top_k=content.get("top_k", 0),
            top_p=content.get("top_p", 1.0),
            min_p=content.get("min_p", 0.0),
            seed=content.get("seed", 0),
        ),
        stop_ids=frozenset(stop_ids),
    )


def _token_ids(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(type(token) is int and token >= 0 for token in value):
        raise SettingsError(key, "must be a list of token ids, whole numbers from 0 on")
    return tuple(value)


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        text = "the request is longer than this edge reads; send fewer tokens, or open a link"
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text) from error
    except TimeoutError:
        text = f"the request was not here within {READ_TIMEOUT_S:g} s"
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "timeout", text) from None


def _decode(data: bytes, content_type: str) -> dict[str, Any]:
    try:
        if content_type in MSGPACK_TYPES:
            content = msgpack.unpackb(data, max_ext_len=0, max_map_len=len(KEYS))
        elif content_type == "application/json":
            content = json.loads(data)
        else:
            text = "send application/json or application/msgpack"
            raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content_type", text)
    except (ValueError, RecursionError, msgpack.UnpackException):
        text = f"the request is not {content_type.partition('/')[2]}"
        raise ApiError(HTTPStatus.BAD_REQUEST, "bad_request", text) from None
    if not isinstance(content, dict):
        raise ApiError(HTTPStatus.BAD_REQUEST, "bad_request", "the request must be one object")
    return content


def _as_content(verdict: Verdict) -> dict[str, Any]:
    return {"agreed": verdict.num_agreed, "token": verdict.token, "finish": verdict.finish_reason}
