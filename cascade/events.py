"""What an app gets to see of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

__all__ = ["Account", "Answer", "Event", "Revision", "Source", "Summary", "Token", "Verified"]


class Source(Enum):
    """Who was first with a token. Hinted and driven text is the target's either way."""

    HINTED = "hinted"
    """The device guessed it and the edge agreed."""
    DRIVEN = "driven"
    """The edge decided it without a usable hint."""
    KEPT = "kept"
    """The device decided it by itself."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the answer; every position comes exactly once, in order."""

    id: int
    position: int
    """In the whole text, prompt included."""
    source: Source
    time_s: float
    """Loop time at which it reached the device."""
    text: str = ""
    """What it adds to the answer: whole characters only, so it may be empty and the next one's longer. What
    could become a stop string is held back until that is decided. Empty on a device without a tokenizer."""
    agreement: float | None = None
    """The chance that the edge agrees with the device here, as the device estimated it before it knew; None
    where it had guessed nothing."""
    is_provisional: bool = False
    """Decided by the device for want of an edge, outside of every promise."""
    logprob: float | None = None
    """What the target gave it, without temperature and cuts, where the stream asked for `logprobs`."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Revision:
    """The edge is back and has another token here: this one and all behind it are withdrawn. What comes in
    their place follows. For streams with `revisions=True`."""

    position: int
    """Of the first token that is withdrawn, in the whole text, prompt included."""
    text: str
    """The answer as it stands now, from its beginning. Empty on a device without a tokenizer."""
    num_withdrawn: int
    time_s: float


@dataclass(frozen=True, slots=True)
class Verified:
    """The edge is back and has confirmed the provisional tokens before `position`. For streams with
    `revisions=True`."""

    position: int
    time_s: float


Event: TypeAlias = Token | Revision | Verified
"""What `stream.events()` gives. Streams without revisions have tokens only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an account was promised, and what it was given: all its streams of one quality together."""

    quality: float
    """Of the tokens delivered at least this share is the target's own pick, given everything before."""
    num_delivered: int
    num_lossless: int
    """Delivered by lossless streams, and credit for this promise."""
    num_disputed: int
    """Known to be another token than the target's pick, or never to be audited."""
    num_unaudited: int
    """Kept, and without a verdict yet; among them such as wait behind a guess, and may never be delivered."""
    num_provisional: int = 0
    """Delivered while there was no edge, and not audited: outside of the promise until they are."""

    @property
    def least_quality(self) -> float:
        """What is certain at this moment, should everything without a verdict turn out to be wrong."""
        num_tokens = self.num_delivered + self.num_lossless
        return 1 - (self.num_disputed + self.num_unaudited) / num_tokens if num_tokens else 1.0

    def __str__(self) -> str:
        return (
            f"quality {self.quality:g} promised, at least {self.least_quality:.4f} given: "
            f"of {self.num_delivered} tokens and {self.num_lossless} lossless ones "
            f"{self.num_disputed} are not the target's, "
            f"{self.num_unaudited} not audited"
            + (f"; {self.num_provisional} provisional ones beside" if self.num_provisional else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a stream was like; `print` it. What is not known, or was not seen, is None."""

    num_tokens: int
    num_hinted: int
    time_to_first_token_s: float
    time_per_token_s: float
    """Mean gap between tokens after the first; 0 for a single token."""
    num_drafted: int
    bytes_up: int
    bytes_down: int
    """Payload of hints and commits, wasted ones included; what opened the stream is not counted."""
    num_opens: int
    """1, and one more for every time the session was opened again; 0 for a private stream."""
    finish_reason: str
    """`stop` or `length`; `cancelled` by the app, or `error`; empty while it runs."""
    route: str = ""
    """The way that was chosen, where `route` was given: device, cascade, lossless or cloud."""
    num_passes: int = 0
    """Of the edge's passes, those that brought tokens."""
    num_disputed: int = 0
    """Kept tokens that the edge would not have said, as far as it has spoken."""
    num_kept: int = 0
    """Tokens that the device decided by itself."""
    num_at_once: int = 0
    """Of these, delivered in the moment they were drafted: nothing before them had to be waited for."""
    num_provisional: int = 0
    """Tokens that came while there was no edge, those that were withdrawn later included."""
    num_revised: int = 0
    """Of these, withdrawn when the edge was back. They count in nothing else."""
    account: Account | None = None
    """The ledger of this stream's quality at its end; None for lossless streams."""
    rtt_s: float | None = None
    """Round trip of the device's link, smoothed, as it was at the end."""
    jitter_s: float | None = None
    """Mean deviation of the round trip."""
    bandwidth_bytes_per_s: float | None = None
    """Of the way up; None where nothing that was sent was long enough for it to show."""
    loss: float | None = None
    """The chance that a message is lost on its way, from stamps that never came back; None before there were
    some. A reliable link loses nothing: it stalls."""
    edge_pass_s: float | None = None
    """Mean time of one of the edge's passes: its load, as this stream saw it."""
    edge_queue_s: float | None = None
    """Mean time for which this text stood waiting for a pass: others', or one that was running."""
    draft_step_s: float | None = None
    """Mean time of one draft step on the device, waiting for the drafter included."""
    device_load: float | None = None
    """The share of that time for which the processor worked for somebody else: 0 on an idle device."""
    estimated_cloud_s_per_token: float | None = None
    """An estimate, not measured: what a token of plain streaming would have taken on the same link from the
    same edge. Plain streaming gives one token a pass, so it is the mean pass time. Passes that carry hints
    are a little wider than those without, hence it errs on the high side where rows are dear."""

    @property
    def tokens_per_pass(self) -> float | None:
        """Tokens for each of the edge's passes, of which every one adds a token of its own. An edge that
        repeats lost commits does not say again which tokens were hinted, so on lossy links this is low."""
        num_passes = self.num_tokens - self.num_hinted - self.num_kept
        return (self.num_tokens - self.num_kept) / num_passes if num_passes > 0 else None

    @property
    def estimated_speedup(self) -> float | None:
        """An estimate: time of plain streaming by time of this stream, for a token behind the first."""
        cloud_s = self.estimated_cloud_s_per_token
        return cloud_s / self.time_per_token_s if cloud_s is not None and self.time_per_token_s > 0 else None

    def __str__(self) -> str:
        num_bytes = self.bytes_up + self.bytes_down
        per_token = num_bytes / self.num_tokens if self.num_tokens else 0.0
        lines = [
            f"{self.num_tokens} tokens ({self.num_hinted} hinted, {self.num_kept} kept), "
            f"{f'route {self.route}, ' if self.route else ''}ended by {self.finish_reason or 'nothing yet'}",
            f"first token {_ms(self.time_to_first_token_s)}, then {_ms(self.time_per_token_s)} a token",
            f"tokens per pass {_plain(self.tokens_per_pass)}, drafted {self.num_drafted}",
            f"payload {self.bytes_up} bytes up, {self.bytes_down} down: {per_token:.1f} a token",
            f"link {_ms(self.rtt_s)} there and back (jitter {_ms(self.jitter_s)}), opened {self.num_opens} x",
            f"bandwidth up {_rate(self.bandwidth_bytes_per_s)}, loss {_percent(self.loss)}",
            f"a pass of the edge {_ms(self.edge_pass_s)}, begun after {_ms(self.edge_queue_s)} of waiting",
            f"a draft step {_ms(self.draft_step_s)}, {_percent(self.device_load)} of it taken by other work",
            f"plain streaming, estimated: {_ms(self.estimated_cloud_s_per_token)} a token, "
            f"{_plain(self.estimated_speedup)} times this",
        ]
        if self.num_provisional:
            lines.append(f"without an edge: {self.num_provisional} provisional, {self.num_revised} revised")
        if self.account is not None:
            lines.append(str(self.account))
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, as `await device.generate(...)` gives it."""

    text: str
    """Empty on a device without a tokenizer."""
    tokens: tuple[int, ...]
    summary: Summary

    def __str__(self) -> str:
        return self.text


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds * 1000:.1f} ms"


def _rate(bytes_per_s: float | None) -> str:
    return "more than was needed" if bytes_per_s is None else f"{bytes_per_s / 1000:.1f} kB/s"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share * 100:.1f} %"


def _plain(number: float | None) -> str:
    return "unknown" if number is None else f"{number:.2f}"
