"""`/metrics` of a gateway: what its device knows, as Prometheus reads it.

Written here, and not by the library that the edge has for it: a device should need as little as can be.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping

from aiohttp import web

from ...device import AnswerStream, Device
from ...events import Account, Summary
from .turns import Turns

__all__ = ["METRICS_PATH", "Metrics"]

METRICS_PATH = "/metrics"
PREFIX = "cascade_gateway_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_QUALITIES = 16
"""Promises shown, the newest: clients may ask for any."""


class Metrics:
    """Counts answers: those that are over, and those that are being made as far as they are."""

    def __init__(self, device: Device, turns: Turns) -> None:
        self._device = device
        self._turns = turns
        self._running: set[AnswerStream] = set()
        self._num_requests = 0
        self._over: Counter[str] = Counter()
        self._first_token_s = 0.0
        self._num_first_tokens = 0
        self._newest: Summary | None = None
        """Of the answers that know the link."""
        self._accounts: dict[float, Account] = {}

    @contextlib.contextmanager
    def counting(self, stream: AnswerStream) -> Iterator[None]:
        self._num_requests += 1
        self._running.add(stream)
        try:
            yield
        finally:
            self._running.discard(stream)
            self._take(stream.summary)

    async def page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.text().encode(), headers={"Content-Type": CONTENT_TYPE})

    def text(self) -> str:
        return "".join(self._lines())

    def _take(self, summary: Summary) -> None:
        self._over += _counts(summary)
        if summary.num_tokens:
            self._first_token_s += summary.time_to_first_token_s
            self._num_first_tokens += 1
        if summary.rtt_s is not None:
            self._newest = summary
        if summary.account is not None:
            self._accounts.pop(summary.account.quality, None)
            self._accounts[summary.account.quality] = summary.account
            if len(self._accounts) > MAX_QUALITIES:
                del self._accounts[next(iter(self._accounts))]

    def _lines(self) -> Iterator[str]:
        running = [stream.summary for stream in self._running]
        counts = sum((_counts(summary) for summary in running), Counter(self._over))
        yield from _gauge("connected", "1 while an edge serves the device.", self._device.is_connected)
        yield from _gauge("num_requests_running", "Answers that are being made.", self._turns.num_running)
        yield from _gauge("num_requests_waiting", "Requests that wait.", self._turns.num_waiting)
        yield from _counter("requests", "Answers begun.", {"": self._num_requests})
        yield from _counter("refused", "Requests that had no turn.", {"": self._turns.num_refused})
        about = "Tokens of answers, by who was first with them."
        tokens = {f'{{source="{source}"}}': counts[source] for source in ("hinted", "driven", "kept")}
        yield from _counter("tokens", about, tokens)
        yield from _counter("drafted_tokens", "Tokens guessed.", {"": counts["drafted"]})
        yield from _counter("bytes_sent", "Payload of hints.", {"": counts["bytes_up"]})
        yield from _counter("bytes_received", "Payload of commits.", {"": counts["bytes_down"]})
        yield from _head("time_to_first_token_seconds", "From request to first token.", "summary")
        yield f"{PREFIX}time_to_first_token_seconds_sum {self._first_token_s:.6g}\n"
        yield f"{PREFIX}time_to_first_token_seconds_count {self._num_first_tokens}\n"
        newest = next((summary for summary in running if summary.rtt_s is not None), self._newest)
        if newest is not None:
            yield from _link(newest)
        yield from self._ledger([summary.account for summary in running if summary.account is not None])

    def _ledger(self, running: list[Account]) -> Iterator[str]:
        accounts = self._accounts | {account.quality: account for account in running}
        if not accounts:
            return
        yield from _head("ledger_least_quality", "What was certainly given, by what was promised.", "gauge")
        for quality, account in accounts.items():
            yield f'{PREFIX}ledger_least_quality{{quality="{quality:g}"}} {account.least_quality:.6f}\n'
        yield from _head("ledger_tokens", "The ledger, by promise.", "gauge")
        for quality, account in accounts.items():
            for kind, value in (
                ("delivered", account.num_delivered),
                ("lossless", account.num_lossless),
                ("disputed", account.num_disputed),
                ("unaudited", account.num_unaudited),
            ):
                yield f'{PREFIX}ledger_tokens{{quality="{quality:g}",kind="{kind}"}} {value}\n'


def _counts(summary: Summary) -> Counter[str]:
    return Counter(
        hinted=summary.num_hinted,
        kept=summary.num_kept,
        driven=summary.num_tokens - summary.num_hinted - summary.num_kept,
        drafted=summary.num_drafted,
        bytes_up=summary.bytes_up,
        bytes_down=summary.bytes_down,
    )


def _link(summary: Summary) -> Iterator[str]:
    for name, about, value in (
        ("rtt_seconds", "Round trip of the link, smoothed.", summary.rtt_s),
        ("jitter_seconds", "Its mean deviation.", summary.jitter_s),
        ("edge_pass_seconds", "A pass of the edge.", summary.edge_pass_s),
        ("draft_step_seconds", "A draft step, waiting included.", summary.draft_step_s),
    ):
        if value is not None:
            yield from _gauge(name, about, value)


def _gauge(name: str, about: str, value: float) -> Iterator[str]:
    yield from _head(name, about, "gauge")
    yield f"{PREFIX}{name} {float(value):.6g}\n"


def _counter(name: str, about: str, values: Mapping[str, int]) -> Iterator[str]:
    yield from _head(f"{name}_total", about, "counter")
    for labels, value in values.items():
        yield f"{PREFIX}{name}_total{labels} {value}\n"


def _head(name: str, about: str, kind: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {about}\n# TYPE {PREFIX}{name} {kind}\n"
