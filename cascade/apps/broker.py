"""`cascade broker`: the embedded broker as a command."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .signals import ENDING, on_signals

if TYPE_CHECKING:
    from brokers.embedded import EmbeddedBroker

__all__ = ["broker"]


def broker(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 1883,
    edge: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An edge's account; may be repeated.")
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An MQTT gateway's account; may be repeated.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A device's or thing's account; may be repeated.")
    ] = None,
    accounts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the passwords here, so that they stay the same; made if missing."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain, for mqtts://.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Start a small MQTT broker with accounts and the access list that we ship.

    Prints where it listens and each account's URL, with new passwords unless --accounts names a file, and
    stops on Ctrl-C. It suits a try and a handful of devices; for more, see brokers/README.md.

    \b
    Example:
      cascade broker --port 0 --edge hall --device kettle --device phone
    """
    from brokers.accounts import AccountsFile
    from brokers.embedded import EmbeddedBroker

    from ..errors import SettingsError
    from .certificates import Certificates

    if (tls_cert is None) != (tls_key is None):
        raise SettingsError("tls", "needs both, --tls-cert and --tls-key")
    certificates = None if tls_cert is None or tls_key is None else Certificates(tls_cert, tls_key)
    edges, gateways, devices = edge or ["edge-1"], gateway or [], device or ["device-1"]
    file = AccountsFile(accounts) if accounts is not None else None
    known = file.add([*edges, *gateways, *devices]) if file is not None else None
    context = None if certificates is None else certificates.context
    asyncio.run(
        _serve(
            EmbeddedBroker(
                host=host,
                port=port,
                accounts=known,
                edges=edges,
                gateways=gateways,
                devices=devices,
                ssl_context=context,
            ),
            as_json,
        )
    )


async def _serve(broker: EmbeddedBroker, as_json: bool) -> None:
    stop = asyncio.Event()
    on_signals(stop.set, *ENDING)
    async with broker:
        urls = {name: broker.url_for(name) for name in broker.accounts}
        if as_json:
            print(json.dumps({"url": broker.url, "edges": list(broker.edges), "accounts": urls}), flush=True)
        else:
            print(f"an MQTT broker listens on {broker.url}")
            for name, url in urls.items():
                kind = "edge" if name in broker.edges else "gateway" if name in broker.gateways else "device"
                print(f"  {kind:<7} {url}")
            print("Ctrl-C stops it", flush=True)
        await stop.wait()
