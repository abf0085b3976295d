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
    "PriceSettings",
    "PublishedSettings",
]

POLICIES = ("cloud", "ask-and-wait", "hint-driven", "adaptive", "cascade")
MODELS = ("synthetic", "paced", "real")
OBJECTIVES = tuple(objective.value for objective in Objective)
ARRIVALS = ("even", "random")
CLOCKS = ("virtual", "real")
RECORDS = ("all", "tokens", "none")
FIGURES = ("lines", "cdf", "front", "winners", "heat", "goal", "capacity", "timeline", "drift")
COMPARISONS = ("value", "speedup", "gain", "distance", "less", "capacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """`[models]`: which pair, and what its steps cost."""

    kind: str = "synthetic"
    """`paced`: recorded real text with the costs declared here; `real`: they take what they take."""
    recording: str = "smollm2-135m"
    """Of `paced`, and the prompts of `real`: a shipped one, or a file beside the experiment's."""
    target: str = "smollm2-135m"
    """Of `real`; a folder, a GGUF file or a name."""
    draft: str = "smollm2-135m-draft"
    """Of `real`."""
    agreement: float = 0.8
    """Chance that the draft guesses right."""
    concentration: float = 0.0
    """Chances vary from token to token, as a Beta distribution of this concentration; 0: all are equal."""
    pass_ms: float = 50.0
    """Of one row."""
    row_ms: float = 0.0
    """What each further row adds to a pass."""
    curve_ms: tuple[tuple[float, float], ...] = ()
    """A measured curve in place of both: [rows, milliseconds of a pass], from narrow to wide."""
    draft_step_ms: float = 5.0
    """A token of the draft."""
    max_fed_hints: int = 16
    """Hints of one session that one pass takes."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, MODELS)
        for name in ("recording", "target", "draft"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise SettingsError(name, f"must be a name or a file, not {getattr(self, name)!r}")
        check_number("agreement", self.agreement, low=0, high=1)
        check_number("concentration", self.concentration, low=0)
        if self.kind != "synthetic" and (self.agreement, self.concentration) != (0.8, 0.0):
            reason = f"is what it is with {self.kind} models; leave agreement and concentration out"
            raise SettingsError("agreement", reason)
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
    """There and back; half of it each way."""
    jitter_ms: float = 0.0
    """Mean of an exponential delay on top of either way."""
    trace_up: str = ""
    """A file of rates to replay on the way up, in place of a constant one."""
    trace_down: str = ""
    """And down."""
    is_reliable: bool = True
    """A stream that stalls on loss (WebSocket), or datagrams that are lost (MQTT at QoS 0)."""
    drift: tuple[Change, ...] = ()
    """Changes of the link on the way, in order of time."""
    folder: str | None = "."
    """Where relative paths begin; the experiment's own. None: files are not looked for, it is all over."""

    def __post_init__(self) -> None:
        check_number("rtt_ms", self.rtt_ms, low=0)
        check_number("jitter_ms", self.jitter_ms, low=0)
        if self.profile and (self.rtt_ms or self.jitter_ms):
            raise SettingsError("profile", "has a delay of its own; leave rtt_ms and jitter_ms out")
        if any(late.at_s <= early.at_s for early, late in zip(self.drift, self.drift[1:], strict=False)):
            raise SettingsError("drift", "must be in order of time")
        if self.folder is not None:
            self.conditions()

    def conditions(self) -> tuple[Conditions, Conditions]:
        """Up and down, before any drift."""
        folder = self.folder or "."
        if self.profile:
            path = Path(folder) / self.profile
            profile = load_profile(path if path.suffix == ".toml" else self.profile)
            up, down = profile.up, profile.down
        else:
            up = down = Conditions(delay_s=self.rtt_ms / 2000, jitter_s=self.jitter_ms / 1000)
        return self._traced(up, self.trace_up), self._traced(down, self.trace_down)

    def _traced(self, conditions: Conditions, trace: str) -> Conditions:
        import dataclasses

        if not trace:
            return conditions
        recorded = load_trace(Path(self.folder or ".") / trace)
        return dataclasses.replace(conditions, trace=recorded, rate_bytes_per_s=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """`[load]`: who asks for what."""

    devices: int = 1
    """At all edges together."""
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
    """One of the policies that docs/lab.md lists."""
    k: int = 8
    """Guesses that `ask-and-wait` sends at a time."""
    patience_ms: float = 0.0
    """Of `hint-driven`."""
    patience_rtts: float = 0.0
    """Of `hint-driven`: so many of the link's round trips on top."""
    window: int = 64
    """Of `hint-driven`."""
    objective: str = Objective.LATENCY.value
    """Of `adaptive`."""
    quality: float = 0.975
    """Of `cascade`: the promise that the device keeps while it decides tokens by itself."""

    def __post_init__(self) -> None:
        check_choice("name", self.name, POLICIES)
        check_choice("objective", self.objective, OBJECTIVES)
        check_number("patience_ms", self.patience_ms, low=0)
        check_number("patience_rtts", self.patience_rtts, low=0)
        check_number("quality", self.quality, low=0, high=1)
        self.policy(0.0)

    @property
    def label(self) -> str:
        """What a figure calls it."""
        match self.name:
            case "ask-and-wait":
                return f"{self.name}, k = {self.k}"
            case "hint-driven":
                patience = " + ".join(
                    text
                    for text, amount in (
                        (f"{self.patience_rtts:g} R", self.patience_rtts),
                        (f"{self.patience_ms:g} ms", self.patience_ms),
                    )
                    if amount
                )
                return f"{self.name}, window {self.window}{f', patience {patience}' if patience else ''}"
            case "adaptive":
                return f"{self.name}, {self.objective}"
            case "cascade":
                return f"{self.name}, quality {self.quality:g}"
        return self.name

    def policy(self, rtt_s: float) -> Policy:
        """Over a link of this round trip."""
        match self.name:
            case "cloud":
                return Policy.cloud()
            case "ask-and-wait":
                return Policy.ask_and_wait(self.k)
            case "hint-driven":
                patience_s = self.patience_ms / 1000 + self.patience_rtts * rtt_s
                return Policy.hint_driven(patience_s=patience_s, window=self.window)
            case _:
                return Policy.adaptive(Objective(self.objective))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """`[prices]`: what things cost, for the figures of energy and money. They change no decision."""

    draft_step_mj: float = 0.0
    """Energy of the device for a draft step."""
    byte_uj: float = 0.0
    """And for a byte of payload, either way."""
    waiting_mw: float = 0.0
    """And while an answer is under way, whatever it does."""
    edge_usd_per_h: float = 0.0
    """Of the edge's processor, for the time that it computes."""
    gb_usd: float = 0.0
    """Of a metered link, for 10^9 bytes of payload."""

    def __post_init__(self) -> None:
        for name in ("draft_step_mj", "byte_uj", "waiting_mw", "edge_usd_per_h", "gb_usd"):
            check_number(name, getattr(self, name), low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid."""

    models: ModelSettings = field(default_factory=ModelSettings)
    link: LinkSettings = field(default_factory=LinkSettings)
    load: LoadSettings = field(default_factory=LoadSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    prices: PriceSettings = field(default_factory=PriceSettings)

    def stream_policy(self) -> Policy:
        """Its patience follows the link as it is before any drift."""
        up, down = self.link.conditions()
        return self.policy.policy(up.delay_s + down.delay_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureSettings:
    """An entry of `[[figure]]`. Axes are settings (`link.rtt_ms`) or figures of a run (`ms_per_token`)."""

    kind: str
    """`lines`, `cdf`, `front`, `winners`, `heat`, `goal`, `capacity`, `timeline` or `drift`."""
    title: str = ""
    """Above it."""
    x: str = ""
    """The setting or figure along the bottom."""
    y: str = "ms_per_token"
    """The figure upwards."""
    by: str = "policy.label"
    """A line for each value of this setting."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Only points with these values."""
    of: str = ""
    """Of `heat`: the value of `by` whose gain is coloured. Of `drift`: whose controller is shown."""
    against: str = ""
    """Of `heat`: the value of `by` that the others are held against."""
    goal_ms: float = 0.0
    """Of `goal`: what time per token may be."""
    from_s: float = 0.0
    """Of `timeline`: where it begins; at first the controller knows nothing yet."""

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, FIGURES)
        for name in ("title", "x", "y", "by", "of", "against"):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(name, f"must be a text, not {getattr(self, name)!r}")
        if not isinstance(self.where, Mapping):
            raise SettingsError("where", "must be a table, such as { link.rtt_ms = 100 }")
        check_number("goal_ms", self.goal_ms, low=0)
        check_number("from_s", self.from_s, low=0)
        needed = {
            "lines": ("x",),
            "winners": ("x",),
            "front": ("x",),
            "heat": ("x", "of", "against"),
            "goal": ("goal_ms",),
            "drift": ("of",),
        }
        for name in needed.get(self.kind, ()):
            if not getattr(self, name):
                raise SettingsError(name, f"is missing: a figure of kind {self.kind} needs it")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSettings:
    """An entry of `[[published]]`: what a paper found, and which of our points stand beside it."""

    paper: str
    """With its arXiv number."""
    says: str
    """Its figure, as it is published."""
    setting: str
    """Where it was measured."""
    unlike: str
    """Where the comparison is not like for like."""
    ours: str
    """A figure of a run."""
    how: str = "value"
    """`speedup`: against / of; `gain`: of / against; `distance`: of / against - 1; `less`: 1 - of / against;
    `capacity`: devices that hold `goal_ms`, of / against; `value`: just of."""
    of: Mapping[str, Any] = field(default_factory=dict)
    """Points that are ours; the best of them where there are several."""
    against: Mapping[str, Any] = field(default_factory=dict)
    """Points that they are held against; the best of them."""
    per: tuple[str, ...] = ()
    """One figure for each value of these settings."""
    goal_ms: float = 0.0
    """Of `capacity`: what time per token may be."""

    def __post_init__(self) -> None:
        for name in ("paper", "says", "setting", "unlike", "ours"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise SettingsError(name, "must be a text that says it")
        check_choice("how", self.how, COMPARISONS)
        for name in ("of", "against"):
            if not isinstance(getattr(self, name), Mapping):
                raise SettingsError(name, 'must be a table, such as { "policy.name" = "adaptive" }')
        if self.how != "value" and not self.against:
            raise SettingsError("against", f"is missing: {self.how} needs what to compare with")
        check_number("goal_ms", self.goal_ms, low=0)
        if self.how == "capacity" and not self.goal_ms:
            raise SettingsError("goal_ms", "is missing: capacity needs it")
        if isinstance(self.per, str) or not all(isinstance(name, str) for name in self.per):
            raise SettingsError("per", 'must be a list of settings, such as ["link.rtt_ms"]')


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
    published: tuple[PublishedSettings, ...] = ()

    def __post_init__(self) -> None:
        check_int("seeds", self.seeds, low=1)
        check_choice("clock", self.clock, CLOCKS)
        check_choice("records", self.records, RECORDS)
        if self.clock == "virtual" and any(point.models.kind == "real" for point in self.points):
            raise SettingsError("models.kind", 'real models take real time: clock = "real"')
