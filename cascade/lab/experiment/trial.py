"""One run: a point of an experiment with one seed, by the whole library, in virtual or in real time.

Edges know nothing of each other, and neither do their devices: a run of many edges is as many runs of one,
each of which may have a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ...device import Device
from ...edge import EdgeServer, EdgeSettings
from ...events import Source
from ...links import precise
from ...links.base import Dialer, Link
from ...links.urls import dialer_for
from ...testing import Conditions, EmulatedLink, MemoryListener, run_virtual
from ...wire import Codec
from .effort import Effort
from .measured import figures_of
from .pairs import own_picks, pair_of
from .recording import RecordedLink, RecordedListener, RecordedRunner, Recorder
from .settings import LinkSettings, Point, PriceSettings

__all__ = ["Outcome", "merged", "run_edge", "run_trial"]

LIMIT_S = 100_000.0
"""Of virtual time: a run that takes longer hangs."""


class Changing(Protocol):
    """Changes the conditions of a link."""

    def __call__(self, *, up: Conditions, down: Conditions) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a run, and the lines they come from."""

    figures: dict[str, float]
    lines: dict[str, list[dict[str, Any]]]
    effort: Effort
    """What it took to run it."""


def run_trial(point: Point, seed: int, *, clock: str = "virtual", records: str = "all") -> Outcome:
    """Run one point with one seed to its end, edge by edge."""
    edges = range(point.load.edges)
    outcomes = [run_edge(point, seed, edge, clock=clock, records=records) for edge in edges]
    return merged(outcomes, point.prices)


def run_edge(point: Point, seed: int, edge: int, *, clock: str = "virtual", records: str = "all") -> Outcome:
    """Run one of a point's edges with its devices."""
    trial = _Trial(point, seed, edge, records=records)
    if clock == "virtual":
        return run_virtual(trial.run(_in_memory), limit_s=LIMIT_S)
    return precise.run(trial.run(_over_sockets))


def merged(edges: list[Outcome], prices: PriceSettings) -> Outcome:
    """What the edges of one run make together, in their order."""
    if len(edges) == 1:
        return edges[0]
    lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in edges[0].lines}
    for outcome in edges:
        for kind, some in outcome.lines.items():
            lines[kind] += some
    figures = figures_of(lines["streams"], lines["tokens"], lines["steps"], prices=prices)
    return Outcome(figures, lines, Effort.of_all(outcome.effort for outcome in edges))


