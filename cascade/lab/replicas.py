"""Engines on Ray: what the way to them costs, what more of them bring, and what is felt when they die."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import signal
import statistics
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..decoding import Sampling, pick
from ..edge import BatchEngine, EdgeSettings, Engine, Text
from ..edge.interface import Committed, DecodeRequest
from ..edge.replicas import RaySettings, ReplicaSettings, ReplicatedEngine
from ..edge.replicas.mirror import MirroredText
from ..edge.replicas.on_ray import RayWorkers, ray_workers
from ..edge.replicas.replica import Replica
from ..edge.replicas.settings import LOCAL
from ..models.base import Feed
from ..models.runner import PacedRunner
from ..models.synthetic import SyntheticTarget
from .progress import say

__all__ = ["Ordeal", "Toll", "endure", "engine_of", "token_s", "tokens_per_s"]

VOCAB_SIZE = 64
WITHIN_S = 120.0
"""Longer than this nothing takes here."""
NODE_STORE_BYTES = 80 << 20


def paced_engine(pass_s: float, row_s: float, run_ahead: int) -> Engine:
    """A synthetic engine whose passes take declared time. Called in the replica's process."""
    settings = EdgeSettings(run_ahead=run_ahead)
    target = SyntheticTarget(vocab_size=VOCAB_SIZE)
    return BatchEngine(target, PacedRunner(lambda rows: pass_s + row_s * rows), settings)


def engine_of(pass_s: float, *, row_s: float = 0.0, run_ahead: int = 256) -> Callable[[], Engine]:
    return functools.partial(paced_engine, pass_s, row_s, run_ahead)


@contextlib.asynccontextmanager
async def here(new_engine: Callable[[], Engine]) -> AsyncIterator[Engine]:
    """In this process, without anything between."""
    engine = new_engine()
    async with _running(engine):
        yield engine


@contextlib.asynccontextmanager
async def on_ray(
    new_engine: Callable[[], Engine], num_replicas: int, address: str = LOCAL
) -> AsyncIterator[tuple[ReplicatedEngine, RayWorkers]]:
    """Replicas that are all there."""
    settings = ReplicaSettings(num_replicas=num_replicas)
    # In a cluster of several nodes the head has no CPUs, and so no replica: it is not to be killed.
    booking = RaySettings(address=address, num_cpus=0.0 if address == LOCAL else 1.0)
    async with (
        ray_workers(new_engine, booking) as workers,
        ReplicatedEngine.over(workers, settings) as engine,
        _running(engine),
    ):
        async with asyncio.timeout(WITHIN_S):
            await engine.all_up()
        yield engine, workers


# What the way costs, and what more engines bring


async def token_s(engine: Engine, num_tokens: int, num_texts: int) -> float:
    """Seconds for a token, median, where each is decoded only after the last one was acknowledged.

    For engines whose run-ahead is one token: a commit's way down and an acknowledgement's way up are in it.
    """
    loop = asyncio.get_running_loop()
    gaps_s: list[float] = []

    def watch(text: _Watched) -> None:
        now_s = loop.time()
        gaps_s.append(now_s - text.last_s)
        text.last_s = now_s

    texts = [_Watched(engine, _request(number, num_tokens), watch) for number in range(num_texts)]
    for text in texts:
        await text.finish()
    return statistics.median(gaps_s)


async def tokens_per_s(engine: Engine, num_texts: int, within_s: float) -> float:
    """Of so many texts at a time, over so many seconds, when all of them are under way."""
    num_tokens = 0

    def count(text: _Watched) -> None:
        nonlocal num_tokens
        num_tokens += text.num_new

    texts = [_Watched(engine, _request(number, 1 << 20), count) for number in range(num_texts)]
    await _until(lambda: all(text.said for text in texts))
    loop = asyncio.get_running_loop()
    started_s, num_tokens = loop.time(), 0
    await asyncio.sleep(within_s)
    rate = num_tokens / (loop.time() - started_s)
    for text in texts:
        text.close()
    return rate


# What is felt when they die


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordeal:
    """Texts over replicas on several nodes, of which actors and whole nodes are killed."""

    num_texts: int = 64
    num_replicas: int = 4
    num_nodes: int = 3
    """Beside the head, which has no replica."""
    num_kills: int = 20
    node_every: int = 4
    """Each so many'th kill takes a whole node."""
    num_tokens: int = 400
    """Of a text; when it is over another one opens."""
    pass_s: float = 0.05
    seed: int = 0


