"""From two looks at an address to the figures that are worth showing. Rates are of the time between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .looking import Look

__all__ = ["Figure", "Report", "report"]


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is None where nothing was measured."""

    key: str
    label: str
    value: float | None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an edge or a gateway is doing."""

    kind: str
    """`edge` or `gateway`."""
    name: str
    state: str
    model: str
    figures: tuple[Figure, ...]
    rows: tuple[dict[str, Any], ...]
    """By identity at an edge; by promised quality at a gateway: its ledger."""

    @property
    def as_json(self) -> dict[str, Any]:
        figures = {
            figure.key: None if figure.value is None else round(figure.value, 4) for figure in self.figures
        }
        rows_are = "identities" if self.kind == "edge" else "ledger"
        about = {"kind": self.kind, "name": self.name, "state": self.state, "model": self.model}
        return {**about, **figures, rows_are: list(self.rows)}


def report(before: Look, now: Look) -> Report:
    return (_gateway if now.is_gateway else _edge)(before, now)


def _edge(before: Look, now: Look) -> Report:
    more, rate = _since(before, now)
    passes, tokens = more("passes_total"), more("generation_tokens_total")
    fed, accepted = more("spec_decode_num_draft_tokens_total"), more("spec_decode_num_accepted_tokens_total")
    payload = more("bytes_received_total") + more("bytes_sent_total")
    step_s = _ratio(more("step_duration_seconds_sum"), more("step_duration_seconds_count"))
    return Report(
        kind="edge",
        name=str(now.health.get("edge", "")),
        state=str(now.health.get("status", "")),
        model=str(now.health.get("model", "")),
        figures=(
            Figure("tokens_per_s", "tokens a second", rate("generation_tokens_total")),
            Figure("sessions", "sessions that want tokens", now.value("num_requests_running")),
            Figure("waiting", "of them without a token yet", now.value("num_requests_waiting")),
            Figure("links", "links", now.value("links")),
            Figure("tokens_per_pass", "tokens a pass", _ratio(tokens, passes)),
            Figure("hints_used", "hints fed that became text", _percent(_ratio(accepted, fed)), "%"),
            Figure("pass_ms", "a pass", _ms(step_s), "ms"),
            Figure("rows_per_pass", "rows a pass", _ratio(more("pass_rows_total"), passes)),
            Figure("first_token_p90_ms", "first token, 90 % within", _ms(_within(0.9, before, now)), "ms"),
            Figure("bytes_per_token", "payload a token", _ratio(payload, tokens), "B"),
            Figure("cache_mb", "caches", now.value("kv_cache_bytes") / 1e6, "MB"),
            Figure("refused", "refused so far", sum(now.by("refused_total", "code").values())),
        ),
        rows=tuple(_identities(before, now)),
    )


def _gateway(before: Look, now: Look) -> Report:
    more, rate = _since(before, now)
    sources = {source: more("gateway_tokens_total", source=source) for source in ("hinted", "driven", "kept")}
    tokens = sum(sources.values())
    payload = more("gateway_bytes_received_total") + more("gateway_bytes_sent_total")

    def share(source: str) -> float | None:
        return _percent(_ratio(sources[source], tokens))

    return Report(
        kind="gateway",
        name="",
        state=str(now.health.get("status", "")),
        model=str(now.health.get("edge_model", "")),
        figures=(
            Figure("tokens_per_s", "tokens a second", tokens / (now.time_s - before.time_s)),
            Figure("streams", "answers being made", now.value("gateway_num_requests_running")),
            Figure("waiting", "requests that wait", now.value("gateway_num_requests_waiting")),
            Figure("requests_per_s", "answers a second", rate("gateway_requests_total")),
            Figure("hinted", "guessed here, and right", share("hinted"), "%"),
            Figure("driven", "the edge's alone", share("driven"), "%"),
            Figure("kept", "the device's alone", share("kept"), "%"),
            Figure("rtt_ms", "round trip", _ms(now.known("gateway_rtt_seconds")), "ms"),
            Figure("jitter_ms", "its jitter", _ms(now.known("gateway_jitter_seconds")), "ms"),
            Figure("edge_pass_ms", "a pass of the edge", _ms(now.known("gateway_edge_pass_seconds")), "ms"),
            Figure("draft_step_ms", "a draft step", _ms(now.known("gateway_draft_step_seconds")), "ms"),
            Figure("bytes_per_token", "payload a token", _ratio(payload, tokens), "B"),
            Figure("refused", "refused so far", now.value("gateway_refused_total")),
        ),
        rows=tuple(_ledger(now)),
    )


def _identities(before: Look, now: Look) -> Iterator[dict[str, Any]]:
    """The busiest first."""
    then, time_s = before.by("identity_generation_tokens_total", "identity"), now.time_s - before.time_s
    found = now.by("identity_generation_tokens_total", "identity")
    hinted, refused = (now.by(f"identity_{name}_total", "identity") for name in ("hinted_tokens", "refused"))
    for identity in sorted(found, key=lambda one: (then.get(one, 0) - found[one], -found[one], one)):
        yield {
            "identity": identity,
            "tokens_per_s": round((found[identity] - then.get(identity, 0)) / time_s, 2),
            "tokens": int(found[identity]),
            "hinted": int(hinted.get(identity, 0)),
            "refused": int(refused.get(identity, 0)),
        }


def _ledger(now: Look) -> Iterator[dict[str, Any]]:
    kinds = ("delivered", "lossless", "disputed", "unaudited")
    for quality, least in sorted(now.by("gateway_ledger_least_quality", "quality").items()):
        tokens = {kind: int(now.value("gateway_ledger_tokens", quality=quality, kind=kind)) for kind in kinds}
        yield {"promised": float(quality), "given": round(least, 5), **tokens}


def _since(before: Look, now: Look) -> tuple[Callable[..., float], Callable[..., float]]:
    """How much more there is of a counter, and how much a second. One that began anew began at 0."""

    def more(name: str, **labels: str) -> float:
        then, value = before.value(name, **labels), now.value(name, **labels)
        return value - then if value >= then else value

    def rate(name: str, **labels: str) -> float:
        return more(name, **labels) / (now.time_s - before.time_s)

    return more, rate


def _within(share: float, before: Look, now: Look) -> float | None:
    """The bucket of first-token times below which that share lies; of all times where none is newer."""
    name = "time_to_first_token_seconds_bucket"
    counts = now.by(name, "le")
    then = before.by(name, "le")
    newer = {bound: count - then.get(bound, 0) for bound, count in counts.items()}
    for buckets in (newer, counts):
        total = buckets.get("+Inf", 0)
        if total > 0:
            return min(float(bound) for bound, count in buckets.items() if count >= share * total)
    return None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or seconds == float("inf") else 1000 * seconds
