"""What an experiment is: frozen settings, checked when they are made. Names are those of the TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...device import Policy
from ...errors import SettingsError
from ...links.conditions import Conditions
from ...links.profiles import load_profile
from ...links.traces import load_trace
from ...prices import Objective
from ...settings import check_choice, check_int, check_number
from ..curves import check_curve, on_curve

__all__ = [
    "Change",
    "Experiment",
    "FigureSettings",
    "LinkSettings",
    "LoadSettings",
    "ModelSettings",
    "Point",
    "PolicySettings",
]

POLICIES = ("cloud", "ask-and-wait", "hint-driven", "adaptive")
OBJECTIVES = tuple(objective.value for objective in Objective)
ARRIVALS = ("even", "random")
CLOCKS = ("virtual", "real")
RECORDS = ("all", "tokens", "none")
FIGURES = ("lines", "cdf", "timeline", "winners", "front", "capacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """`[models]`: the synthetic pair, and what its steps cost."""

    agreement: float = 0.8
    concentration: float = 0.0
    """Chances vary from token to token, as a Beta distribution of this concentration; 0: all are equal."""
    pass_ms: float = 50.0
    """Of one row."""
    row_ms: float = 0.0
    """What each further row adds to a pass."""
    curve_ms: tuple[tuple[float, float], ...] = ()
    """A measured curve in place of both: [rows, milliseconds of a pass], from narrow to wide."""
    draft_step_ms: float = 5.0
    max_fed_hints: int = 16

    def __post_init__(self) -> None:
        check_number("agreement", self.agreement, low=0, high=1)
        check_number("concentration", self.concentration, low=0)
        for name in ("pass_ms", "row_ms", "draft_step_ms"):
            check_number(name, getattr(self, name), low=0)
        check_int("max_fed_hints", self.max_fed_hints, low=0)
        if self.curve_ms:
            object.__setattr__(self, "curve_ms", check_curve("curve_ms", self.curve_ms))

    def pass_s(self, rows: float) -> float:
        if self.curve_ms:
            return on_curve(self.curve_ms, rows) / 1000
        return (self.pass_ms + self.row_ms * (rows - 1)) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An entry of `link.drift`: from `at_s` on, the link is like this."""

    at_s: float
    rtt_ms: float
    jitter_ms: float = 0.0

    def __post_init__(self) -> None:
        check_number("at_s", self.at_s, low=0)
        check_number("rtt_ms", self.rtt_ms, low=0)
        check_number("jitter_ms", self.jitter_ms, low=0)

    @property
    def conditions(self) -> Conditions:
        """Of either way."""
        return Conditions(delay_s=self.rtt_ms / 2000, jitter_s=self.jitter_ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """`[link]`: a profile, or a round trip; traces in place of a rate; changes on the way."""

    profile: str = ""
    """A name, or a TOML file beside the experiment's."""
    rtt_ms: float = 0.0
    jitter_ms: float = 0.0
    """Mean of an exponential delay on top of either way."""
    trace_up: str = ""
    trace_down: str = ""
    is_reliable: bool = True
    """A stream that stalls on loss (WebSocket), or datagrams that are lost (MQTT at QoS 0)."""
    drift: tuple[Change, ...] = ()
    folder: str = "."
    """Where relative paths begin; the experiment's own."""

    def __post_init__(self) -> None:
        check_number("rtt_ms", self.rtt_ms, low=0)
        check_number("jitter_ms", self.jitter_ms, low=0)
        if self.profile and (self.rtt_ms or self.jitter_ms):
            raise SettingsError("profile", "has a delay of its own; leave rtt_ms and jitter_ms out")
        if any(late.at_s <= early.at_s for early, late in zip(self.drift, self.drift[1:], strict=False)):
            raise SettingsError("drift", "must be in order of time")
        self.conditions()

    def conditions(self) -> tuple[Conditions, Conditions]:
        """Up and down, before any drift."""
        if self.profile:
            path = Path(self.folder) / self.profile
            profile = load_profile(path if path.suffix == ".toml" else self.profile)
            up, down = profile.up, profile.down
        else:
            up = down = Conditions(delay_s=self.rtt_ms / 2000, jitter_s=self.jitter_ms / 1000)
        return self._traced(up, self.trace_up), self._traced(down, self.trace_down)

    def _traced(self, conditions: Conditions, trace: str) -> Conditions:
        import dataclasses

        if not trace:
            return conditions
        recorded = load_trace(Path(self.folder) / trace)
        return dataclasses.replace(conditions, trace=recorded, rate_bytes_per_s=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """`[load]`: who asks for what."""

    devices: int = 1
    edges: int = 1
    """Each with devices of its own that take no notice of the others: device n is at edge n modulo edges."""
    streams: int = 1
    """Of each device, one after the other."""
    tokens: int = 200
    """Of each stream."""
    seconds: float = 0.0
    """The run is over then; until then each device streams text after text. 0: `streams` each."""
    arrivals_s: float = 0.0
    """The devices come one by one, spread over this."""
    arrival: str = "even"
    """`random`: at moments drawn from all of it, as people come who know nothing of each other."""
    think_s: float = 0.0
    """Mean pause between two streams of a device, exponential."""

    def __post_init__(self) -> None:
        check_int("devices", self.devices, low=1)
        check_int("streams", self.streams, low=1)
        check_int("tokens", self.tokens, low=1)
        check_int("edges", self.edges, low=1)
        if self.edges > self.devices:
            raise SettingsError("edges", f"{self.edges} are more than the {self.devices} devices")
        check_number("seconds", self.seconds, low=0)
        if self.seconds and self.arrivals_s >= self.seconds:
            raise SettingsError("arrivals_s", f"must end before the run does, at {self.seconds:g} s")
        check_choice("arrival", self.arrival, ARRIVALS)
        check_number("arrivals_s", self.arrivals_s, low=0)
        check_number("think_s", self.think_s, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """`[policy]`: how a stream is decoded."""

    name: str = "adaptive"
    k: int = 8
    """Guesses that `ask-and-wait` sends at a time."""
    patience_ms: float = 0.0
    """Of `hint-driven`."""
    window: int = 64
    """Of `hint-driven`."""
    objective: str = Objective.LATENCY.value
    """Of `adaptive`."""

    def __post_init__(self) -> None:
        check_choice("name", self.name, POLICIES)
        check_choice("objective", self.objective, OBJECTIVES)
        self.policy()

    @property
    def label(self) -> str:
        """What a figure calls it."""
        match self.name:
            case "ask-and-wait":
                return f"{self.name}, k = {self.k}"
            case "hint-driven":
                patience = f", patience {self.patience_ms:g} ms" if self.patience_ms else ""
                return f"{self.name}, window {self.window}{patience}"
            case "adaptive":
                return f"{self.name}, {self.objective}"
        return self.name

    def policy(self) -> Policy:
        match self.name:
            case "cloud":
                return Policy.cloud()
            case "ask-and-wait":
                return Policy.ask_and_wait(self.k)
            case "hint-driven":
                return Policy.hint_driven(patience_s=self.patience_ms / 1000, window=self.window)
            case _:
                return Policy.adaptive(Objective(self.objective))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid."""

    models: ModelSettings = field(default_factory=ModelSettings)
    link: LinkSettings = field(default_factory=LinkSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSettings:
    """An entry of `[[figure]]`. Axes are settings (`link.rtt_ms`) or figures of a run (`ms_per_token`)."""

    kind: str
    title: str = ""
    x: str = ""
    y: str = "ms_per_token"
    by: str = "policy.label"
    """A line for each value of this setting."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Only points with these values."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, FIGURES)
        if self.kind in ("lines", "winners", "front") and not self.x:
            raise SettingsError("x", f"is missing: a figure of kind {self.kind} needs it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """The whole file."""

    name: str
    about: str = ""
    seeds: int = 5
    """Runs of each point; the same seeds at all of them, so that points differ in their settings only."""
    clock: str = "virtual"
    records: str = "all"
    """`all`: tokens, messages and steps; `tokens`: no messages; `none`: the figures only."""
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """`[grid]`: setting by setting, the values it takes."""
    points: tuple[Point, ...] = (Point(),)
    figures: tuple[FigureSettings, ...] = ()

    def __post_init__(self) -> None:
        check_int("seeds", self.seeds, low=1)
        check_choice("clock", self.clock, CLOCKS)
        check_choice("records", self.records, RECORDS)
