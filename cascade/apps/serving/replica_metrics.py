"""What each of several engines does, beside their sum in `metrics.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ...edge.replicas import ReplicatedEngine
from ...edge.replicas.replica import Replica

__all__ = ["ReplicaCollector"]

PREFIX = "cascade_replica_"
Figure = tuple[str, str, Callable[[Replica], float]]

NOW: tuple[Figure, ...] = (
    ("up", "1 while it takes texts.", lambda replica: replica.is_up),
    ("sessions", "Texts there that want tokens.", lambda replica: len(replica.running)),
    ("kv_cache_bytes", "Memory that caches hold.", lambda replica: replica.kv_bytes),
    ("step_seconds_last", "The last pass without prefill.", lambda replica: replica.pass_s),
)
TOTALS: tuple[Figure, ...] = (
    ("begins", "Times that it began: each beyond the first, it was lost.", lambda replica: replica.num_lives),
    ("texts", "Texts opened there, moved ones too.", lambda replica: replica.num_opened),
    ("hint_tokens_dropped", "Hints not sent, for it hung.", lambda replica: replica.num_dropped),
    ("generation_tokens", "Tokens committed.", lambda replica: replica.stats.num_committed),
    ("prefix_cache_hits", "Prompt tokens found in a cache.", lambda replica: replica.stats.num_hit),
    ("passes", "Passes of the target.", lambda replica: replica.stats.num_passes),
)


class ReplicaCollector(Collector):
    """Reads the front's replicas when it is asked; each is a label."""

    def __init__(self, engine: ReplicatedEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        for kind, figures in ((GaugeMetricFamily, NOW), (CounterMetricFamily, TOTALS)):
            for name, about, figure in figures:
                family = kind(PREFIX + name, about, labels=["replica"])
                for replica in self._engine.replicas:
                    family.add_metric([str(replica.index)], float(figure(replica)))
                yield family
