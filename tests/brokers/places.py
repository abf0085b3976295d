"""Brokers of all kinds with the same accounts, and a broker in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType

import pytest

from brokers.embedded import EmbeddedBroker
from brokers.mosquitto import Mosquitto
from cascade.links.mqtt import MqttSettings

__all__ = ["ACCOUNTS", "BROKERS", "QUICK", "AnyBroker", "BrokerProcess", "embedded", "mosquitto"]

ACCOUNTS = {
    "edge-1": "secret of the first edge",
    "edge-2": "secret of the second edge",
    "kettle": "secret of the kettle",
    "mallory": "secret of mallory",
}
EDGES = ("edge-1", "edge-2")
QUICK = MqttSettings(timeout_s=3.0, backoff_first_s=0.01, backoff_ceiling_s=0.2)

AnyBroker = EmbeddedBroker | Mosquitto


def embedded() -> EmbeddedBroker:
    return EmbeddedBroker(accounts=ACCOUNTS, edges=EDGES, devices=())


def mosquitto() -> Mosquitto:
    return Mosquitto(accounts=ACCOUNTS, edges=EDGES)


BROKERS = [
    pytest.param(embedded, id="amqtt"),
    pytest.param(mosquitto, id="mosquitto", marks=pytest.mark.needs_mosquitto),
]


class BrokerProcess:
    """`cascade broker` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._accounts = folder / "accounts.json"
        self._accounts.write_text(json.dumps(ACCOUNTS))
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self._urls: dict[str, str] = {}

    def url_for(self, name: str) -> str:
        return self._urls[name]

    async def __aenter__(self) -> BrokerProcess:
        await self.restart()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.kill()

    async def restart(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cascade.cli", "broker", "--json", "--port", str(self.port)),
            *("--edge", "edge-1", "--edge", "edge-2", "--device", "kettle"),
            *("--accounts", str(self._accounts)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._urls = json.loads(await self._process.stdout.readline())["accounts"]
        self.port = int(self._urls["kettle"].rpartition(":")[2])

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
