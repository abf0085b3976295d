"""`cascade top` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from .device_options import CaOption

__all__ = ["top"]


def top(
    addresses: Annotated[
        list[str],
        typer.Argument(metavar="URL...", help="Edges and gateways: http://host:port, or host:port."),
    ] = ["http://127.0.0.1:8080"],  # noqa: B006 -- typer copies it
    every: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Two looks, what was between them, and done.")] = False,
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN",
            envvar="CASCADE_TOKEN",
            help="An operator's, or a gateway's API key; best in the environment.",
        ),
    ] = "",
    ca: CaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object for each look.")] = False,
) -> None:
    """Watch edges and gateways: tokens a second, sessions, passes, round trips, from their /metrics.

    Rates are of the time since the last look. Ctrl-C ends it.

    \b
    Example:
      cascade top
      cascade top http://192.168.1.20:8080 http://127.0.0.1:8000
      cascade top --once --json
    """
    from .top.main import main

    code = main(addresses, every_s=every, is_once=once, json_output=as_json, token=token, ca=ca)
    raise typer.Exit(code)
