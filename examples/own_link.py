"""A link of your own: whatever carries byte strings both ways. Needs the extra `device` for text.

    python examples/own_link.py

Here a Unix socket, each message behind its length; a serial line or a radio would look the same. A link may
lose messages and change their order. Once it is gone it says `LinkClosed`, and the device dials again.
"""

from __future__ import annotations

import asyncio
import tempfile

from cascade import Device, EdgeServer, LinkClosed, LinkUnavailable
from cascade.links.base import Link
from cascade.models.echo import EchoModel
from cascade.testing import PacedRunner


class StreamLink:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = ""  # nobody has authenticated the other side
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes, *, must_arrive: bool = False) -> None:
        try:
            self._writer.write(len(data).to_bytes(4) + data)
            await self._writer.drain()
        except OSError as error:
            raise LinkClosed(str(error)) from None

    async def receive(self) -> bytes:
        try:
            return await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4)))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LinkClosed(str(error)) from None

    async def close(self) -> None:
        self._writer.close()


async def main() -> None:
    async def dial() -> Link:
        try:
            return StreamLink(*await asyncio.open_unix_connection(f"{folder}/edge"))
        except OSError as error:
            raise LinkUnavailable(str(error)) from None

    with tempfile.TemporaryDirectory() as folder:
        async with EdgeServer.of(EchoModel(), PacedRunner(lambda rows: 0.020)) as edge:
            server = await asyncio.start_unix_server(
                lambda reader, writer: edge.serve(StreamLink(reader, writer)), f"{folder}/edge"
            )
            async with server, Device([dial], draft=EchoModel(slip=0.2)) as device:
                print(await device.chat().generate("Hello over a socket", max_new_tokens=80))


if __name__ == "__main__":
    asyncio.run(main())
