"""What stands between the server and whatever decodes: an engine, and the texts it has open.

The batch engine (`engine.py`) is one implementation. Another may wrap a serving system, or be many engines
behind one name: nobody above may know which, so sessions and server use what is written here, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..decoding import Sampling
from ..errors import EngineError
from ..wire import Feature
from .histogram import COUNTS, SECONDS, Histogram

__all__ = ["Committed", "DecodeRequest", "Engine", "EngineStats", "Served", "Text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What decides a text, and nothing else: invariant 1 says that equal requests give equal texts."""

    prompt: tuple[int, ...]
    sampling: Sampling
    stop_ids: frozenset[int]
    length_limit: int
    """Absolute: prompt length + new tokens, or the context's end."""
    wants_logprobs: bool = field(default=False, compare=False)
    """This decides nothing: the text's `logprobs` will be asked for."""
    takes_any_noise: bool = field(default=False, compare=False)
    """Nor does this, where noise is shared: above temperature 0, an engine's own noise will do."""

    @property
    def demands(self) -> Feature:
        """What an engine must not lack to decode this."""
        is_seeded = self.sampling.temperature > 0 and not self.takes_any_noise
        return (Feature.SHARED_NOISE if is_seeded else Feature.NONE) | (
            Feature.LOGPROBS if self.wants_logprobs else Feature.NONE
        )


@dataclass(frozen=True, slots=True)
class Committed:
    """What one step added to a text."""

    tokens: tuple[int, ...]
    num_hinted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What devices must know of the model behind an engine."""

    vocab_size: int
    vocab_fingerprint: str
    context_length: int
    numerics: str
    """Sessions move between edges of one numerics class only."""
    lacks: Feature = Feature.NONE
    """What the engine cannot do. Those above refuse by name whoever demands it."""


@dataclass(slots=True, kw_only=True)
class EngineStats:
    """What an engine has done so far. These only grow."""

    num_passes: int = 0
    num_failed_passes: int = 0
    num_rows: int = 0
    """Tokens fed, of all kinds."""
    num_prefilled: int = 0
    """Of these, such that only filled a cache."""
    num_hit: int = 0
    """Tokens that needed no prefill, for another text began with them."""
    num_rebuilt: int = 0
    """Rows fed again after an eviction."""
    num_evictions: int = 0
    """Caches given up for others, of idle texts and of such as were over."""
    num_committed: int = 0
    num_hinted: int = 0
    """Committed tokens that a device had guessed; the others were driven."""
    num_failed: int = 0
    """Texts that ended because a step failed."""
    num_fed_hints: int = 0
    """Hints that took part in a pass."""
    num_unfed_hints: int = 0
    """Hints that were there for a pass, and left out: their rows would have cost more than they bring."""
    step_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """How long passes took."""
    step_rows: Histogram = field(default_factory=lambda: Histogram(COUNTS))
    step_texts: Histogram = field(default_factory=lambda: Histogram(COUNTS))

    def add_step(self, *, seconds: float, num_rows: int, num_texts: int, num_hints: int) -> None:
        """A pass is over."""
        self.num_fed_hints += num_hints
        self.step_s.add(seconds)
        self.step_rows.add(num_rows)
        self.step_texts.add(num_texts)


class Text(Protocol):
    """One text that an engine has open, as those above see it."""

    @property
    def head(self) -> int:
        """Committed tokens, prompt included: the position of the next one."""
        ...

    @property
    def known(self) -> int:
        """How far the device is known to have the text."""
        ...

    @property
    def prompt_length(self) -> int: ...

    @property
    def queue_s(self) -> float:
        """How long it was due, and waited, before its last step began."""
        ...

    @property
    def lag_s(self) -> float:
        """How long ago the step that gave its last tokens was over: they come from another process, say. The
        next one had begun by then, and devices time their hints by when it does."""
        ...

    @property
    def is_finished(self) -> bool:
        """Nothing will be added, unless the text is resumed with another prefix."""
        ...

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        """The text from `start` on, at most `limit` tokens of it."""
        ...

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        """Which of these tokens are the engine's own picks; None: all of them. Asked for what the device is
        not known to have."""
        ...

    def logprobs(self, start: int, stop: int) -> tuple[float, ...] | None:
        """Of these tokens, in the model itself, without temperature and cuts; None where the request wants
        none, or some are not known. Asked for what the device is not known to have."""
        ...


class Engine(Protocol):
    """Decodes many texts. All of it is called on the event loop, and none of it waits but `run`."""

    @property
    def served(self) -> Served: ...

    @property
    def stats(self) -> EngineStats: ...

    @property
    def kv_bytes(self) -> int:
        """Memory that caches hold."""
        ...

    @property
    def pass_s(self) -> float:
        """How long a token without hints takes at present; 0 before that is known."""
        ...

    @property
    def is_alive(self) -> bool:
        """False once `run` has ended, for whatever reason. Texts are not decoded any more."""
        ...

    def open(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        patience_s: float,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> Text:
        """Decode on from `prefix`, which begins with the request's prompt.

        Texts of one owner may share work, and so tell each other by their speed that they exist; texts of
        different owners never do. After `on_failure`, whose error is fit for the device, the text is closed.
        """
        ...

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        """The device opened the same text again, with all that it has of it."""
        ...

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        """The device's guess at the tokens from `position` on, behind a prefix with this hash."""
        ...

    def keep(
        self,
        text: Text,
        position: int,
        prefix_hash: int,
        tokens: tuple[int, ...],
        kept: tuple[bool, ...],
        *,
        may_go_on: bool,
        alpha: float = 0.0,
    ) -> None:
        """A hint of which the device has decided some tokens by itself; the hash has 32 bits. An engine that
        lacks `Feature.KEEP` is never told of any, nor overruled.

        Above 0, `alpha` lets its guesses stay that are nearly as good as the engine's own pick
        (`decoding.is_nearly_as_good`). An engine may be stricter than it has to.

        `may_go_on`: behind its last token the engine decides, after its patience. Otherwise it adds nothing
        of its own there, until the text is resumed or another keep says so.
        """
        ...

    def overrule(self, text: Text, position: int, prefix_hash: int) -> bool:
        """The device has decided otherwise: give up the text from `position` on, finished or not.

        False, and nothing done, where the text does not reach so far or is another before `position`.
        """
        ...

    def wish_patience(self, text: Text, patience_s: float) -> None:
        """The device wants the text to wait so long for hints, in place of what it opened with."""
        ...

    def hold(self, owner: str, until_s: float) -> None:
        """Decode none of this owner's texts before that time: it had all that its rate allows."""
        ...

    def acknowledge(self, text: Text, known: int) -> None:
        """The device has everything before `known`."""
        ...

    def close(self, text: Text) -> None:
        """Stop decoding. Closing twice is harmless."""
        ...

    async def run(self) -> None:
        """Decode until cancelled, or until decoding has become impossible; the error says why."""
        ...
