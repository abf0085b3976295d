"""Which edges a broker knows, and what they say about themselves: what they left there, retained."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .mqtt_client import Account, Arrival, MqttSettings
from .mqtt_frames import info, status

__all__ = ["EdgePresence", "choose_edge", "list_edges"]

QUIET_S = 0.5
"""A broker sends what is retained at once; when nothing came for so long, that was all."""
MAX_EDGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePresence:
    """One edge. What it says about itself is its own business; these are the usual keys."""

    name: str
    is_online: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pool(self) -> str:
        return self._text("pool")

    @property
    def model(self) -> str:
        return self._text("model")

    @property
    def numerics(self) -> str:
        """A text goes on, to the bit, on edges of equal numerics only."""
        return self._text("numerics")

    @property
    def vocab_fingerprint(self) -> str:
        return self._text("vocab_fingerprint")

    @property
    def load(self) -> float | None:
        """Open sessions as a share of those it takes; None where it does not say."""
        open_now, at_most = self.about.get("num_sessions"), self.about.get("max_sessions")
        if isinstance(open_now, int | float) and isinstance(at_most, int | float) and at_most > 0:
            return open_now / at_most
        return None

    def _text(self, key: str) -> str:
        value = self.about.get(key, "")
        return value if isinstance(value, str) else ""


def choose_edge(
    edges: Iterable[EdgePresence], *, model: str = "", numerics: str = "", vocab_fingerprint: str = ""
) -> EdgePresence | None:
    """The least loaded edge that is there and has what is asked for; None where there is none."""
    fitting = [
        edge
        for edge in edges
        if edge.is_online
        and model in ("", edge.model)
        and numerics in ("", edge.numerics)
        and vocab_fingerprint in ("", edge.vocab_fingerprint)
    ]
    return min(fitting, key=lambda edge: (1.0 if edge.load is None else edge.load, edge.name), default=None)


async def list_edges(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    settings: MqttSettings | None = None,
) -> list[EdgePresence]:
    """All edges that have ever left their state at this broker, by name. Any account may ask."""
    account = Account.from_url(
        url, username=username, password=password, ssl_context=ssl_context, settings=settings
    )
    states: dict[str, bool] = {}
    abouts: dict[str, Mapping[str, Any]] = {}
    heard = asyncio.Event()

    def on_message(arrival: Arrival) -> None:
        name, what = arrival.topic.split("/")[-2:]
        if name not in states and name not in abouts and len(states) + len(abouts) >= MAX_EDGES:
            return
        if what == "status":
            states[name] = arrival.payload == b"online"
        else:
            abouts[name] = _read_about(arrival.payload)
        heard.set()

    client = await account.connect()
    pump = asyncio.create_task(client.pump(on_message), name="mqtt-presence")
    try:
        await client.subscribe([status("edges", "+"), info("edges", "+")])
        while True:
            async with asyncio.timeout(QUIET_S):
                await heard.wait()
            heard.clear()
    except TimeoutError:
        pass
    finally:
        await client.close()
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
    return [
        EdgePresence(name=name, is_online=states.get(name, False), about=abouts.get(name, {}))
        for name in sorted(states.keys() | abouts.keys())
    ]


def _read_about(payload: bytes) -> Mapping[str, Any]:
    try:
        about = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}
