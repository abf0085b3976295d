"""One device's link through a broker, either end of it: frames out, messages in, room kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..errors import LinkClosed, MessageTooLong
from .inbox import Inbox
from .mqtt_client import GOODBYE_S, BrokerClient
from .mqtt_frames import HEADER_BYTES, Frame, Kind
from .mqtt_window import WINDOW_BYTES, WINDOW_MESSAGES, SendWindow

__all__ = ["MqttLink"]

ROOM_EVERY_MESSAGES = WINDOW_MESSAGES // 2
ROOM_EVERY_BYTES = WINDOW_BYTES // 4
PROBE_EVERY_S = 1.0
"""A sender without room asks: what it waits for may be lost."""


class MqttLink:
    """A link as the peer's name and a number mark it; others share the connection below."""

    def __init__(
        self,
        client: BrokerClient,
        *,
        peer: str,
        number: int,
        topic: str,
        max_payload_bytes: int,
        expiry_s: int = 0,
        on_closed: Callable[[MqttLink], Awaitable[None]],
    ) -> None:
        self.peer = peer
        self.number = number
        self.topic = topic
        """Where what we send goes."""
        self._client = client
        self._max_payload_bytes = max_payload_bytes
        self._expiry_s = expiry_s
        self._on_closed = on_closed
        self._window = SendWindow()
        self._room = asyncio.Event()
        self._inbox: Inbox[tuple[int, bytes]] = Inbox(2 * WINDOW_MESSAGES)
        self._inbox_bytes = 0
        self._newest_read: int | None = None
        self._num_unsaid = self._num_unsaid_bytes = 0
        """Read, and not said so."""
        self._was_hung_up = False

    @property
    def is_closed(self) -> bool:
        return self._inbox.is_closed

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        limit = self._max_payload_bytes - HEADER_BYTES
        if len(data) > limit:
            raise MessageTooLong(len(data), limit)
        while not (self.is_closed or self._window.has_room()):
            await self._wait_for_room()
        if self.is_closed:
            raise LinkClosed("the link was closed")
        payload = Frame(Kind.DATA, self.number, self._window.take(len(data)), data).encode()
        if must_arrive:
            await self._client.hand_over(self.topic, payload)
        else:
            await self._client.publish(self.topic, payload, expiry_s=self._expiry_s, is_frequent=True)

    async def receive(self) -> bytes:
        number, data = await self._inbox.get()
        self._inbox_bytes -= len(data)
        self._newest_read = number
        self._num_unsaid += 1
        self._num_unsaid_bytes += len(data)
        if self._num_unsaid >= ROOM_EVERY_MESSAGES or self._num_unsaid_bytes >= ROOM_EVERY_BYTES:
            self._say_room(number)
        return data

    async def close(self) -> None:
        if self._was_hung_up:
            return
        self._was_hung_up = True
        is_news = not self.is_closed
        self.lose()
        if is_news:
            try:
                async with asyncio.timeout(GOODBYE_S):
                    await self._client.publish(self.topic, Frame(Kind.CLOSE, self.number).encode())
            except (LinkClosed, TimeoutError):
                pass  # the broker is gone, and says so to the other side
        await self._on_closed(self)

    def lose(self) -> None:
        """It is gone, and there is nobody to say goodbye to; whoever holds it still has to close it."""
        self._inbox.close()
        self._room.set()

    def on_frame(self, frame: Frame) -> None:
        """From the pump: never waits."""
        match frame.kind:
            case Kind.DATA:
                self._on_data(frame)
            case Kind.ROOM:
                self._window.free(frame.number)
                self._room.set()
            case Kind.PROBE:
                if not len(self._inbox):
                    self._say_room(frame.number)  # what is missing was lost
                elif self._newest_read is not None:
                    self._say_room(self._newest_read)
            case Kind.CLOSE:
                self.lose()
            case _:
                pass  # part of a dial that is over

    def _on_data(self, frame: Frame) -> None:
        self._inbox_bytes += len(frame.body)
        is_over = self._inbox_bytes > 2 * WINDOW_BYTES + self._max_payload_bytes
        was_taken = not is_over and self._inbox.offer((frame.number, frame.body))
        if not was_taken and not self.is_closed:  # it sends what it has no room for: nobody of ours does
            self.lose()
            self._client.post(self.topic, Frame(Kind.CLOSE, self.number).encode())

    def _say_room(self, number: int) -> None:
        self._num_unsaid = self._num_unsaid_bytes = 0
        if not self.is_closed:
            self._client.post(self.topic, Frame(Kind.ROOM, self.number, number).encode())

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(PROBE_EVERY_S):
                await self._room.wait()
        except TimeoutError:
            self._client.post(self.topic, Frame(Kind.PROBE, self.number, self._window.newest).encode(), qos=1)
