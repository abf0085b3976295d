"""What happened in a run, written down while it happens: messages on both sides, steps, tokens, streams.

Times are seconds of the loop's clock since the run began.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...device.answering import AnswerStream
from ...errors import WireError
from ...events import Token
from ...links.base import Link, Listener
from ...models.runner import Runner
from ...wire import Codec, Hello

__all__ = ["RecordedLink", "RecordedListener", "RecordedRunner", "Recorder"]

T = TypeVar("T")

MAX_UNDER_WAY = 4096
"""Messages that may still arrive; older ones count as lost."""


@dataclass(slots=True)
class Recorder:
    """The lines of a run, by kind."""

    codec: Codec
    has_messages: bool = True
    tokens: list[dict[str, Any]] = field(default_factory=list)
    streams: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    control: list[dict[str, Any]] = field(default_factory=list)
    _began_s: float = 0.0
    _under_way: dict[tuple[str, str], deque[tuple[bytes, dict[str, Any]]]] = field(default_factory=dict)

    def begin(self) -> None:
        self._began_s = asyncio.get_running_loop().time()

    def now_s(self) -> float:
        return self.since(asyncio.get_running_loop().time())

    def since(self, time_s: float) -> float:
        return round(time_s - self._began_s, 9)

    def sent(self, device: str, way: str, data: bytes) -> None:
        line = {
            "device": device,
            "way": way,
            "sent_s": self.now_s(),
            "arrived_s": None,
            "bytes": len(data),
            **self._content(data),
        }
        self.messages.append(line)
        self._under_way.setdefault((device, way), deque(maxlen=MAX_UNDER_WAY)).append((data, line))

    def arrived(self, device: str, way: str, data: bytes) -> None:
        """Of equal messages under way the oldest; one that came before is a duplicate and counts no more."""
        waiting = self._under_way.get((device, way), deque())
        for index, (content, line) in enumerate(waiting):
            if content == data:
                line["arrived_s"] = self.now_s()
                del waiting[index]
                return

    def step(self, who: str, began_s: float, rows: int) -> None:
        self.steps.append({"who": who, "began_s": self.since(began_s), "ended_s": self.now_s(), "rows": rows})

    def controlled(self, device: int, turn: int, stream: AnswerStream, token: Token) -> None:
        """What the controller knew and wanted when news came: one line for all tokens of a moment."""
        time_s, name = self.since(token.time_s), f"device-{device}"
        if not self.has_messages or (
            self.control and (self.control[-1]["time_s"], self.control[-1]["device"]) == (time_s, name)
        ):
            return
        summary, policy = stream.summary, stream.policy
        line: dict[str, Any] = {"device": name, "stream": turn, "time_s": time_s, "window": policy.window}
        if not policy.waits_for_verdict:  # else the edge waits for ever, and no axis holds that
            line["patience_s"] = round(policy.patience_s, 6)
        line |= {"ahead": stream.num_ahead, "rollbacks": stream.num_rollbacks}
        for measured in ("rtt_s", "edge_pass_s", "draft_step_s"):
            if (value := getattr(summary, measured)) is not None:
                line[measured] = round(value, 6)
        self.control.append(line)

    def _content(self, data: bytes) -> dict[str, Any]:
        """What kind of message it is, and of which part of the text. No token: texts stay out of it."""
        try:
            message = self.codec.decode(data)
        except WireError:
            return {"kind": "unknown"}
        line: dict[str, Any] = {"kind": type(message).__name__.lower()}
        for name in ("generation", "position"):
            if hasattr(message, name):
                line[name] = getattr(message, name)
        if hasattr(message, "tokens"):
            line["tokens"] = len(message.tokens)
        return line


class RecordedLink:
    """One end of a link: the device's, or the edge's, which learns from HELLO whose it is."""

    def __init__(self, inner: Link, recorder: Recorder, *, device: str = "", is_edge: bool = False) -> None:
        self._inner = inner
        self._recorder = recorder
        self._device = device
        self._ways = ("down", "up") if is_edge else ("up", "down")

    @property
    def peer(self) -> str:
        return self._inner.peer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        self._recorder.sent(self._device, self._ways[0], data)
        await self._inner.send(data, must_arrive=must_arrive)

    async def receive(self) -> bytes:
        data = await self._inner.receive()
        if not self._device:
            message = self._recorder.codec.decode(data)
            self._device = message.identity if isinstance(message, Hello) else "unknown"
        self._recorder.arrived(self._device, self._ways[1], data)
        return data

    async def close(self) -> None:
        await self._inner.close()


class RecordedListener:
    """The edge's ear, its links recorded."""

    def __init__(self, inner: Listener, recorder: Recorder) -> None:
        self._inner = inner
        self._recorder = recorder

    async def accept(self) -> Link:
        return RecordedLink(await self._inner.accept(), self._recorder, is_edge=True)

    async def close(self) -> None:
        await self._inner.close()


class RecordedRunner:
    """A runner whose steps are written down."""

    def __init__(self, inner: Runner, recorder: Recorder, who: str) -> None:
        self._inner = inner
        self._recorder = recorder
        self._who = who

    async def run(self, work: Callable[[], T], *, rows: int) -> T:
        began_s = asyncio.get_running_loop().time()
        result = await self._inner.run(work, rows=rows)
        self._recorder.step(self._who, began_s, rows)
        return result

    def close(self) -> None:
        self._inner.close()
