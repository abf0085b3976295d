"""A connection's streams, by alias, and which of them have something to say."""

from __future__ import annotations

from collections.abc import Iterator

from ..wire import Message
from .stream import Stream

__all__ = ["MAX_STREAMS", "Roster"]

MAX_STREAMS = 256
"""An alias fits a byte."""


class Roster:
    """Holds every stream that an edge may know of. Those that are ready are heard in turn."""

    def __init__(self) -> None:
        self._streams: dict[int, Stream] = {}
        self._ready: dict[Stream, None] = {}

    def __iter__(self) -> Iterator[Stream]:
        """Those of this moment: whatever is done with them may add some, or have some forgotten."""
        return iter(tuple(self._streams.values()))

    def get(self, alias: int) -> Stream | None:
        return self._streams.get(alias)

    def free_alias(self) -> int | None:
        """The lowest alias that no stream has; if there is none, that of a stream that only says goodbye."""
        for alias in range(MAX_STREAMS):
            if alias not in self._streams:
                return alias
        over = next((stream for stream in self if stream.is_ended), None)
        if over is None:
            return None
        self.forget(over)  # opening another session under its alias closes it at the edge
        return over.alias

    def add(self, stream: Stream) -> None:
        self._streams[stream.alias] = stream

    def forget(self, stream: Stream) -> None:
        stream.forget()
        self._ready.pop(stream, None)
        if self._streams.get(stream.alias) is stream:
            del self._streams[stream.alias]

    def forget_ended(self) -> None:
        for stream in self:
            if stream.is_ended:
                self.forget(stream)

    @property
    def has_open(self) -> bool:
        """Some stream is not at its end."""
        return any(not stream.is_ended for stream in self)

    @property
    def has_served(self) -> bool:
        """And the edge at the other end of the link goes on with it."""
        return any(stream.is_served and not stream.is_ended for stream in self)

    def in_progress(self) -> list[Stream]:
        """Such as have a part of their answer, and wait for the rest."""
        return [stream for stream in self if not stream.is_ended and stream.has_answer]

    @property
    def is_anybody_ready(self) -> bool:
        return bool(self._ready)

    def note_ready(self, stream: Stream) -> None:
        """This one has something to say."""
        self._ready[stream] = None

    def next_message(self, now_s: float) -> tuple[Stream, Message] | None:
        """In turn: one that always has more does not starve the others."""
        while self._ready:
            stream = next(iter(self._ready))
            del self._ready[stream]
            message = stream.next_message(now_s)
            if message is not None:
                self._ready[stream] = None
                return stream, message
            if stream.is_over:
                self.forget(stream)
        return None