class _Trial:
    def __init__(self, point: Point, seed: int, edge: int, *, records: str) -> None:
        self._point = point
        self._seed = seed
        self._edge = edge
        self._before = Effort.so_far()
        self._pair = pair_of(
            point.models, seed, point.link.folder or "."
        )  # reads files, before the loop runs
        self.up, self.down = point.link.conditions()
        self._policy = point.stream_policy()
        self.recorder = Recorder(Codec(self._pair.target.vocab_size), has_messages=records == "all")
        self._has_draft_steps = records != "none"  # no figure needs them, and they are many
        self.changes: list[Changing] = []
        """How to change the conditions of every link there is."""

    async def run(self, wires: Callable[[_Trial, EdgeServer], Any]) -> Outcome:
        load = self._point.load
        self.recorder.begin()
        name = "edge" if load.edges == 1 else f"edge-{self._edge}"
        runner = RecordedRunner(self._pair.edge_runner(), self.recorder, name)
        numbers = range(self._edge, load.devices, load.edges)
        edge = EdgeServer.of(self._pair.target, runner, settings=self._edge_settings(len(numbers)))
        async with edge, wires(self, edge) as dial, self._drifting(), asyncio.TaskGroup() as group:
            for number in numbers:
                group.create_task(self._device(number, dial))
        recorder = self.recorder
        prices = self._point.prices
        figures = figures_of(recorder.streams, recorder.tokens, recorder.steps, prices=prices)
        lines = {
            "tokens": recorder.tokens,
            "streams": recorder.streams,
            "steps": recorder.steps,
            "messages": recorder.messages,
            "control": recorder.control,
        }
        return Outcome(figures, lines, self._before.spent(len(recorder.tokens)))

    def _edge_settings(self, num_devices: int) -> EdgeSettings:
        """The defaults, with room for all: what is asked is how long they take, not whom it would refuse."""
        usual = EdgeSettings()
        return EdgeSettings(
            max_fed_hints=self._point.models.max_fed_hints,
            max_links=max(usual.max_links, num_devices),
            max_sessions=max(usual.max_sessions, 2 * num_devices),
            max_waiting=max(usual.max_waiting, num_devices),
        )

    @property
    def link(self) -> LinkSettings:
        return self._point.link

    def link_seed(self, number: int) -> int:
        return self._seed * 100_003 + number

    async def _device(self, number: int, dial: Callable[[int], Dialer]) -> None:
        load = self._point.load
        dice = random.Random(f"{self._seed} {number}")
        await asyncio.sleep(self._arrival_s(number))
        runner = self._pair.device_runner()
        if self._has_draft_steps:
            runner = RecordedRunner(runner, self.recorder, name_of(number))
        seed = self._seed * 100_003 + number
        async with Device(
            [dial(number)], draft=self._pair.draft(), runner=runner, identity=name_of(number), seed=seed
        ) as device:
            for turn in itertools.count() if load.seconds else range(load.streams):
                if turn and load.think_s:
                    await asyncio.sleep(dice.expovariate(1 / load.think_s))
                if self._is_over(self.recorder.now_s()):
                    break
                await self._stream(device, number, turn)

    def _arrival_s(self, number: int) -> float:
        load = self._point.load
        if load.arrival == "random":
            return random.Random(f"{self._seed} arrival {number}").uniform(0, load.arrivals_s)
        return load.arrivals_s * number / load.devices

    def _is_over(self, time_s: float) -> bool:
        """Has the run had all the seconds that it was given?"""
        return 0 < self._point.load.seconds <= time_s

    async def _stream(self, device: Device, number: int, turn: int) -> None:
        request = self._pair.request(number, turn, self._point.load.tokens)
        about = {"device": name_of(number), "stream": turn}
        began_s = self.recorder.now_s()
        is_keeping = self._point.policy.name == "cascade"
        stream = device.stream(
            request.prompt,
            max_new_tokens=request.max_new_tokens,
            policy=self._policy,
            quality=self._point.policy.quality if is_keeping else 1.0,
        )
        lines: list[dict[str, Any]] = []
        async for token in stream:
            time_s = self.recorder.since(token.time_s)
            if self._is_over(time_s):
                stream.cancel()
                break
            self.recorder.controlled(number, turn, stream, token)
            line: dict[str, Any] = {
                **about,
                "position": token.position,
                "id": token.id,
                "source": token.source.value,
                "time_s": time_s,
            }
            if token.agreement is not None:
                line["agreement"] = round(token.agreement, 6)
            self.recorder.tokens.append(line)
            lines.append(line)
        if not lines:
            return  # it was asked for too late
        if is_keeping:
            judged = own_picks(self._pair.target, request.prompt, [line["id"] for line in lines])
            for line, is_own in zip(lines, judged, strict=True):
                line["is_own"] = is_own
        summary = stream.summary
        self.recorder.streams.append(
            {
                **about,
                "began_s": began_s,
                "num_tokens": len(lines),
                "num_hinted": sum(line["source"] == Source.HINTED.value for line in lines),
                "num_kept": sum(line["source"] == Source.KEPT.value for line in lines),
                "num_at_once": summary.num_at_once,
                "num_drafted": summary.num_drafted,
                "bytes_up": summary.bytes_up,
                "bytes_down": summary.bytes_down,
                "num_opens": summary.num_opens,
            }
        )

    @asynccontextmanager
    async def _drifting(self) -> AsyncIterator[None]:
        """Changes the links when `link.drift` says so."""
        task = asyncio.create_task(self._drift(), name="drift")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _drift(self) -> None:
        for change in self._point.link.drift:
            await asyncio.sleep(change.at_s - self.recorder.now_s())
            for put in self.changes:
                put(up=change.conditions, down=change.conditions)


def name_of(number: int) -> str:
    return f"device-{number}"


@asynccontextmanager
async def _in_memory(trial: _Trial, edge: EdgeServer) -> AsyncIterator[Callable[[int], Dialer]]:
    """Links inside this process, emulated."""
    listener, recorder = MemoryListener(), trial.recorder
    edge.listen(RecordedListener(listener, recorder) if recorder.has_messages else listener)

    def dialer(number: int) -> Dialer:
        async def dial() -> Link:
            link = EmulatedLink(
                await listener.dial(name_of(number)),
                up=trial.up,
                down=trial.down,
                seed=trial.link_seed(number),
                is_reliable=trial.link.is_reliable,
            )
            trial.changes.append(link.change)
            return RecordedLink(link, recorder, device=name_of(number)) if recorder.has_messages else link

        return dial

    yield dialer


@asynccontextmanager
async def _over_sockets(trial: _Trial, edge: EdgeServer) -> AsyncIterator[Callable[[int], Dialer]]:
    """A real WebSocket, through a proxy of its own for each device."""
    from ...links.proxy import LinkProxy
    from ...links.websocket import WebSocketListener

    recorder = trial.recorder
    async with WebSocketListener() as listener, contextlib.AsyncExitStack() as proxies:
        edge.listen(RecordedListener(listener, recorder) if recorder.has_messages else listener)
        host, port = listener.url.split("/")[2].rsplit(":", 1)

        def dialer(number: int) -> Dialer:
            proxy: LinkProxy | None = None

            async def dial() -> Link:
                nonlocal proxy
                if proxy is None:
                    seed = trial.link_seed(number)
                    proxy = await proxies.enter_async_context(
                        LinkProxy((host, int(port)), up=trial.up, down=trial.down, seed=seed)
                    )
                    trial.changes.append(proxy.change)
                near_host, near_port = proxy.address
                url = listener.url.replace(f"{host}:{port}", f"{near_host}:{near_port}")
                link = await dialer_for(url, identity=name_of(number))()
                return RecordedLink(link, recorder, device=name_of(number)) if recorder.has_messages else link

            return dial

        yield dialer
