"""Emulated links against their profiles: 10,000 packets in virtual time, real bytes through `cascade link`.

Through the proxy, losses and outages are left out: TCP makes stalls of them, and their length is chance. Both
ends and the proxy share this machine. What a connection without a proxy takes, at the same rhythm, stands
beside, and is not taken off.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cascade.errors import LinkClosed
from cascade.links import precise
from cascade.links.conditions import Conditions
from cascade.links.emulated import EmulatedLink
from cascade.links.memory import memory_pair
from cascade.links.profiles import Profile, load_profile, profile_names
from cascade.links.traces import BYTES_PER_MBIT
from cascade.testing import run_virtual

__all__ = ["run"]

NUM_PACKETS = 10_000
PACKET_BYTES = 1000
PING_BYTES = 64
MIN_PINGS, MIN_QUICK_PINGS = 40, 10
MAX_PINGS = 1000
BARE_PINGS = 50
MAX_BARE_PAUSE_S = 0.05
BULK_S = 4.0
MIN_BULK_BYTES, MIN_QUICK_BULK_BYTES, MAX_BULK_BYTES = 100_000, 25_000, 32 << 20
ERROR_GOAL = 0.02
QUICK_ERROR_GOAL = 0.05
"""Of a mean delay; pings are repeated until their jitter leaves no more."""
MAX_OFF_IN_VIRTUAL_TIME = 0.03
MAX_LOSS_OFF_IN_STANDARD_ERRORS = 3
MAX_OFF_THROUGH_THE_PROXY = 0.1


def run(*, quick: bool = False) -> dict[str, Any]:
    """Stated and measured delay, rate and loss of every profile; `quick` takes fewer packets and pings."""
    num_packets = NUM_PACKETS // 10 if quick else NUM_PACKETS
    profiles = [load_profile(name) for name in profile_names()]
    virtual = [
        _in_virtual_time(profile.name, way, conditions, num_packets)
        for profile in profiles
        for way, conditions in (("up", profile.up), ("down", profile.down))
    ]
    proxy = [_through_the_proxy(profile, quick=quick) for profile in profiles]
    with _server() as address:
        bare_mbit = _upload_bytes_per_s(address, MAX_BULK_BYTES) / BYTES_PER_MBIT
    return {
        "packets": num_packets,
        "virtual_time": virtual,
        "proxy": proxy,
        "virtual_time_is_within_goals": all(row["is_within_goals"] for row in virtual),
        "virtual_time_worst_delay_off": max(abs(row["delay_off"]) for row in virtual),
        "virtual_time_worst_rate_off": max(abs(row["rate_off"]) for row in virtual),
        "virtual_time_worst_loss_in_standard_errors": max(abs(row["loss_errors_off"]) for row in virtual),
        "proxy_is_within_a_tenth": all(row["is_within_a_tenth"] for row in proxy),
        "proxy_profiles_beyond_a_tenth": [row["profile"] for row in proxy if not row["is_within_a_tenth"]],
        "timer_late_ms": round(1000 * asyncio.run(_timer_late_s(200)), 3),
        "precise_timer_late_ms": round(1000 * precise.run(_timer_late_s(200)), 3),
        "bare_connection_mbit_per_s": round(bare_mbit, 1),
    }


# In virtual time


def _in_virtual_time(name: str, way: str, conditions: Conditions, num_packets: int) -> dict[str, Any]:
    conditions = dataclasses.replace(conditions, outages=(), outages_every_s=None)
    assert conditions.rate_bytes_per_s is not None
    stated_s = conditions.delay_s + conditions.jitter_s + PACKET_BYTES / conditions.rate_bytes_per_s
    delays_s = run_virtual(_delays_s(conditions, num_packets))
    lossless = dataclasses.replace(conditions, loss=0, jitter_s=0)
    rate = run_virtual(_rate_bytes_per_s(lossless, num_packets))
    lost = 1 - len(delays_s) / num_packets
    error = math.sqrt(conditions.loss * (1 - conditions.loss) / num_packets)
    delay_off = statistics.fmean(delays_s) / stated_s - 1
    rate_off = rate / conditions.rate_bytes_per_s - 1
    loss_errors_off = (lost - conditions.loss) / error if error else 0.0
    return {
        "profile": name,
        "way": way,
        "delay_ms": round(1000 * stated_s, 3),
        "measured_ms": round(1000 * statistics.fmean(delays_s), 3),
        "delay_off": round(delay_off, 4),
        "mbit_per_s": conditions.rate_bytes_per_s / BYTES_PER_MBIT,
        "measured_mbit_per_s": round(rate / BYTES_PER_MBIT, 3),
        "rate_off": round(rate_off, 4),
        "loss": conditions.loss,
        "measured_loss": round(lost, 5),
        "loss_errors_off": round(loss_errors_off, 2),
        "is_within_goals": max(abs(delay_off), abs(rate_off)) <= MAX_OFF_IN_VIRTUAL_TIME
        and abs(loss_errors_off) <= MAX_LOSS_OFF_IN_STANDARD_ERRORS,
    }


async def _delays_s(conditions: Conditions, num_packets: int) -> list[float]:
    """Datagrams one by one, so that none waits for another."""
    loop = asyncio.get_running_loop()
    device, edge = memory_pair()
    link = EmulatedLink(device, up=conditions, seed=1, is_reliable=False)
    delays_s: list[float] = []

    async def listen() -> None:
        while True:
            await edge.receive()
            delays_s.append(loop.time() - sent_s)

    listener = asyncio.create_task(listen())
    for _ in range(num_packets):
        sent_s = loop.time()
        await link.send(bytes(PACKET_BYTES))
        await asyncio.sleep(20 * (conditions.delay_s + conditions.jitter_s) + 1)
    listener.cancel()
    await link.close()
    return delays_s


async def _rate_bytes_per_s(conditions: Conditions, num_packets: int) -> float:
    """A stream that always has more."""
    loop = asyncio.get_running_loop()
    device, edge = memory_pair()
    link = EmulatedLink(device, up=conditions, seed=1)

    async def talk() -> None:
        for _ in range(num_packets):
            await link.send(bytes(PACKET_BYTES))

    talker = asyncio.create_task(talk())
    await edge.receive()
    first_s = loop.time()
    for _ in range(num_packets - 1):
        await edge.receive()
    await talker
    rate = (num_packets - 1) * PACKET_BYTES / (loop.time() - first_s)
    await link.close()
    return rate


# Through the proxy


def _through_the_proxy(profile: Profile, *, quick: bool) -> dict[str, Any]:
    up, down = profile.up, profile.down
    assert up.rate_bytes_per_s is not None
    assert down.rate_bytes_per_s is not None
    serial_s = PING_BYTES / up.rate_bytes_per_s + PING_BYTES / down.rate_bytes_per_s
    stated_s = up.delay_s + up.jitter_s + down.delay_s + down.jitter_s + serial_s
    goal = QUICK_ERROR_GOAL if quick else ERROR_GOAL
    jitter_s = math.hypot(up.jitter_s, down.jitter_s)
    least = MIN_QUICK_PINGS if quick else MIN_PINGS
    num_pings = min(MAX_PINGS, max(least, math.ceil((jitter_s / (goal * stated_s)) ** 2)))
    bulk_s = BULK_S / 4 if quick else BULK_S
    with _server() as server, tempfile.TemporaryDirectory() as folder:
        bare_s = statistics.fmean(_pings_s(server, BARE_PINGS, pause_s=min(stated_s, MAX_BARE_PAUSE_S)))
        path = Path(folder) / f"{profile.name}.toml"
        path.write_text(_without_losses(profile), encoding="utf-8")
        with _proxy(path, server) as address:
            measured_s = statistics.fmean(_pings_s(address, num_pings))
            up_rate = _upload_bytes_per_s(address, _bulk_bytes(up, bulk_s))
            down_rate = _download_bytes_per_s(address, _bulk_bytes(down, bulk_s))
    rtt_off = measured_s / stated_s - 1
    up_off = up_rate / up.rate_bytes_per_s - 1
    down_off = down_rate / down.rate_bytes_per_s - 1
    return {
        "profile": profile.name,
        "pings": num_pings,
        "rtt_ms": round(1000 * stated_s, 3),
        "measured_rtt_ms": round(1000 * measured_s, 3),
        "rtt_standard_error_ms": round(1000 * jitter_s / math.sqrt(num_pings), 3),
        "bare_connection_rtt_ms": round(1000 * bare_s, 3),
        "rtt_off": round(rtt_off, 4),
        "up_mbit_per_s": up.rate_bytes_per_s / BYTES_PER_MBIT,
        "measured_up": round(up_rate / BYTES_PER_MBIT, 3),
        "up_off": round(up_off, 4),
        "down_mbit_per_s": down.rate_bytes_per_s / BYTES_PER_MBIT,
        "measured_down": round(down_rate / BYTES_PER_MBIT, 3),
        "down_off": round(down_off, 4),
        "is_within_a_tenth": max(abs(rtt_off), abs(up_off), abs(down_off)) <= MAX_OFF_THROUGH_THE_PROXY,
    }


def _bulk_bytes(conditions: Conditions, bulk_s: float) -> int:
    assert conditions.rate_bytes_per_s is not None
    least = MIN_BULK_BYTES if bulk_s == BULK_S else MIN_QUICK_BULK_BYTES
    return min(MAX_BULK_BYTES, max(least, int(conditions.rate_bytes_per_s * bulk_s)))


def _without_losses(profile: Profile) -> str:
    """The profile as a file of one's own."""
    lines = []
    for way, conditions in (("up", profile.up), ("down", profile.down)):
        assert conditions.rate_bytes_per_s is not None
        lines += [
            f"[{way}]",
            f"delay_ms = {1000 * conditions.delay_s!r}",
            f"jitter_ms = {1000 * conditions.jitter_s!r}",
            f"rate_mbit_per_s = {conditions.rate_bytes_per_s / BYTES_PER_MBIT!r}",
            f"queue_kib = {conditions.queue_bytes / 1024!r}",
        ]
    return "\n".join(lines)


