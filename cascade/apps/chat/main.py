"""`cascade chat`, from its options to a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from ..device_options import DeviceOptions, open_device
from ..signals import on_signals
from .conversation import Conversation
from .lines import Lines, terminal_kept
from .screens import JsonScreen, PlainScreen, Screen
from .settings import ChatSettings

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT


def main(options: DeviceOptions, settings: ChatSettings, *, json_output: bool) -> int:
    """Talk until there is nothing more to say; returns the exit code."""
    # Only what is worth a line between two answers; what goes wrong is said in its place.
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    with terminal_kept():
        return asyncio.run(_run(options, settings, json_output=json_output))


async def _run(options: DeviceOptions, settings: ChatSettings, *, json_output: bool) -> int:
    is_typed, is_seen = sys.stdin.isatty(), sys.stdout.isatty()
    screen: Screen
    if json_output:
        screen = JsonScreen()
    elif is_seen:
        from .terminal import TerminalScreen

        screen = TerminalScreen()
    else:
        screen = PlainScreen()
    async with open_device(options) as device:
        conversation = Conversation(
            device,
            Lines(has_prompt=is_typed and is_seen and not json_output),
            screen,
            settings,
            is_patient=is_typed,
        )
        on_signals(conversation.interrupt, "SIGINT")
        on_signals(conversation.leave, "SIGTERM")
        await conversation.run()
    if conversation.was_interrupted:
        if is_seen:
            print()  # the prompt's line
        return INTERRUPTED
    return 0
