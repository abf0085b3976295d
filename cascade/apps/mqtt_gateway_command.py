"""`cascade mqtt-gateway` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    mqtt_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With mqtts://, the CA that the broker's certificate is of."),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What things call this gateway; by default its account's name at the broker, or 'gateway'.",
        ),
    ] = "",
    edge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            envvar="CASCADE_EDGE",
            help="An edge: ws://host:port, mqtt://user:password@broker/edge; again for the next best. "
            "By default any edge at the same broker.",
        ),
    ] = None,
    draft: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="A bundled name or a folder; 'suffix', without torch; 'none': plain streaming.",
        ),
    ] = "smollm2-135m-draft",
    tokenizer: Annotated[
        str,
        typer.Option(metavar="REF", help="With 'suffix' and 'none', a folder that has the edge's tokenizer."),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN",
            envvar="CASCADE_TOKEN",
            help="What proves at the edge who we are; best in the environment.",
        ),
    ] = "",
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

    code = main(
        mqtt,
        name=name or account_in(mqtt) or "gateway",
        edges=edge or [mqtt],
        draft=draft,
        tokenizer=tokenizer,
        token=token,
        mqtt_ca=mqtt_ca,
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
