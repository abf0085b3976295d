"""An edge's counters as Prometheus reads them.

Where a figure means what vLLM's of the same name means, it has that name behind our prefix, so that
dashboards can be shared: `num_requests_running`, `spec_decode_num_draft_tokens_total`, and so on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ...edge import EdgeServer, Histogram, State

__all__ = ["EdgeCollector"]

PREFIX = "cascade_"


class EdgeCollector(Collector):
    """Reads the edge when it is asked; keeps nothing itself."""

    def __init__(self, edge: EdgeServer) -> None:
        self._edge = edge

    def collect(self) -> Iterator[Metric]:
        yield from self._now()
        yield from self._totals()
        yield from self._by_label()
        yield from self._by_identity()

    def _now(self) -> Iterator[Metric]:
        health = self._edge.health()
        yield _gauge("up", "1 while the edge is well: what /health says.", health.is_well)
        state = GaugeMetricFamily(PREFIX + "state", "The edge's state; one of them is 1.", labels=["state"])
        for known in State:
            state.add_metric([known.value], float(health.state is known))
        yield state
        yield _gauge("links", "Links that are open.", health.num_links)
        yield _gauge("num_requests_running", "Sessions that want tokens.", health.num_sessions)
        yield _gauge("num_requests_waiting", "Sessions without their first token.", health.num_waiting)
        yield _gauge("queue_oldest_seconds", "How long the first of these waits.", health.oldest_wait_s)
        yield _gauge("stalled_seconds", "How long the slowest session has been due.", health.stalled_s)
        yield _gauge("kv_cache_bytes", "Memory that caches hold.", self._edge.engine.kv_bytes)
        yield _gauge("step_seconds_last", "The last pass in which nobody was prefilled.", health.step_s)

    def _totals(self) -> Iterator[Metric]:
        counters = self._edge.counters
        engine = self._edge.engine.stats
        for name, about, value in (
            ("links", "Links that were ever open.", counters.num_links),
            ("sessions", "Sessions opened.", counters.num_sessions),
            ("sessions_resumed", "Sessions opened again by their device.", counters.num_resumed),
            ("prompt_tokens", "Tokens in opened texts.", counters.num_prompt),
            ("generation_tokens", "Tokens committed.", counters.num_accepted + counters.num_driven),
            ("driven_tokens", "Tokens committed that nobody had hinted.", counters.num_driven),
            ("hint_tokens_offered", "Tokens hinted by devices.", counters.num_offered),
            ("hint_tokens_ignored", "Hints not taken: over the rate.", counters.num_ignored),
            ("spec_decode_num_draft_tokens", "Hints fed to the target.", engine.num_fed_hints),
            ("hint_tokens_unfed", "Hints left out of a pass: not worth their rows.", engine.num_unfed_hints),
            ("spec_decode_num_accepted_tokens", "Hints that became text.", counters.num_accepted),
            ("prefix_cache_hits", "Prompt tokens that another text had prefilled.", engine.num_hit),
            ("evictions", "Caches given up for others.", engine.num_evictions),
            ("rebuilt_rows", "Rows fed again after that.", engine.num_rebuilt),
            ("failed_texts", "Sessions that a failed step ended.", engine.num_failed),
            ("passes", "Passes of the target.", engine.num_passes),
            ("failed_passes", "Of these, such as failed.", engine.num_failed_passes),
            ("pass_rows", "Tokens in these passes.", engine.num_rows),
            ("bad_messages", "Messages that were unreadable.", counters.num_bad_messages),
            ("slowed", "Times that a link was read later.", counters.num_slowed),
            ("bytes_received", "Payload of messages from devices.", counters.bytes_in),
            ("bytes_sent", "Payload of messages to devices.", counters.bytes_out),
        ):
            yield CounterMetricFamily(PREFIX + name, about, value=value)
        yield _histogram("step_duration_seconds", "How long a pass took.", engine.step_s)
        yield _histogram("step_rows", "Tokens in a pass.", engine.step_rows)
        yield _histogram("step_sessions", "Sessions in a pass.", engine.step_texts)
        about = "From OPEN to the first token."
        yield _histogram("time_to_first_token_seconds", about, counters.first_token_s)

    def _by_label(self) -> Iterator[Metric]:
        counters = self._edge.counters
        for name, about, label, values in (
            ("sessions_ended", "Sessions that are over.", "reason", counters.ended),
            ("refused", "What devices asked for and did not get.", "code", counters.refused),
            ("links_cut", "Links that the edge hung up on.", "reason", counters.cut),
        ):
            family = CounterMetricFamily(PREFIX + name, about, labels=[label])
            for value, count in sorted(values.items()):
                family.add_metric([value], count)
            yield family

    def _by_identity(self) -> Iterator[Metric]:
        """At most as many labels as the counters tell apart; the others are one."""
        usages = sorted(self._edge.counters.by_identity.items())
        for name, about, field in (
            ("identity_sessions", "Sessions opened.", "num_sessions"),
            ("identity_prompt_tokens", "Tokens in opened texts.", "num_prompt_tokens"),
            ("identity_generation_tokens", "Tokens committed.", "num_tokens"),
            ("identity_hinted_tokens", "Of these, hinted.", "num_hinted"),
            ("identity_bytes_received", "Payload of messages.", "bytes_in"),
            ("identity_bytes_sent", "Payload of messages.", "bytes_out"),
            ("identity_refused", "What it did not get.", "num_refused"),
        ):
            family = CounterMetricFamily(PREFIX + name, about, labels=["identity"])
            for identity, usage in usages:
                family.add_metric([identity], getattr(usage, field))
            yield family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, about, value=float(value))


def _histogram(name: str, about: str, histogram: Histogram) -> Metric:
    cumulative = list(itertools.accumulate(histogram.counts))
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, cumulative, strict=True))
    return HistogramMetricFamily(PREFIX + name, about, buckets=buckets, sum_value=histogram.total)
