"""A point of an experiment as the fluid model sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import SettingsError
from ..fluid import Crowd
from .settings import ModelSettings

__all__ = ["crowd_of"]

UNKNOWN = {
    "models.concentration": "chances that vary",
    "link.profile": "profiles",
    "link.jitter_ms": "jitter",
    "link.trace_up": "traces",
    "link.trace_down": "traces",
    "link.drift": "links that change",
    "load.think_s": "pauses",
    "policy.patience_ms": "patience",
    "policy.patience_rtts": "patience",
}
"""What may be set, and the fluid model has no term for."""


def crowd_of(settings: Mapping[str, Any]) -> Crowd:
    """The devices of one edge, from a point's flat settings; an error of ours says what cannot be asked."""
    for name, what in UNKNOWN.items():
        if settings[name]:
            raise SettingsError(name, f"the fluid model knows no {what}")
    if settings["models.kind"] != "synthetic":
        raise SettingsError("models.kind", "the fluid model knows synthetic models only")
    policy, objective = settings["policy.name"], settings["policy.objective"]
    if policy in ("ask-and-wait", "cascade") or (policy == "adaptive" and objective != "latency"):
        raise SettingsError(
            "policy.name", "the fluid model knows no device that its edge waits for, or that decides"
        )
    values = {name.partition(".")[2]: value for name, value in settings.items() if name.startswith("models.")}
    models = ModelSettings(**values)
    return Crowd(
        cost_s=models.pass_s,
        agreement=models.agreement,
        rtt_s=settings["link.rtt_ms"] / 1000,
        draft_step_s=models.draft_step_ms / 1000,
        max_fed_hints=models.max_fed_hints,
        window=settings["policy.window"],
        has_hints=policy != "cloud",
    )
