"""`cascade link`: a TCP proxy that makes a link worse on purpose, for programs that know nothing of us."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import SettingsError
from ..links import precise
from ..links.conditions import Conditions
from ..links.lane import Lane
from ..links.profiles import Profile, load_profile, profile_names
from ..links.proxy import LinkProxy
from ..links.records import RecordFile
from ..links.traces import BYTES_PER_MBIT, load_trace
from .signals import ENDING, on_signals

__all__ = ["main", "parse_address", "print_profiles"]

REFRESH_S = 0.5


def print_profiles(*, json_output: bool) -> None:
    """The profiles that there are, and with --json where their figures come from."""
    profiles = [load_profile(name) for name in profile_names()]
    if json_output:
        print(json.dumps({"profiles": [_profile_figures(profile) for profile in profiles]}))
        return
    table = Table("name", "delay ms", "Mbit/s up", "down", "loss %", "about")
    for profile in profiles:
        up, down = profile.up, profile.down
        table.add_row(
            profile.name,
            f"{1000 * (up.delay_s + up.jitter_s):.4g}",
            _mbit(up.mean_rate_bytes_per_s),
            _mbit(down.mean_rate_bytes_per_s),
            f"{100 * max(up.loss, down.loss):g}",
            profile.about,
        )
    Console().print(table)


def main(
    *,
    listen: str,
    to: str,
    profile: str,
    trace_up: Path | None,
    trace_down: Path | None,
    seed: int,
    log: Path | None,
    json_output: bool,
) -> int:
    """Carry connections until Ctrl-C; returns the exit code."""
    host, port = parse_address("listen", listen)
    chosen = load_profile(profile)
    chosen = replace(chosen, up=_with_trace(chosen.up, trace_up), down=_with_trace(chosen.down, trace_down))
    target = parse_address("to", to)
    if target[1] == 0:
        raise SettingsError("to", "needs a port that somebody listens on, not 0")
    precise.run(_carry((host, port), target, chosen, seed=seed, log=log, json_output=json_output))
    return 0


def parse_address(field: str, text: str) -> tuple[str, int]:
    """HOST:PORT, [HOST]:PORT, or PORT alone, which means this machine only."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(field, f"must be HOST:PORT with a port up to 65535, not {text[:64]!r}")
    return host, int(port)


def _with_trace(conditions: Conditions, path: Path | None) -> Conditions:
    return conditions if path is None else replace(conditions, rate_bytes_per_s=None, trace=load_trace(path))


async def _carry(
    listen: tuple[str, int],
    to: tuple[str, int],
    profile: Profile,
    *,
    seed: int,
    log: Path | None,
    json_output: bool,
) -> None:
    stopped = asyncio.Event()
    on_signals(stopped.set, *ENDING)
    console = Console(highlight=False)
    async with AsyncExitStack() as stack:
        records = None if log is None else await stack.enter_async_context(RecordFile(log))
        proxy = await stack.enter_async_context(
            LinkProxy(
                to,
                host=listen[0],
                port=listen[1],
                profile=profile,
                seed=seed,
                on_record=None if records is None else records.add,
            )
        )
        _say_hello(console, proxy, to, profile, json_output=json_output)
        if console.is_terminal and not json_output:
            await _show_until(stopped, console, proxy)
        else:
            await stopped.wait()
    _say_goodbye(console, proxy, records, json_output=json_output)


def _say_hello(
    console: Console, proxy: LinkProxy, to: tuple[str, int], profile: Profile, *, json_output: bool
) -> None:
    """In one line, as soon as somebody may connect."""
    if json_output:
        address = {"listen": _shown(proxy.address), "to": _shown(to)}
        print(json.dumps({**address, "profile": _profile_figures(profile)}), flush=True)
        return
    console.print(
        f"listening on {_shown(proxy.address)}, to {_shown(to)} over {profile.name}; Ctrl-C stops it",
        soft_wrap=True,
    )
    console.file.flush()


def _say_goodbye(
    console: Console, proxy: LinkProxy, records: RecordFile | None, *, json_output: bool
) -> None:
    figures: dict[str, Any] = {
        "connections": proxy.num_connections,
        "failed": proxy.num_failed,
        "up": _lane_figures(proxy.up),
        "down": _lane_figures(proxy.down),
    }
    if records is not None:
        figures["records_left_out"] = records.num_left_out
    if json_output:
        print(json.dumps(figures), flush=True)
        return
    up, down = figures["up"], figures["down"]
    console.print(
        f"stopped after {proxy.num_connections} connections: {up['bytes']:,} bytes up, "
        f"{down['bytes']:,} bytes down, {up['stalls'] + down['stalls']} stalls",
        soft_wrap=True,
    )
    if records is not None and records.num_left_out:
        console.print(f"the disk was too slow for {records.num_left_out:,} records of the log")


async def _show_until(stopped: asyncio.Event, console: Console, proxy: LinkProxy) -> None:
    """One line that stays where it is: delay, rate and queue, both ways."""
    loop = asyncio.get_running_loop()
    meters = (_Meter(proxy.up, "up"), _Meter(proxy.down, "down"))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not stopped.is_set():
            now_s = loop.time()
            line = "   ".join(meter.read(now_s) for meter in meters)
            live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await stopped.wait()
            except TimeoutError:
                pass


class _Meter:
    """What one direction carries, read now and then."""

    def __init__(self, lane: Lane, name: str) -> None:
        self._lane = lane
        self._name = name
        self._before = (0.0, 0)

    def read(self, now_s: float) -> str:
        state, num_bytes = self._lane.state, self._lane.num_delivered_bytes
        before_s, before_bytes = self._before
        self._before = (now_s, num_bytes)
        rate = (num_bytes - before_bytes) / max(now_s - before_s, 1e-3)
        text = (
            f"{self._name} {1000 * state.delay_s:.0f} ms, "
            f"{_mbit(rate)}/{_mbit(state.rate_bytes_per_s)} Mbit/s, "
            f"queue {state.queue_bytes / 1024:.0f}K"
        )
        return f"{text} (out)" if state.is_out else text


def _profile_figures(profile: Profile) -> dict[str, Any]:
    ways = {}
    for way, conditions in (("up", profile.up), ("down", profile.down)):
        rate = conditions.mean_rate_bytes_per_s
        ways[way] = {
            "delay_ms": round(1000 * conditions.delay_s, 6),
            "jitter_ms": round(1000 * conditions.jitter_s, 6),
            "rate_mbit_per_s": None if rate is None else rate / BYTES_PER_MBIT,
            "queue_bytes": conditions.queue_bytes,
            "loss": conditions.loss,
            "outages": conditions.outages,
            "outages_every_s": conditions.outages_every_s,
        }
    return {"name": profile.name, "about": profile.about, **ways, "sources": profile.sources}


def _lane_figures(lane: Lane) -> dict[str, int]:
    return {"pieces": lane.num_sent, "bytes": lane.num_delivered_bytes, "stalls": lane.num_stalled}


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _mbit(rate_bytes_per_s: float | None) -> str:
    return "unlimited" if rate_bytes_per_s is None else f"{rate_bytes_per_s / BYTES_PER_MBIT:.4g}"
