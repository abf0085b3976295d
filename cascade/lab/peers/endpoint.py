"""Any endpoint that speaks OpenAI's protocol, through the emulated link: the cloud as it is used today."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...errors import CascadeError, LinkUnavailable, SettingsError
from ...links.conditions import Conditions
from ...links.proxy import LinkProxy
from .contest import Answered

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Endpoint"]

TIMEOUT_S = 120.0
MAX_ERROR = 200
"""Characters of what an endpoint says when it refuses."""
PORTS = {"http": 80, "https": 443}


class Endpoint:
    """`async with Endpoint("http://127.0.0.1:8000/v1", model="m", up=..., down=...) as peer:`"""

    def __init__(self, url: str, *, model: str, up: Conditions, down: Conditions, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname:
            raise SettingsError("endpoint", f"{url!r} is no address such as http://127.0.0.1:8000/v1")
        self.name = f"endpoint {parts.hostname}, {model}"
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = parts.port or PORTS[parts.scheme]
        self._path = parts.path.rstrip("/")
        self._model, self._key = model, key
        self._conditions = up, down
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Endpoint:
        import aiohttp

        up, down = self._conditions
        self._proxy = await self._stack.enter_async_context(
            LinkProxy((self._host, self._port), up=up, down=down)
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_read=TIMEOUT_S, sock_connect=TIMEOUT_S)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        await self._stack.aclose()

    async def answer(self, question: str, num_tokens: int) -> Answered:
        """Greedy, streamed. Raises `CascadeError` with what it said, `LinkUnavailable` if it is not there."""
        import aiohttp

        host, port = self._proxy.address
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": num_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {"Host": f"{self._host}:{self._port}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        # The connection goes to the proxy; a certificate is still that of the endpoint.
        tls: dict[str, Any] = {"server_hostname": self._host} if self._scheme == "https" else {}
        began_s = asyncio.get_running_loop().time()
        try:
            async with self._http.post(
                f"{self._scheme}://{host}:{port}{self._path}/chat/completions",
                json=body,
                headers=headers,
                **tls,
            ) as response:
                if response.status != 200:
                    said = (await response.text())[:MAX_ERROR]
                    raise CascadeError(f"{self.name} answered {response.status}: {said}")
                return await self._read(response, began_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LinkUnavailable(f"{self.name} cannot be asked: {error!r}") from None

    async def _read(self, response: aiohttp.ClientResponse, began_s: float) -> Answered:
        """Server-sent events: a piece of text each, and perhaps how many tokens there were."""
        loop = asyncio.get_running_loop()
        times_s: list[float] = []
        pieces: list[str] = []
        num_tokens = 0
        async for line in response.content:
            data = line.decode("utf-8", "replace").strip().removeprefix("data:").strip()
            if not line.startswith(b"data:") or data == "[DONE]":
                continue
            try:
                event = json.loads(data)
                piece = event["choices"][0]["delta"].get("content") if event.get("choices") else None
                num_tokens = int((event.get("usage") or {}).get("completion_tokens", num_tokens))
            except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
                raise CascadeError(f"{self.name} does not stream as OpenAI does: {error!r}") from None
            if piece:
                times_s.append(loop.time() - began_s)
                pieces.append(piece)
        if not pieces:
            raise CascadeError(f"{self.name} answered nothing; is {self._model!r} what it serves?")
        return Answered(times_s=tuple(times_s), num_tokens=num_tokens or len(pieces), text="".join(pieces))
