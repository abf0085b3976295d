"""The gateway: HTTP in front of a device."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from ...device import AnswerStream, Device
from ...errors import CascadeError
from ...links.listening import cannot_listen
from ..waiting import tokens_or_silence
from .access import Access
from .bodies import read_json
from .failures import ApiError, as_api_error, error_response
from .link_panel import LINK_PATH, LinkPanel
from .metrics import METRICS_PATH, Metrics
from .options import GatewayOptions
from .page_routes import page_routes
from .replies import Reply
from .requests import Ask, read_chat, read_completion
from .shaping import ShapedLink
from .streaming import check_whole, send_events
from .turns import Turns

__all__ = ["Gateway"]

log = logging.getLogger(__name__)

SHUTDOWN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """`async with Gateway(device, options) as gateway:` answers at `gateway.url`. The device is running."""

    def __init__(
        self,
        device: Device,
        options: GatewayOptions,
        *,
        keys: Iterable[str] = (),
        shaped: ShapedLink | None = None,
    ) -> None:
        """`shaped` is the emulated link that the device's dialers go through, if they do."""
        self.options = options
        self.turns = Turns(
            max_running=options.max_streams, max_waiting=options.max_waiting, max_wait_s=options.max_wait_s
        )
        self._device = device
        self._access = Access(keys=keys, origins=options.cors_origins, is_local=options.is_local)
        self._shaped = shaped
        self._panel = LinkPanel(shaped)
        self._metrics = Metrics(device, self.turns)
        self._port = options.port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens; OpenAI's clients add `/v1`."""
        host = self.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    async def __aenter__(self) -> Gateway:
        app = web.Application(client_max_size=self.options.max_request_bytes, middlewares=[self._guard])
        app.on_response_prepare.append(self._add_headers)
        app.router.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._complete),
                web.get("/v1/models", self._models),
                web.get("/v1/models/{model:.+}", self._model),
                web.get("/health", self._health),
                web.get(METRICS_PATH, self._metrics.page),
                web.get("/cascade/status", self._status),
                *self._panel.routes,
                *page_routes(),
            ]
        )
        # Whoever hangs up wants no more tokens: the handler is cancelled, and with it the device's stream.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.options.host, self.options.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise cannot_listen(self.options.host, self.options.port, error) from None
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    # What clients ask

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        content = await read_json(request)
        return await self._answer(
            request, read_chat(content, default_max_tokens=self.options.default_max_tokens)
        )

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, read_completion(await read_json(request)))

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model_object()]})

    async def _model(self, request: web.Request) -> web.Response:
        self._check_model(request.match_info["model"])
        return web.json_response(self._model_object())

    async def _health(self, _request: web.Request) -> web.Response:
        """For whoever watches it, without a key: it says nothing about anybody."""
        device = self._device
        content = {
            "status": "ok" if device.is_connected else "no edge",
            "edge_model": device.served_model,
            "running": self.turns.num_running,
            "waiting": self.turns.num_waiting,
            "refused": self.turns.num_refused,
        }
        status = HTTPStatus.OK if device.is_connected else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response(content, status=status)

    async def _status(self, _request: web.Request) -> web.Response:
        """For the chat page, which asks every other second."""
        content = {
            "model": self.options.model_name,
            "edge_model": self._device.served_model,
            "is_connected": self._device.is_connected,
            "needs_key": self._access.needs_key,
            "link": None if self._shaped is None else self._shaped.facts,
        }
        return web.json_response(content)

    async def _answer(self, request: web.Request, ask: Ask) -> web.StreamResponse:
        self._check_model(ask.model)
        async with self.turns.turn(), self._begin(ask) as stream:
            with self._metrics.counting(stream):
                return await self._reply(request, ask, stream)

    async def _reply(self, request: web.Request, ask: Ask, stream: AnswerStream) -> web.StreamResponse:
        options = self.options
        reply = Reply(
            stream,
            is_chat=ask.is_chat,
            model=ask.model or options.model_name,
            served_model=lambda: self._device.served_model,
        )
        items = tokens_or_silence(
            stream,
            edge_timeout_s=math.inf if ask.is_private else options.edge_timeout_s,
            keep_alive_s=options.keep_alive_s,
            why=lambda: self._device.problem,
        )
        if ask.is_streamed:
            return await send_events(
                request,
                reply,
                stream,
                items,
                includes_usage=ask.includes_usage,
                includes_ids=ask.includes_ids,
                send_timeout_s=options.send_timeout_s,
            )
        async with contextlib.aclosing(items):
            async for token in items:
                if token is not None:
                    reply.note(token)
        check_whole(stream)
        return web.json_response(reply.whole())

    def _begin(self, ask: Ask) -> AnswerStream:
        """The device's stream, which ends with the block that it is used in."""
        return self._device.stream(
            ask.prompt,
            private=ask.is_private,
            max_new_tokens=ask.max_new_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            min_p=ask.min_p,
            seed=ask.seed,
            stop=ask.stop,
            policy=ask.policy,
            quality=ask.quality,
            logprobs=ask.has_logprobs,
            any_noise=ask.seed is None,  # who names no seed does not ask for the same text again
        )

    def _model_object(self) -> dict[str, Any]:
        return {
            "id": self.options.model_name,
            "object": "model",
            "created": 0,  # nobody knows when
            "owned_by": "cascade",
            "cascade": {"edge_model": self._device.served_model, "is_connected": self._device.is_connected},
        }

    def _check_model(self, name: str) -> None:
        if name not in ("", self.options.model_name, self._device.served_model):
            text = f"there is no model {name[:64]!r}; this gateway's is called {self.options.model_name!r}"
            raise ApiError(HTTPStatus.NOT_FOUND, "model_not_found", text, param="model")

    # What holds for every request

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._access.check_page(request)
            if request.method == "OPTIONS":
                return self._access.preflight(request)
            if request.path.startswith(("/v1/", LINK_PATH, METRICS_PATH)):
                self._access.check_key(request)
            return await handler(request)
        except CascadeError as error:
            return error_response(as_api_error(error))
        except web.HTTPNotFound:
            text = f"there is nothing at {request.path[:64]}; there are /v1/chat/completions, /v1/completions"
            return error_response(ApiError(HTTPStatus.NOT_FOUND, "not_found", f"{text} and /v1/models"))
        except web.HTTPMethodNotAllowed as error:
            text = f"{request.path[:64]} takes {', '.join(sorted(error.allowed_methods))}"
            return error_response(ApiError(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", text))
        except Exception as error:
            # Its text might hold a piece of a prompt, so only its kind is logged.
            log.error("a request failed: %s", type(error).__name__)
            text = "something went wrong in the gateway; its log has the kind of error"
            return error_response(ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", text))

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in self._access.headers(request).items():
            response.headers.setdefault(name, value)
