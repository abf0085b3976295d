"""The command `cascade link`. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["link"]


def link(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where programs connect; port 0 takes a free one.")
    ] = "127.0.0.1:0",
    to: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where their connections go.")] = "",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="A profile of --list, or a TOML file of your own.")
    ] = "lan",
    trace_up: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rates to replay on the way up, in place of the profile's."),
    ] = None,
    trace_down: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rates to replay on the way down, in place of the profile's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of jitter and losses.")] = 0,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what became of every packet, as JSON lines.")
    ] = None,
    list_profiles: Annotated[bool, typer.Option("--list", help="Print the profiles and stop.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the profiles, or start and end, as JSON lines.")
    ] = False,
) -> None:
    """Carry TCP connections over an emulated link: slow, lossy, or gone for a while.

    For programs that know nothing of it: they connect here instead of there. All connections share the link.

    \b
    Example:
      cascade link --list
      cascade link --listen 127.0.0.1:9000 --to 127.0.0.1:8080 --profile lte
    """
    from ..errors import SettingsError
    from .link import main, print_profiles

    if list_profiles:
        print_profiles(json_output=as_json)
        return
    if not to:
        raise SettingsError("to", "say where the connections go, for example --to 127.0.0.1:8080")
    code = main(
        listen=listen,
        to=to,
        profile=profile,
        trace_up=trace_up,
        trace_down=trace_down,
        seed=seed,
        log=log,
        json_output=as_json,
    )
    raise typer.Exit(code)
