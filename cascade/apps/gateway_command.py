"""`cascade gateway` as the command line sees it. Imports are late, as in `cli.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .device_options import (
    BUNDLED_DRAFT,
    NEAR_EDGE,
    CaOption,
    DeviceOptions,
    DraftOption,
    IdentityOption,
    ThreadsOption,
    TokenizerOption,
    TokenOption,
    edge_option,
)

__all__ = ["gateway"]


def gateway(
    edge: Annotated[list[str], edge_option()] = [NEAR_EDGE],  # noqa: B006 -- typer copies it
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8000",
    draft: DraftOption = BUNDLED_DRAFT,
    tokenizer: TokenizerOption = "",
    identity: IdentityOption = "gateway",
    token: TokenOption = "",
    ca: CaOption = None,
    keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Answer only who sends one of these API keys, one a line."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="Web pages that may ask: http://host:port, or *; may be repeated."
        ),
    ] = None,
    model_name: Annotated[str, typer.Option(metavar="NAME", help="What clients call the model.")] = "cascade",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Make the link worse on purpose; see `cascade link --list`.")
    ] = "",
    max_streams: Annotated[int, typer.Option(min=1, max=256, help="Answers at a time; more wait.")] = 8,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that wait; more get status 429.")] = 32,
    threads: ThreadsOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print where it listens as JSON.")] = False,
) -> None:
    """Answer OpenAI's clients on this machine, and a chat page, with an edge behind it.

    It is a device: the draft runs here, the edge decides. API keys may also stand in CASCADE_GATEWAY_KEYS,
    with commas between them. See docs/gateway.md for what is understood.

    \b
    Example:
      cascade gateway --edge ws://192.168.1.20:8080
      cascade gateway --edge ws://127.0.0.1:8080 --profile lte --http 127.0.0.1:8000
    """
    import os

    from ..links.profiles import load_profile
    from .gateway.access import read_keys
    from .gateway.options import GatewayOptions
    from .gateway.running import main
    from .serving.options import parse_address

    host, port = parse_address(http)
    known = () if keys is None else read_keys(keys)
    named = os.environ.get("CASCADE_GATEWAY_KEYS", "")
    code = main(
        DeviceOptions(
            edges=tuple(edge),
            draft=draft,
            tokenizer=tokenizer,
            identity=identity,
            token=token,
            ca=ca,
            num_threads=threads,
        ),
        GatewayOptions(
            host=host,
            port=port,
            model_name=model_name,
            cors_origins=tuple(cors or ()),
            max_streams=max_streams,
            max_waiting=max_waiting,
        ),
        profile=load_profile(profile) if profile else None,
        keys=(*known, *(key.strip() for key in named.split(",") if key.strip())),
        json_output=as_json,
    )
    raise typer.Exit(code)
