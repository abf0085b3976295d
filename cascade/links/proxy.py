"""An emulated link for programs that know nothing of us: a TCP proxy that shapes what goes through it.

All connections share the link: its rate, its queue, its outages. TCP below carries every byte, so loss shows
as what TCP makes of it, a stall. Figures are of payload; the kernel's own handshake is not shaped.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial

from ..errors import LinkClosed
from .conditions import PACKET_BYTES, Conditions
from .credit import WINDOW_BYTES, WINDOW_MESSAGES, Credit, cost
from .inbox import Inbox
from .lane import Lane
from .listening import cannot_listen
from .profiles import Profile
from .records import OnRecord
from .shaper import LinkState

__all__ = ["LinkProxy"]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1024
"""More are hung up on at once."""
MAX_PIECE_BYTES = 1 << 16
PIECE_S = 0.001
"""A piece takes about so long at the link's rate; smaller ones would only cost time of the machine."""
DIAL_TIMEOUT_S = 10.0


class LinkProxy:
    """Listens, and carries every connection to `to` over one emulated link.

    `async with LinkProxy(("127.0.0.1", 8080), profile=load_profile("lte")) as proxy: dial(proxy.address)`

    Port 0 takes a free one. Up is from those who connect to `to`. Conditions may change while it runs.
    """

    def __init__(
        self,
        to: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        profile: Profile | None = None,
        up: Conditions | None = None,
        down: Conditions | None = None,
        seed: int = 0,
        on_record: OnRecord | None = None,
    ) -> None:
        self.num_connections = 0
        """Since the start."""
        self.num_failed = 0
        """Connections for which nobody answered at `to`, or that were one too many."""
        self._to = to
        self._host = host
        self._port = port
        self._conditions = (
            up or (profile.up if profile else Conditions()),
            down or (profile.down if profile else Conditions()),
        )
        self._seed = seed
        self._on_record = on_record
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], None] = {}
        self._numbers = itertools.count(1)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._host, self._port

    @property
    def num_open(self) -> int:
        return len(self._connections)

    @property
    def state(self) -> tuple[LinkState, LinkState]:
        """Up and down, now."""
        return self.up.state, self.down.state

    def set_profile(self, profile: Profile) -> None:
        """Another kind of link for what is sent from now on."""
        self.change(up=profile.up, down=profile.down)

    def change(self, *, up: Conditions, down: Conditions) -> None:
        """Other conditions for what is sent from now on."""
        self.up.change(up)
        self.down.change(down)

    def cut(self, duration_s: float) -> None:
        """Let nothing through for a while; connections stay open, and neither side is told."""
        self.up.cut(duration_s)
        self.down.cut(duration_s)

    def reset(self) -> None:
        """Break every connection, as a change of address does."""
        for task in tuple(self._connections):
            task.cancel()

    async def __aenter__(self) -> LinkProxy:
        up, down = self._conditions
        self.up = self._lane("up", up, 2 * self._seed)
        self.down = self._lane("down", down, 2 * self._seed + 1)
        try:
            self._server = await asyncio.start_server(
                self._on_connection, self._host, self._port, limit=MAX_PIECE_BYTES
            )
        except OSError as error:
            raise cannot_listen(self._host, self._port, error) from None
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.up.close()
        self.down.close()
        self.reset()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _lane(self, way: str, conditions: Conditions, seed: int) -> Lane:
        return Lane(way, conditions, seed=seed, is_reliable=True, on_record=self._on_record)

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.num_open >= MAX_CONNECTIONS:
            self.num_failed += 1
            writer.transport.abort()
            return
        self.num_connections += 1
        task = asyncio.create_task(self._serve(reader, writer), name="proxy-connection")
        self._connections[task] = None
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        """No connection ends by an error of its own: one that does is a bug, and must be seen."""
        del self._connections[task]
        if not task.cancelled() and task.exception() is not None:
            log.error("a connection failed: %r", task.exception(), exc_info=task.exception())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(*self._to, limit=MAX_PIECE_BYTES)
        except (OSError, TimeoutError) as error:
            self.num_failed += 1
            log.info("nobody answers at %s:%d: %s", *self._to, error)
            writer.transport.abort()
            return
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        try:
            async with asyncio.TaskGroup() as ways:
                for way in (
                    _Way(reader, far_writer, self.up, number),
                    _Way(far_reader, writer, self.down, number),
                ):
                    ways.create_task(way.read(), name="proxy-read")
                    ways.create_task(way.write(), name="proxy-write")
        except* (OSError, LinkClosed):
            pass  # one side broke, and the other is told below
        finally:
            # After a proper end both were told already, and nothing is left to lose.
            far_writer.transport.abort()
            writer.transport.abort()


class _Way:
    """One direction of one connection: from a socket into the lane, and out of it into the other socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane, number: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lane = lane
        self._number = number
        self._credit = Credit(WINDOW_BYTES)
        self._arrived: Inbox[bytes | OSError] = Inbox(WINDOW_MESSAGES)

    async def read(self) -> None:
        """The end of the stream, or its break, travels behind its bytes."""
        try:
            while data := await self._reader.read(_piece_bytes(self._lane.conditions)):
                await self._credit.take(cost(data))
                await self._lane.send(len(data), partial(self._arrived.offer, data), connection=self._number)
            self._lane.end(partial(self._arrived.offer, b""))
        except OSError as error:
            self._lane.end(partial(self._arrived.offer, error))

    async def write(self) -> None:
        while data := await self._arrived.get():
            if isinstance(data, OSError):
                raise data
            self._writer.write(data)
            await self._writer.drain()
            self._credit.give(cost(data))
        if self._writer.can_write_eof():
            self._writer.write_eof()
        await self._flush()

    async def _flush(self) -> None:
        """The transport is aborted at the end, so what it still holds has to go first."""
        transport = self._writer.transport
        transport.set_write_buffer_limits(high=0)
        await self._writer.drain()


def _piece_bytes(conditions: Conditions) -> int:
    """What is read at once: a packet, or more where the link takes many of them in a millisecond."""
    if conditions.trace is not None:
        return PACKET_BYTES
    if conditions.rate_bytes_per_s is None:
        return MAX_PIECE_BYTES
    return max(PACKET_BYTES, min(MAX_PIECE_BYTES, int(conditions.rate_bytes_per_s * PIECE_S)))
