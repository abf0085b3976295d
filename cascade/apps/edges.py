"""`cascade edges`: which edges there are. And what an edge says about itself, for whoever starts one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..edge import EdgeServer
    from ..links.mqtt_presence import EdgePresence

__all__ = ["about_edge", "edges"]


def edges(
    mqtt: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="CASCADE_MQTT",
            help="The broker: mqtt://user:password@host:port, or mqtts:// for TLS.",
        ),
    ],
    ca: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With mqtts://, the CA that the broker's certificate is of."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the edges that an MQTT broker knows: name, state, model, load.

    A password in the environment (CASCADE_MQTT) is not seen by whoever lists this machine's processes.

    \b
    Example:
      cascade edges --mqtt mqtt://device-1:secret@localhost:1883
    """
    import ssl

    from ..errors import SettingsError
    from ..links.mqtt_presence import list_edges

    try:
        context = ssl.create_default_context(cafile=ca) if ca else None
    except OSError as error:
        raise SettingsError("ca", f"cannot read {ca}: {error.strerror}") from None
    found = asyncio.run(list_edges(mqtt, ssl_context=context))
    if as_json:
        print(json.dumps({"edges": [_as_json(edge) for edge in found]}))
    elif not found:
        print("no edge has been seen at this broker; `cascade serve --mqtt ...` starts one")
    else:
        print(f"{'EDGE':<20} {'STATE':<8} {'LOAD':>5}  {'POOL':<12} MODEL")
        for edge in found:
            state = "online" if edge.is_online else "offline"
            load = "" if edge.load is None or not edge.is_online else f"{edge.load:.0%}"
            print(f"{edge.name:<20} {state:<8} {load:>5}  {edge.pool:<12} {edge.model}".rstrip())


def about_edge(edge: EdgeServer) -> Callable[[], Mapping[str, Any]]:
    """What `MqttListener(..., about=...)` asks now and then: model, numerics class, vocabulary, load."""

    served = edge.engine.served

    def about() -> Mapping[str, Any]:
        return {
            "model": served.numerics,
            "numerics": served.numerics,
            "vocab_fingerprint": served.vocab_fingerprint,
            "context_length": served.context_length,
            "num_sessions": edge.health().num_sessions,
            "max_sessions": edge.settings.max_sessions,
        }

    return about


def _as_json(edge: EdgePresence) -> dict[str, Any]:
    return {"name": edge.name, "online": edge.is_online, "load": edge.load, "about": dict(edge.about)}
