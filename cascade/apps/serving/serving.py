"""An edge and everything around it, from one set of options: ports, tokens, certificates, pages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ...edge import EdgeServer, Engine
from ...links.websocket import WebSocketListener
from ..certificates import Certificates, client_context
from ..edges import about_edge
from .gate import Gate
from .operator_pages import HEALTH_PATH, METRICS_PATH, OperatorPages
from .options import ServeOptions
from .tokens import TokenFile
from .verify_page import VERIFY_PATH, VerifyPage
from .watch import watch

if TYPE_CHECKING:
    from ...links.mqtt import MqttListener

__all__ = ["Serving"]

log = logging.getLogger(__name__)


class Serving:
    """`async with Serving(engine, options) as serving:` serves; `await serving.drain()` before it ends."""

    def __init__(self, engine: Engine, options: ServeOptions) -> None:
        self.options = options
        self._tokens = None if options.tokens is None else TokenFile(options.tokens)
        self._certificates = None
        if options.tls_cert is not None and options.tls_key is not None:
            self._certificates = Certificates(options.tls_cert, options.tls_key, options.client_ca)
        self.edge = EdgeServer(
            engine,
            name=options.name,
            settings=options.edge,
            quota_of=None if self._tokens is None else self._tokens.quota_of,
        )
        gate = Gate(self._tokens)
        verify, pages = VerifyPage(self.edge, gate), OperatorPages(self.edge, gate)
        self._http = WebSocketListener(
            host=options.host,
            port=options.port,
            ssl_context=None if self._certificates is None else self._certificates.context,
            identify=None if self._tokens is None else self._tokens.identify,
            max_message_bytes=options.edge.max_message_bytes,
            routes=[
                web.post(VERIFY_PATH, verify.serve),
                web.get(HEALTH_PATH, pages.health),
                web.get(METRICS_PATH, pages.metrics),
            ],
        )
        self._mqtt = None if not options.mqtt else self._mqtt_listener()
        self._stack = contextlib.AsyncExitStack()

    @property
    def link_url(self) -> str:
        """Where devices dial."""
        return self._http.url

    @property
    def http_url(self) -> str:
        """Where the pages are."""
        scheme, _, rest = self._http.url.partition("://")
        return f"{scheme.replace('ws', 'http', 1)}://{rest.partition('/')[0]}"

    @property
    def mqtt_url(self) -> str | None:
        """The broker at which it listens too, without account."""
        return None if self._mqtt is None else self._mqtt.url

    async def __aenter__(self) -> Serving:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._http)
            await stack.enter_async_context(self.edge)
            self.edge.listen(self._http)
            if self._mqtt is not None:
                await stack.enter_async_context(self._mqtt)
                self.edge.listen(self._mqtt, authenticate=self._authenticate)
            paths = self._watched()
            if paths:
                await stack.enter_async_context(_running(watch(paths, self.reload), name="serve-watch"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def drain(self) -> bool:
        """Take nobody new, send everybody away; True when nobody was cut short."""
        return await self.edge.drain(self.options.drain_s)

    async def reload(self) -> None:
        """Read tokens and certificates again; whoever came in with a token that is no more has to go."""
        if self._certificates is not None:
            await asyncio.to_thread(self._certificates.reload)
        if self._tokens is not None and await asyncio.to_thread(self._tokens.reload):
            await self._http.hang_up_on_strangers()

    def _mqtt_listener(self) -> MqttListener:
        from ...links.mqtt import MqttListener

        context = None if self.options.mqtt_ca is None else client_context(self.options.mqtt_ca)
        return MqttListener(
            self.options.mqtt, self.options.name, ssl_context=context, about=about_edge(self.edge)
        )

    def _authenticate(self, identity: str, token: str) -> bool:
        """A broker knows its accounts. Where there are tokens, HELLO has to bring the identity's as well."""
        return self._tokens is None or self._tokens.is_token_of(identity, token)

    def _watched(self) -> list[Path]:
        paths = [] if self._certificates is None else self._certificates.paths
        return paths if self._tokens is None else [*paths, self._tokens.path]


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], *, name: str) -> Any:
    """A task that lives as long as the block."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
