"""`cascade mqtt-gateway` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .device_options import (
    BUNDLED_DRAFT,
    CaOption,
    DeviceOptions,
    DraftOption,
    ThreadsOption,
    TokenizerOption,
    TokenOption,
    edge_option,
)

__all__ = ["mqtt_gateway"]


def mqtt_gateway(
    mqtt: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="CASCADE_MQTT",
            help="The broker where things ask: mqtt://user:password@host:port, or mqtts:// for TLS.",
        ),
    ],
    ca: CaOption = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What things call this gateway; by default its account's name at the broker, or 'gateway'.",
        ),
    ] = "",
    edge: Annotated[list[str] | None, edge_option(" By default any edge at the same broker.")] = None,
    draft: DraftOption = BUNDLED_DRAFT,
    tokenizer: TokenizerOption = "",
    token: TokenOption = "",
    threads: ThreadsOption = 1,
    queue: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep questions here until they are answered, over a restart."),
    ] = None,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model is told before each question.")
    ] = "",
    at_once: Annotated[int, typer.Option(min=1, max=128, help="Questions answered at the same time.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer, whatever is asked for.")] = 1024,
    home_assistant: Annotated[
        bool, typer.Option("--home-assistant", help="Tell Home Assistant about it (MQTT discovery).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print where it listens as JSON.")] = False,
) -> None:
    """Answer what things ask by MQTT, until Ctrl-C or SIGTERM.

    A thing publishes a text to cascade/v1/ask/NAME/THING and reads cascade/v1/answer/NAME/THING, where THING
    is its account. docs/mqtt-gateway.md has the options of a question, and the access list.

    \b
    Example:
      cascade mqtt-gateway --mqtt mqtt://gateway-1:secret@localhost:1883 --queue /var/lib/cascade/questions
    """
    from ..links.urls import account_in
    from .mqtt_gateway.main import main
    from .mqtt_gateway.settings import GatewaySettings

    name = name or account_in(mqtt) or "gateway"
    code = main(
        mqtt,
        name,
        DeviceOptions(
            edges=tuple(edge or [mqtt]),
            draft=draft,
            tokenizer=tokenizer,
            identity=name,
            token=token,
            ca=ca,
            num_threads=threads,
        ),
        queue=queue,
        settings=GatewaySettings(
            num_at_once=at_once,
            max_new_tokens=max_tokens,
            usual_new_tokens=min(max_tokens, GatewaySettings().usual_new_tokens),
            system=system,
        ),
        is_for_home_assistant=home_assistant,
        json_output=as_json,
    )
    raise typer.Exit(code)
