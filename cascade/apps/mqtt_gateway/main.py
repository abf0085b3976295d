"""`cascade mqtt-gateway`: a gateway from its options to a clean end."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from ..certificates import client_context
from ..device_options import DeviceOptions, make_dialers, open_device
from ..signals import ENDING, on_signals
from . import topics
from .gateway import MqttGateway
from .settings import GatewaySettings

__all__ = ["main"]

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
DISCOVERY_PREFIX = "homeassistant"


def main(
    url: str,
    name: str,
    device: DeviceOptions,
    *,
    queue: Path | None,
    settings: GatewaySettings,
    is_for_home_assistant: bool,
    json_output: bool,
) -> int:
    """Answer until told to stop; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    gateway = MqttGateway(
        url,
        name,
        lambda: open_device(device),
        settings=settings,
        ssl_context=None if device.ca is None else client_context(device.ca),
        queue=queue,
        discovery_prefix=DISCOVERY_PREFIX if is_for_home_assistant else "",
    )
    make_dialers(device)  # addresses that cannot be are said at once
    asyncio.run(_serve(gateway, json_output=json_output))
    return 0


async def _serve(gateway: MqttGateway, *, json_output: bool) -> None:
    stop = asyncio.Event()
    on_signals(stop.set, *ENDING)
    async with gateway:
        _announce(gateway, json_output=json_output)
        stopped, failed = asyncio.create_task(stop.wait()), asyncio.create_task(gateway.failed())
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, failed):
            task.cancel()
        await asyncio.gather(stopped, return_exceptions=True)
        if not failed.cancelled() and failed.done():
            failed.result()


def _announce(gateway: MqttGateway, *, json_output: bool) -> None:
    ask, answer = topics.asks(gateway.name, "THING"), topics.answer(gateway.name, "THING")
    if json_output:
        facts = {"event": "listening", "gateway": gateway.name, "broker": gateway.url}
        print(json.dumps({**facts, "ask": ask, "answer": answer}), flush=True)
    else:
        print(f"{gateway.name} answers at {gateway.url}", flush=True)
        print(f"  questions: {ask}\n  answers:   {answer}", flush=True)
        print("  Ctrl-C stops it", flush=True)
