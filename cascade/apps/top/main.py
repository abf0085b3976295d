"""`cascade top`, from its options to a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from rich.console import Console, Group
from rich.live import Live

from ...errors import CascadeError
from ...settings import check_number
from ..certificates import client_context
from ..signals import ENDING, on_signals
from .figures import Report, report
from .looking import Look, http_url, look
from .screen import Panel

__all__ = ["main"]


def main(
    addresses: Sequence[str], *, every_s: float, is_once: bool, json_output: bool, token: str, ca: Path | None
) -> int:
    """Look until told to stop; returns the exit code."""
    check_number("every", every_s, low=0.05, high=3600)
    urls = [http_url(address) for address in addresses]
    context = None if ca is None else client_context(ca)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asyncio.run(_top(urls, headers, context, every_s=every_s, is_once=is_once, json_output=json_output))
    return 0


async def _top(
    urls: Sequence[str],
    headers: dict[str, str],
    context: ssl.SSLContext | None,
    *,
    every_s: float,
    is_once: bool,
    json_output: bool,
) -> None:
    """An address that does not answer the first time is an error; later it may come back."""
    stop = asyncio.Event()
    on_signals(stop.set, *ENDING)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(headers=headers))
        watches = [_Watch(session, url, context) for url in urls]
        await asyncio.gather(*(watch.begin() for watch in watches))
        console = Console(highlight=False)
        live: Live | None = None
        if not json_output and not is_once and console.is_terminal:
            live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every_s):
                    await stop.wait()
            if stop.is_set():
                return
            reports = await asyncio.gather(*(watch.again(is_strict=is_once) for watch in watches))
            if json_output:
                for watch, seen in zip(watches, reports, strict=True):
                    about = {"problem": watch.problem} if seen is None else seen.as_json
                    print(json.dumps({"address": watch.panel.url, **about}), flush=True)
            else:
                shown = Group(*(watch.panel.render() for watch in watches))
                if live is not None:
                    live.update(shown, refresh=True)
                else:
                    console.print(shown)
            if is_once:
                return


class _Watch:
    """One address, look after look."""

    def __init__(self, session: aiohttp.ClientSession, url: str, context: ssl.SSLContext | None) -> None:
        self.panel = Panel(url)
        self.problem = ""
        self._session = session
        self._context = context
        self._last: Look | None = None

    async def begin(self) -> None:
        self._last = await look(self._session, self.panel.url, context=self._context)

    async def again(self, *, is_strict: bool) -> Report | None:
        """None, and the reason in `problem`, where it did not answer; raised where that is strict."""
        assert self._last is not None
        try:
            now = await look(self._session, self.panel.url, context=self._context)
        except CascadeError as error:
            if is_strict:
                raise
            self.problem = str(error)
            self.panel.fail(self.problem)
            return None
        seen = report(self._last, now)
        self._last, self.problem = now, ""
        self.panel.update(seen)
        return seen