@dataclass(slots=True)
class Toll:
    """What it came to."""

    num_texts: int = 0
    num_wrong: int = 0
    """Texts of which a token differs from the target alone, or came twice, or never."""
    num_actors_killed: int = 0
    num_nodes_killed: int = 0
    pauses_s: list[float] = field(default_factory=list)
    """For each kill and each text that was at a victim: from its last token there to the first elsewhere."""
    jain: list[float] = field(default_factory=list)
    """How evenly the texts were spread, before each kill."""
    recovery_s: list[float] = field(default_factory=list)
    """Until all replicas were there again."""


async def endure(ordeal: Ordeal) -> Toll:
    dice = random.Random(ordeal.seed)
    async with (
        _Nodes.started(ordeal.num_nodes) as nodes,
        on_ray(engine_of(ordeal.pass_s), ordeal.num_replicas, nodes.address) as (engine, workers),
    ):
        crowd = _Crowd(engine, ordeal)
        crowd.fill()
        killer = _Killer(engine, workers, nodes, crowd)
        for number in range(1, ordeal.num_kills + 1):
            await asyncio.sleep(dice.uniform(1.2, 1.2 + 4 * ordeal.pass_s))
            crowd.toll.jain.append(_jain([len(replica.running) for replica in engine.replicas]))
            victim = dice.randrange(ordeal.num_replicas)
            what = await killer.kill(victim, takes_node=number % ordeal.node_every == 0)
            say(f"kill {number}/{ordeal.num_kills}: {what}")
        await crowd.finish()
        return crowd.toll


class _Killer:
    """Kills in mid-stream, and waits until all is as before."""

    def __init__(self, engine: ReplicatedEngine, workers: RayWorkers, nodes: _Nodes, crowd: _Crowd) -> None:
        self._engine = engine
        self._workers = workers
        self._nodes = nodes
        self._crowd = crowd

    async def kill(self, victim: int, *, takes_node: bool) -> str:
        """The replica of this number, or the node it is on, with all that is there. Says what it came to."""
        toll, replicas = self._crowd.toll, self._engine.replicas
        places = [await worker.actor.where.remote() for worker in self._workers.workers]
        node, pid = places[victim]
        reached = [at == victim or (takes_node and place[0] == node) for at, place in enumerate(places)]
        hit = [replica for replica, is_hit in zip(replicas, reached, strict=True) if is_hit]
        lives = [replica.num_lives for replica in hit]
        num_texts = self._crowd.watch_pauses(hit)
        num_before = len(toll.pauses_s)
        killed_s = asyncio.get_running_loop().time()
        if takes_node:
            toll.num_nodes_killed += 1
            await self._nodes.kill(node)
        else:
            toll.num_actors_killed += 1
            os.kill(pid, signal.SIGKILL)
        await _until(lambda: not self._crowd.waits_for)
        longest_s = max(toll.pauses_s[num_before:], default=0.0)
        if takes_node:
            self._nodes.add()
        await _until(lambda: all(replica.num_lives > life for replica, life in zip(hit, lives, strict=True)))
        async with asyncio.timeout(WITHIN_S):
            await self._engine.all_up()
        toll.recovery_s.append(asyncio.get_running_loop().time() - killed_s)
        kind = "a node" if takes_node else "an actor"
        return f"{kind}, {num_texts} texts went on elsewhere after at most {longest_s * 1000:.0f} ms"


