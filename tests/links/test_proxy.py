"""The TCP proxy, over real sockets. Timings are not judged here: in virtual time they are, exactly."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cascade.errors import LinkUnavailable
from cascade.links import proxy as proxy_module
from cascade.links.conditions import Conditions
from cascade.links.credit import WINDOW_BYTES
from cascade.links.profiles import load_profile
from cascade.links.proxy import LinkProxy
from cascade.links.records import Record

from ..helpers import tasks_left

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

KERNEL_BYTES = 1 << 25
"""More than the sockets' own buffers on the way hold."""


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    """A program that knows nothing of us."""
    writers: list[asyncio.StreamWriter] = []

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass

    running = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[:2]
    finally:
        running.close()
        for writer in writers:
            writer.transport.abort()
        await running.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """The test's own time limit ends a vain wait."""
    while not condition():  # noqa: ASYNC110  (nothing to wait for: the condition is over plain state)
        await asyncio.sleep(0.005)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """However it ends."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("profile", ["lan", "lte", "lossy-wifi"])
async def test_bytes_come_whole_and_in_order(profile: str) -> None:
    async with server(echo) as to, LinkProxy(to, profile=load_profile(profile), seed=3) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        data = os.urandom(100_000)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.write_eof()
        assert await reader.read() == b""
        await hang_up(writer)
        await until(lambda: proxy.num_open == 0)
        assert (proxy.num_connections, proxy.num_failed) == (1, 0)
    assert tasks_left() == []


async def test_one_direction_may_end_before_the_other() -> None:
    """Half-close: the request's end is what this server waits for, its answer comes afterwards."""

    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        await asyncio.sleep(0.05)
        writer.write(b"%d bytes" % len(request))
        await writer.drain()
        writer.close()

    async with server(answer_at_the_end) as to, LinkProxy(to, up=Conditions(delay_s=0.05)) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(bytes(70_000))
        writer.write_eof()
        assert await reader.read() == b"70000 bytes"
        await hang_up(writer)
        await until(lambda: proxy.num_open == 0)


async def test_a_server_that_hangs_up_is_noticed_after_its_last_word() -> None:
    async def say_and_go(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"goodbye")
        writer.close()

    async with server(say_and_go) as to, LinkProxy(to, down=Conditions(delay_s=0.05)) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        assert await reader.read() == b"goodbye"
        await hang_up(writer)
        await until(lambda: proxy.num_open == 0)


async def test_a_broken_connection_breaks_on_the_other_side() -> None:
    connected = asyncio.Event()
    ended = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        connected.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async with server(wait_for_the_end) as to, LinkProxy(to) as proxy:
        _reader, writer = await asyncio.open_connection(*proxy.address)
        await connected.wait()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
        writer.transport.abort()
        await ended.wait()
        await until(lambda: proxy.num_open == 0)


async def test_nobody_at_the_other_end() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
        async with LinkProxy(unused.getsockname()) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            assert await read_to_the_end(reader) == b""
            await hang_up(writer)
            await until(lambda: proxy.num_failed == 1)
            assert proxy.num_open == 0


async def test_a_port_in_use_is_explained() -> None:
    async with LinkProxy(("127.0.0.1", 9)) as proxy:
        host, port = proxy.address
        with pytest.raises(LinkUnavailable, match=rf"cannot listen on 127.0.0.1:{port}.*another port"):
            await LinkProxy(("127.0.0.1", 9), host=host, port=port).__aenter__()


