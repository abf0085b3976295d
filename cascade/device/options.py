"""What an app may say about a single answer: the same for `stream`, `generate` and the turns of a chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Required, TypeAlias, TypedDict, get_args

from ..decoding import Sampling
from ..errors import SettingsError
from ..settings import check_choice, check_int, check_number
from .policy import Policy
from .router import Route

__all__ = ["OnDisconnect", "StreamOptions", "StreamSettings"]

OnDisconnect: TypeAlias = Literal["wait", "continue"]
"""What a stream does while there is no edge."""

ROUTES = ("auto", *(route.value for route in Route))


class StreamOptions(TypedDict, total=False):
    """The fields of `StreamSettings`, as keywords."""

    max_new_tokens: Required[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: str | Sequence[str]
    stop_ids: Iterable[int] | None
    policy: Policy | None
    quality: float
    threshold: float | None
    alpha: float
    on_disconnect: OnDisconnect
    offline_after_s: float
    revisions: bool
    logprobs: bool
    any_noise: bool
    route: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How one answer is made."""

    max_new_tokens: int
    """Where the answer ends at the latest."""
    temperature: float = 0.0
    """0 takes the likeliest token; higher is more varied."""
    top_k: int = 0
    """Only the k likeliest tokens may be picked; 0 is off."""
    top_p: float = 1.0
    """Only the likeliest tokens, until they hold this much of the probability; 1 is off."""
    min_p: float = 0.0
    """Only tokens at least this likely, measured by the likeliest; 0 is off."""
    seed: int | None = None
    """The same seed gives the same text. None: the device draws one."""
    stop: str | Sequence[str] = ()
    """Texts that end the answer and do not belong to it."""
    stop_ids: Iterable[int] | None = None
    """Tokens that end the answer and belong to it. None: the model's ends of sequence."""
    policy: Policy | None = None
    """How to draft and when to send. None: hint-driven where there is a draft, else plain streaming."""
    quality: float = 1.0
    """The least share of tokens that are the target's own pick, in all streams of this quality. 1: all."""
    threshold: float | None = None
    """Keep tokens whose chance of disagreement is not above this, within the ledger. None: steered."""
    alpha: float = 0.0
    """The edge lets guesses stay whose score is not below its own pick's by more than -log(1 - alpha), as far
    as the ledger has room for them."""
    on_disconnect: OnDisconnect = "wait"
    """While there is no edge: wait for one, or go on with the draft alone, provisionally."""
    offline_after_s: float = 2.0
    """There is no edge when nothing was heard of one for so long."""
    revisions: bool = False
    """Provisional tokens that the edge would not have said are withdrawn when it is back. Else they stand."""
    logprobs: bool = False
    """Tokens come with the log-probability that the target gave them. Of lossless streams only."""
    any_noise: bool = False
    """Above temperature 0: an edge that draws noise of its own will do, where the seed decides nothing."""
    route: str | None = None
    """`auto`: device, cascade, lossless or cloud, whichever is expected to cost least; or one of these. None:
    as policy and quality say."""

    def __post_init__(self) -> None:
        if self.logprobs and (self.quality < 1 or self.on_disconnect != "wait"):
            text = "are of the target's own tokens only; ask with quality=1 and on_disconnect='wait'"
            raise SettingsError("logprobs", text)
        if self.route is not None:
            check_choice("route", self.route, ROUTES)
            if self.policy is not None and self.policy.prices is None:
                raise SettingsError(
                    "policy", "a route is chosen by prices; give Policy.adaptive(...), or none"
                )
        check_number("quality", self.quality, low=0.5, high=1)
        if self.threshold is not None:
            check_number("threshold", self.threshold, low=0, high=1)
        check_number("alpha", self.alpha, low=0, high=0.99)
        if self.alpha and self.quality == 1:
            raise SettingsError("alpha", "costs agreement, and quality=1 promises all of it; promise less")
        check_int("max_new_tokens", self.max_new_tokens, low=1)
        if self.on_disconnect not in get_args(OnDisconnect):
            raise SettingsError("on_disconnect", f'must be "wait" or "continue", not {self.on_disconnect!r}')
        check_number("offline_after_s", self.offline_after_s, low=0.05)
        if self.revisions and self.on_disconnect == "wait":
            reason = 'a stream that waits has nothing to revise; say on_disconnect="continue" too'
            raise SettingsError("revisions", reason)
        if not all(isinstance(stop, str) and stop for stop in self.stops):
            raise SettingsError("stop", "must be a text or a list of texts, none of them empty")

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def sampling(self, drawn_seed: int) -> Sampling:
        """With the seed that the app named, or, where it matters, the drawn one."""
        named = self.seed if self.seed is not None else drawn_seed if self.temperature else 0
        return Sampling(
            temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p, seed=named
        )
