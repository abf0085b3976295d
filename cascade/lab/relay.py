"""A TCP relay that counts: what really goes over a device's link, framing included."""

from __future__ import annotations

import asyncio
import socket

__all__ = ["CountingRelay"]

PIECE_BYTES = 65_536


class CountingRelay:
    """`async with CountingRelay(host, port) as relay:` hands on what comes to `relay.port`. Bytes of TCP
    payload.
    """

    def __init__(self, host: str, port: int) -> None:
        self.num_bytes_up = 0
        self.num_bytes_down = 0
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def num_bytes(self) -> int:
        return self.num_bytes_up + self.num_bytes_down

    async def __aenter__(self) -> CountingRelay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hand_on(reader, far_writer, is_up=True))
                group.create_task(self._hand_on(far_reader, writer, is_up=False))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # either side ended it
        finally:
            self._tasks.discard(task)
            for end in (writer, far_writer):
                if end is not None:
                    end.close()

    async def _hand_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while piece := await reader.read(PIECE_BYTES):
            if is_up:
                self.num_bytes_up += len(piece)
            else:
                self.num_bytes_down += len(piece)
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError
