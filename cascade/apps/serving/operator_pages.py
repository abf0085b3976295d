"""`/health` for load balancers, `/metrics` for Prometheus."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ...edge import EdgeServer
from ...edge.replicas import ReplicatedEngine
from ...errors import CascadeError
from .answers import answer, explain
from .gate import Gate
from .metrics import EdgeCollector
from .replica_metrics import ReplicaCollector

__all__ = ["HEALTH_PATH", "METRICS_PATH", "OperatorPages"]

HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"


class OperatorPages:
    def __init__(self, edge: EdgeServer, gate: Gate) -> None:
        self._edge = edge
        self._gate = gate
        self._registry = CollectorRegistry()
        self._registry.register(EdgeCollector(edge))
        if isinstance(edge.engine, ReplicatedEngine):
            self._registry.register(ReplicaCollector(edge.engine))

    async def health(self, _request: web.Request) -> web.Response:
        """Anybody may ask: it says nothing about anybody."""
        health = self._edge.health()
        content = {
            "status": health.state.value,
            "edge": self._edge.name,
            "model": self._edge.model_name,
        } | {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(health).items()
            if name != "state"
        }
        status = HTTPStatus.OK if health.is_well else HTTPStatus.SERVICE_UNAVAILABLE
        return answer(content, is_msgpack=False, status=status)

    async def metrics(self, request: web.Request) -> web.Response:
        try:
            self._gate.check_operator(request)
        except CascadeError as error:
            return explain(error, is_msgpack=False)
        text = generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
