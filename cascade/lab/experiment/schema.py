"""What the records of a run hold, field by field: for the export, for the documentation, and for its test."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LINES", "Field"]


@dataclass(frozen=True, slots=True)
class Field:
    """Of a line."""

    name: str
    kind: str
    """`text`, `integer`, `number` or `yes or no`."""
    about: str
    is_optional: bool = False


_DEVICE = Field("device", "text", "`device-0` and so on")
_STREAM = Field("stream", "integer", "of the device, from 0")

LINES: dict[str, tuple[Field, ...]] = {
    "tokens": (
        _DEVICE,
        _STREAM,
        Field("position", "integer", "in the whole text, prompt included"),
        Field("id", "integer", "the token"),
        Field("source", "text", "`hinted`, `driven` or `kept`"),
        Field("time_s", "number", "when the app got it"),
        Field("agreement", "number", "the chance of agreement, as the device estimated it before", True),
        Field("is_own", "yes or no", "is it the target's own pick? By replay, in cascade mode only", True),
    ),
    "streams": (
        _DEVICE,
        _STREAM,
        Field("began_s", "number", "when it was asked for"),
        Field("num_tokens", "integer", "delivered"),
        Field("num_hinted", "integer", "of these, guessed by the device and confirmed"),
        Field("num_kept", "integer", "of these, decided by the device alone"),
        Field("num_at_once", "integer", "of these, delivered in the moment they were drafted"),
        Field("num_drafted", "integer", "draft steps"),
        Field("bytes_up", "integer", "payload of hints, wasted ones included"),
        Field("bytes_down", "integer", "payload of commits"),
        Field("num_opens", "integer", "1, and one more for every time it was opened again"),
    ),
    "messages": (
        _DEVICE,
        Field("way", "text", "`up` or `down`"),
        Field("sent_s", "number", "when it was given to the link"),
        Field("arrived_s", "number", "when it came out at the other end; empty: lost", True),
        Field("bytes", "integer", "of payload"),
        Field("kind", "text", "`hint`, `commit`, `open` and so on; `unknown` where it cannot be read"),
        Field("generation", "integer", "of the session", True),
        Field("position", "integer", "where its tokens begin", True),
        Field("tokens", "integer", "how many it carries; never which", True),
    ),
    "steps": (
        Field("who", "text", "an edge, or a device by its name"),
        Field("began_s", "number", "when the processor was asked"),
        Field("ended_s", "number", "when it was done"),
        Field("rows", "integer", "tokens wide"),
    ),
    "control": (
        _DEVICE,
        _STREAM,
        Field("time_s", "number", "when news came from the edge"),
        Field("window", "integer", "tokens that may be drafted beyond the last commit known"),
        Field("patience_s", "number", "how long the edge is to wait for hints; empty: for ever", True),
        Field("ahead", "integer", "tokens drafted beyond the last commit known"),
        Field("rollbacks", "integer", "times, so far, that the edge decided otherwise"),
        Field("rtt_s", "number", "round trip, as the device estimates it", True),
        Field("edge_pass_s", "number", "a pass of the edge, as the device estimates it", True),
        Field("draft_step_s", "number", "a draft step, as the device measured it", True),
    ),
}
"""By kind, in the order of the lines' fields."""
