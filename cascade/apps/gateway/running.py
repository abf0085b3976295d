"""`cascade gateway`, from its options to a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import AsyncExitStack

from ...links.listening import check_port
from ...links.profiles import Profile
from ..device_options import DeviceOptions, open_device
from ..signals import ENDING, on_signals
from .options import GatewayOptions
from .server import Gateway
from .shaping import ShapedLink

__all__ = ["main"]

log = logging.getLogger(__name__)


def main(
    device: DeviceOptions,
    options: GatewayOptions,
    *,
    keys: tuple[str, ...],
    profile: Profile | None,
    json_output: bool,
) -> int:
    """Answer until told to stop; returns the exit code. `profile`: an emulated link around the real one."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    if not keys and not options.is_local:
        log.warning("whoever reaches %s may ask; --keys FILE lets in whom you know", options.host)
    check_port(options.host, options.port)
    return asyncio.run(_run(device, options, keys=keys, profile=profile, json_output=json_output))


async def _run(
    about: DeviceOptions,
    options: GatewayOptions,
    *,
    keys: tuple[str, ...],
    profile: Profile | None,
    json_output: bool,
) -> int:
    stop = asyncio.Event()
    on_signals(stop.set, *ENDING)
    shaped = None if profile is None else ShapedLink(profile)
    async with AsyncExitStack() as stack:
        device = await stack.enter_async_context(open_device(about, shaped))
        gateway = await stack.enter_async_context(Gateway(device, options, keys=keys, shaped=shaped))
        _announce(gateway, json_output=json_output)
        await stop.wait()
    return 0


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
