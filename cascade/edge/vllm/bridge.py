"""The way of hints from the server into vLLM's process, and of figures back: a local socket, bounded.

Frames are msgpack arrays, one behind the other. To the proposer go hints and the names of texts that are
over; back come three figures for each step. Whatever finds no room is dropped, as a lost hint costs speed and
no token.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import msgpack

__all__ = ["Frame", "ProposerEnd", "ServerEnd", "StepReport"]

MAX_WAITING_BYTES: Final = 1 << 20
"""Of hints that the proposer has not read; more are dropped."""
MAX_READ_BYTES: Final = 1 << 20
"""That the proposer reads before one step; the rest waits for the next."""
READ_BYTES: Final = 1 << 16

StepReport = tuple[int, int, int]
"""Texts that a step decided for, hints that it was fed, tokens that came out."""


class Frame(IntEnum):
    """What a frame to the proposer is."""

    HINT = 1
    """text, position, prefix hash, tokens"""
    OVER = 2
    """text"""


class ServerEnd:
    """In the server, on its loop. Several workers of one model may read the same hints."""

    def __init__(self, on_step: Callable[[StepReport], None]) -> None:
        self.num_dropped = 0
        """Frames for which there was no room."""
        self._on_step = on_step
        self._readers: dict[asyncio.Transport, None] = {}
        self._folder: Path | None = None
        self._server: asyncio.Server | None = None

    async def open(self) -> str:
        """The address for the proposers: in a folder that only this user can enter."""
        self._folder = await asyncio.to_thread(lambda: Path(tempfile.mkdtemp(prefix="cascade-hints-")))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = str(self._folder / "socket")
        await asyncio.to_thread(listening.bind, path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Reports(self._readers, self._on_step), sock=listening
        )
        return path

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for reader in tuple(self._readers):
            reader.abort()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def num_readers(self) -> int:
        return len(self._readers)

    @property
    def num_waiting_bytes(self) -> int:
        """Of what was sent, and the slowest reader's socket has no room for."""
        return max((reader.get_write_buffer_size() for reader in self._readers), default=0)

    def send(self, *frame: Any) -> bool:
        """To every worker; False if one of them had no room for it."""
        data = msgpack.packb(frame)
        has_room = True
        for reader in self._readers:
            if reader.get_write_buffer_size() + len(data) > MAX_WAITING_BYTES:
                has_room = False
                self.num_dropped += 1
            else:
                reader.write(data)
        return has_room and bool(self._readers)


class _Reports(asyncio.Protocol):
    """What one worker says of its steps."""

    def __init__(self, readers: dict[asyncio.Transport, None], on_step: Callable[[StepReport], None]) -> None:
        self._readers = readers
        self._on_step = on_step
        self._unpacker = msgpack.Unpacker(max_buffer_size=MAX_READ_BYTES)
        self._transport: asyncio.Transport | None = None
        self._is_first = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._is_first = not self._readers  # all workers make the same steps: one of them is counted
        self._readers[transport] = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._readers.pop(self._transport, None)

    def data_received(self, data: bytes) -> None:
        self._unpacker.feed(data)
        for texts, hints, tokens in self._unpacker:
            if self._is_first:
                self._on_step((texts, hints, tokens))


class ProposerEnd:
    """In vLLM's process: read between two steps, without waiting."""

    def __init__(self, path: str) -> None:
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._unpacker = msgpack.Unpacker(max_buffer_size=2 * MAX_READ_BYTES)
        self._unsent = b""

    def receive(self) -> Iterator[Sequence[Any]]:
        """The frames that have come since, a bounded number of bytes of them."""
        num_read = 0
        while self._socket is not None and num_read < MAX_READ_BYTES:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()  # the server is gone, or gives us up
                break
            num_read += len(data)
            self._unpacker.feed(data)
            yield from self._unpacker

    def report(self, step: StepReport) -> None:
        """What a step did; left out while the server does not read."""
        if not self._unsent:
            self._unsent = msgpack.packb(step)
        if self._socket is None:
            return
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