class _Nodes:
    """A Ray cluster of several nodes on this machine."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, num_nodes: int) -> AsyncIterator[_Nodes]:
        import ray
        from ray.cluster_utils import Cluster

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": NODE_STORE_BYTES}
        nodes = cls(cluster := Cluster(initialize_head=True, head_node_args=head))
        try:
            for _ in range(num_nodes):
                nodes.add()
            yield nodes
        finally:
            await asyncio.to_thread(ray.shutdown)
            await asyncio.to_thread(cluster.shutdown)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> None:
        """Blocks, for seconds: only the main thread can see to it that the node ends with this process."""
        node = self._cluster.add_node(num_cpus=4, object_store_memory=NODE_STORE_BYTES)
        self._nodes[node.node_id] = node

    async def kill(self, node_id: str) -> None:
        node = self._nodes.pop(node_id)
        await asyncio.to_thread(self._cluster.remove_node, node, allow_graceful=False)


class _Watched:
    """One text: acknowledged, and compared with the target alone at its end."""

    def __init__(self, engine: Engine, request: DecodeRequest, on_tokens: Callable[[_Watched], None]) -> None:
        self.request = request
        self.said: list[int] = []
        self.num_new = 0
        self.last_s = asyncio.get_running_loop().time()
        self._engine = engine
        self._on_tokens = on_tokens
        self._is_over = asyncio.Event()
        self.text: Text = engine.open(
            request,
            request.prompt,
            owner=f"owner {request.prompt[0]}",
            patience_s=0.0,
            on_commit=self._on_commit,
            on_failure=lambda error: self._is_over.set(),
        )

    async def finish(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            await self._is_over.wait()
        self.close()

    def close(self) -> None:
        self._engine.close(self.text)

    def _on_commit(self, committed: Committed) -> None:
        self.said += committed.tokens
        self.num_new = len(committed.tokens)
        self._on_tokens(self)
        if self.text.is_finished:
            self._is_over.set()
        else:
            self._engine.acknowledge(self.text, self.text.head)


class _Crowd:
    """So many texts at a time, until it is enough."""

    def __init__(self, engine: ReplicatedEngine, ordeal: Ordeal) -> None:
        self.toll = Toll()
        self.waits_for: dict[Text, tuple[Replica | None, int]] = {}
        """Texts that were at a victim, and where, until they say something elsewhere."""
        self._engine = engine
        self._ordeal = ordeal
        self._target = SyntheticTarget(vocab_size=VOCAB_SIZE)
        self._texts: set[_Watched] = set()
        self._is_last = False

    def fill(self) -> None:
        dice = random.Random(self._ordeal.seed + 1)
        while len(self._texts) < self._ordeal.num_texts:
            # The first ones end at different times, so that kills find texts of every age.
            share = dice.uniform(0.3, 1.0)
            self._open(round(self._ordeal.num_tokens * share))

    def watch_pauses(self, replicas: Iterable[Replica]) -> int:
        """Of all texts there; says how many they are."""
        texts = [text for replica in replicas for text in replica.running]
        self.waits_for = {text: (text.replica, text.id) for text in texts}
        return len(texts)

    async def finish(self) -> None:
        self._is_last = True
        await _until(lambda: not self._texts)

    def _open(self, num_tokens: int) -> None:
        number = self.toll.num_texts
        self.toll.num_texts += 1
        self._texts.add(_Watched(self._engine, _request(number, num_tokens), self._on_tokens))

    def _on_tokens(self, text: _Watched) -> None:
        now_s, mirror = asyncio.get_running_loop().time(), text.text
        assert isinstance(mirror, MirroredText)
        place = self.waits_for.get(mirror)
        if place is not None and place != (mirror.replica, mirror.id):
            del self.waits_for[mirror]
            self.toll.pauses_s.append(now_s - text.last_s)
        text.last_s = now_s
        if mirror.is_finished:
            self.waits_for.pop(mirror, None)
            self._texts.discard(text)
            text.close()
            self.toll.num_wrong += text.said != answer(self._target, text.request)
            if not self._is_last:
                self._open(self._ordeal.num_tokens)


def answer(target: SyntheticTarget, request: DecodeRequest) -> list[int]:
    """The oracle: the target decodes by itself, one token a pass."""
    sequence, text = target.new_sequence(), list(request.prompt)
    fed = text
    while len(text) < request.length_limit:
        token = pick(target.forward([Feed(sequence, fed, 1)])[0], request.sampling, len(text))
        text.append(token)
        fed = [token]
    return text[len(request.prompt) :]


def _request(number: int, num_tokens: int) -> DecodeRequest:
    prompt = (number % VOCAB_SIZE, number // VOCAB_SIZE % VOCAB_SIZE, number // VOCAB_SIZE**2, 1)
    return DecodeRequest(
        prompt=prompt,
        sampling=Sampling(temperature=1.0, seed=number),
        stop_ids=frozenset(),
        length_limit=len(prompt) + num_tokens,
    )


def _jain(loads: Sequence[int]) -> float:
    return sum(loads) ** 2 / (len(loads) * sum(load**2 for load in loads))


async def _until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not is_true():  # noqa: ASYNC110 (a bench may look now and then)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _running(engine: Engine) -> AsyncIterator[None]:
    task = asyncio.create_task(engine.run(), name="engine")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
