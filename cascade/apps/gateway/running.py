"""`cascade gateway`, from its options to a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass

from ...device import Device
from ...device.equipment import SUFFIX, open_draft
from ...links.base import Dialer
from ...links.profiles import Profile
from ...links.urls import dialer_for
from ...models.base import LanguageModel
from ..signals import ENDING, on_signals
from .options import GatewayOptions
from .server import Gateway
from .shaping import ShapedLink

__all__ = ["NO_DRAFT", "DeviceOptions", "main"]

log = logging.getLogger(__name__)

NO_DRAFT = "none"
BUNDLED_DRAFT = "smollm2-135m-draft"
"""Comes with the package, and so does its target's tokenizer."""
DATAGRAMS = ("mqtt:", "mqtts:")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """The device behind the gateway."""

    edges: tuple[str, ...]
    draft: str = BUNDLED_DRAFT
    """A bundled name or a folder; `suffix`; or `none`: plain streaming."""
    tokenizer: str = ""
    """A folder or a bundled name, for a device whose draft brings none."""
    identity: str = "gateway"
    token: str = ""
    num_threads: int = 1
    """For the draft model."""
    profile: Profile | None = None
    """Put an emulated link around the real one."""


def main(device: DeviceOptions, options: GatewayOptions, *, keys: tuple[str, ...], json_output: bool) -> int:
    """Answer until told to stop; returns the exit code."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    if not keys and not options.is_local:
        log.warning("whoever reaches %s may ask; --keys FILE lets in whom you know", options.host)
    return asyncio.run(_run(device, options, keys=keys, json_output=json_output))


async def _run(
    about: DeviceOptions, options: GatewayOptions, *, keys: tuple[str, ...], json_output: bool
) -> int:
    stop = asyncio.Event()
    on_signals(stop.set, *ENDING)
    shaped = None if about.profile is None else ShapedLink(about.profile)
    draft = await _open_draft(about)
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(
            Device(
                [_dialer(url, about, shaped) for url in about.edges],
                draft=draft,
                tokenizer=about.tokenizer or (BUNDLED_DRAFT if draft in (None, SUFFIX) else None),
                identity=about.identity,
                token=about.token,
            )
        )
        gateway = await stack.enter_async_context(Gateway(device, options, keys=keys, shaped=shaped))
        _announce(gateway, json_output=json_output)
        await stop.wait()
    return 0


async def _open_draft(about: DeviceOptions) -> LanguageModel | str | None:
    if about.draft in (NO_DRAFT, SUFFIX):
        return None if about.draft == NO_DRAFT else about.draft
    return await asyncio.to_thread(open_draft, about.draft, num_threads=about.num_threads)


def _dialer(url: str, about: DeviceOptions, shaped: ShapedLink | None) -> Dialer:
    dialer = dialer_for(url, identity=about.identity, token=about.token)
    if shaped is None:
        return dialer
    return shaped.around(dialer, is_reliable=not url.lower().startswith(DATAGRAMS))


def _announce(gateway: Gateway, *, json_output: bool) -> None:
    """Where it listens: the one thing that goes to standard output."""
    name = gateway.options.model_name
    if json_output:
        facts = {"event": "listening", "url": f"{gateway.url}/v1", "page": gateway.url, "model": name}
        print(json.dumps({**facts, "pid": os.getpid()}), flush=True)
        return
    print(f"OpenAI's clients: base_url {gateway.url}/v1, model {name}", flush=True)
    print(f"  chat in a browser: {gateway.url}", flush=True)
    print("  Ctrl-C stops it", flush=True)