async def test_a_slow_reader_holds_the_sender() -> None:
    """Both ways: what the proxy keeps is bounded."""
    gate = asyncio.Event()

    async def read_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await echo(reader, writer)

    async with server(read_later) as to, LinkProxy(to) as proxy:
        _reader, writer = await asyncio.open_connection(*proxy.address)
        writer.transport.set_write_buffer_limits(high=0)
        num_sent = 0

        async def flood() -> None:
            nonlocal num_sent
            while num_sent < 1 << 27:
                writer.write(bytes(1 << 16))
                await writer.drain()
                num_sent += 1 << 16

        task = asyncio.create_task(flood())
        before = -1
        while num_sent != before:  # until nothing moves any more
            before = num_sent
            await asyncio.sleep(0.3)  # real sockets: only time tells that the buffers below are full
        assert not task.done()
        assert num_sent < WINDOW_BYTES + KERNEL_BYTES
        gate.set()  # now the server reads, and answers, but nobody reads the answer
        await until(lambda: proxy.down.num_delivered_bytes > 1 << 20)
        before = -1
        while num_sent != before:
            before = num_sent
            await asyncio.sleep(0.3)
        assert not task.done()
        assert proxy.down.num_delivered_bytes < WINDOW_BYTES + KERNEL_BYTES
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.transport.abort()


async def test_a_window_of_tiny_pieces_is_bounded_too() -> None:
    received = bytearray()

    async def collect(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            received.extend(data)

    async with server(collect) as to, LinkProxy(to, up=Conditions(delay_s=0.02)) as proxy:
        _reader, writer = await asyncio.open_connection(*proxy.address)
        for number in range(300):
            writer.write(bytes([number % 256]))
            await asyncio.sleep(0)
        writer.write_eof()
        await until(lambda: len(received) == 300)
        assert received == bytes(number % 256 for number in range(300))
        await hang_up(writer)


async def test_connections_share_the_links_queue_and_log() -> None:
    records: list[Record] = []
    up = Conditions(rate_bytes_per_s=2_000_000, queue_bytes=10_000)
    async with server(echo) as to, LinkProxy(to, up=up, on_record=records.append) as proxy:

        async def ask(number: int) -> bool:
            reader, writer = await asyncio.open_connection(*proxy.address)
            data = bytes([number]) * 20_000
            writer.write(data)
            answer = await reader.readexactly(len(data))
            await hang_up(writer)
            return answer == data

        assert all(await asyncio.gather(*(ask(number) for number in range(5))))
        await until(lambda: proxy.num_open == 0)
    up_records = [record for record in records if record.way == "up"]
    assert sum(record.num_bytes for record in up_records) == 5 * 20_000
    assert {record.connection for record in records} == {1, 2, 3, 4, 5}
    departures = sorted(record.arrived_s for record in up_records if record.arrived_s is not None)
    # One wire for all: whatever they do at once, it needs the time of all their bytes.
    assert departures[-1] - departures[0] >= (5 * 20_000 - up_records[0].num_bytes) / 2_000_000 - 1e-9


async def test_conditions_change_while_it_runs() -> None:
    async with server(echo) as to, LinkProxy(to) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.cut(0.2)
        assert proxy.state[0].is_out
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert not proxy.state[0].is_out
        lte = load_profile("lte")
        proxy.set_profile(lte)
        assert proxy.state[0].rate_bytes_per_s == lte.up.rate_bytes_per_s
        assert proxy.state[1].delay_s == pytest.approx(lte.down.delay_s + lte.down.jitter_s)
        proxy.reset()
        assert await read_to_the_end(reader) == b""
        await until(lambda: proxy.num_open == 0)
        await hang_up(writer)
        reader, writer = await asyncio.open_connection(*proxy.address)  # a new one is welcome
        writer.write(b"three")
        assert await reader.readexactly(5) == b"three"
        await hang_up(writer)


async def test_too_many_connections_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 1)
    async with server(echo) as to, LinkProxy(to) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.address)
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        _reader, second = await asyncio.open_connection(*proxy.address)
        await until(lambda: proxy.num_failed == 1)
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"
        await hang_up(second)
        await hang_up(writer)


async def test_leaving_hangs_up() -> None:
    async with server(echo) as to:
        async with LinkProxy(to, profile=load_profile("geo")) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(b"on its way")
            await until(lambda: proxy.num_open == 1)
        assert await read_to_the_end(reader) == b""
        await hang_up(writer)
    assert tasks_left() == []