@contextmanager
def _proxy(profile: Path, to: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """The command itself, as a process of its own."""
    command = [sys.executable, "-m", "cascade.cli", "link", "--json"]
    command += ["--to", f"{to[0]}:{to[1]}", "--profile", str(profile)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            host, _, port = json.loads(process.stdout.readline())["listen"].rpartition(":")
            yield host, int(port)
        finally:
            process.terminate()


async def _timer_late_s(count: int) -> float:
    """How late a timer of such a loop is here, on average: a round trip through the proxy waits for two."""
    loop = asyncio.get_running_loop()
    late_s = 0.0
    for _ in range(count):
        due_s = loop.time() + 0.0042
        await asyncio.sleep(0.0042)
        late_s += loop.time() - due_s
    return late_s / count


PING, UPLOAD, DOWNLOAD = b"p", b"u", b"d"
NUMBER = struct.Struct("<d")
CHUNK_BYTES = 1 << 16


@contextmanager
def _server() -> Iterator[tuple[str, int]]:
    """Echoes pings, swallows uploads and says how fast they came, and sends downloads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        kind = connection.recv(1)
        if kind == PING:
            while data := connection.recv(CHUNK_BYTES):
                connection.sendall(data)
        elif kind == UPLOAD:
            connection.sendall(NUMBER.pack(_receive_rate(connection)))
        elif kind == DOWNLOAD:
            (num_bytes,) = NUMBER.unpack(_receive_exactly(connection, NUMBER.size))
            connection.sendall(bytes(int(num_bytes)))


def _pings_s(address: tuple[str, int], count: int, *, pause_s: float = 0.0) -> list[float]:
    """After a pause everybody has to be woken, as behind a slow link; without one all are awake."""
    samples_s: list[float] = []
    with _connect(address) as connection:
        connection.sendall(PING)
        for _ in range(count):
            time.sleep(pause_s)
            started_s = time.perf_counter()
            connection.sendall(bytes(PING_BYTES))
            _receive_exactly(connection, PING_BYTES)
            samples_s.append(time.perf_counter() - started_s)
    return samples_s


def _upload_bytes_per_s(address: tuple[str, int], num_bytes: int) -> float:
    with _connect(address) as connection:
        connection.sendall(UPLOAD + bytes(num_bytes))
        connection.shutdown(socket.SHUT_WR)
        rate: float = NUMBER.unpack(_receive_exactly(connection, NUMBER.size))[0]
        return rate


def _download_bytes_per_s(address: tuple[str, int], num_bytes: int) -> float:
    with _connect(address) as connection:
        connection.sendall(DOWNLOAD + NUMBER.pack(num_bytes))
        connection.shutdown(socket.SHUT_WR)
        return _receive_rate(connection)


def _receive_rate(connection: socket.socket) -> float:
    """From the first bytes to the last."""
    connection.recv(CHUNK_BYTES)
    first_s = last_s = time.perf_counter()
    num_bytes = 0
    while data := connection.recv(CHUNK_BYTES):
        num_bytes += len(data)
        last_s = time.perf_counter()
    return num_bytes / (last_s - first_s)


def _receive_exactly(connection: socket.socket, num_bytes: int) -> bytes:
    received = bytearray()
    while len(received) < num_bytes:
        data = connection.recv(num_bytes - len(received))
        if not data:
            raise LinkClosed("the connection ended in the middle of a measurement")
        received += data
    return bytes(received)


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
