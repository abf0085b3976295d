"""Many engines behind one address: a text is opened at one of them, and goes on at another when that is lost.

The front keeps of each text what was committed, so it can open it anew anywhere; that the text is a function
of its request alone (invariant 1) makes it the same text, and epochs make each of its positions come once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from ...errors import EngineError
from ..interface import Committed, DecodeRequest, EngineStats, Served, Text
from . import orders
from .mirror import MirroredText
from .placing import Beginnings, choose, moves
from .replica import Replica
from .scaling import Demand, Scaler
from .settings import ReplicaSettings
from .totals import total
from .worker import Worker, Workers

__all__ = ["ReplicatedEngine"]

log = logging.getLogger(__name__)

LOOK_AFTER_S = 1.0
FIRST_LIFE = 0
"""In which a replica is only asked what it serves."""


class ReplicatedEngine:
    """An `Engine` for those above: `async with ReplicatedEngine.over(workers, settings) as engine:`."""

    def __init__(
        self, workers: Workers, places: Sequence[Worker], served: Served, settings: ReplicaSettings
    ) -> None:
        self.served = served
        self.is_alive = True
        self._workers = workers
        self._settings = settings
        self.replicas = [self._new_replica(index, place) for index, place in enumerate(places)]
        self._num_ever = len(self.replicas)
        self._tending: dict[Replica, asyncio.Task[None]] = {}
        self._scaler = Scaler(settings)
        self._past = EngineStats()
        """What replicas did that were ended."""
        self._homeless: dict[MirroredText, None] = {}
        """Texts that want tokens while no replica is there."""
        self._beginnings: Beginnings[Replica] = Beginnings()
        self._held_until_s: dict[str, float] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def over(cls, workers: Workers, settings: ReplicaSettings) -> AsyncIterator[ReplicatedEngine]:
        """Start the replicas; the engine is there as soon as the first of them says what it serves."""
        places = [workers.new(index) for index in range(settings.num_replicas)]
        engine = None
        try:
            engine = cls(workers, places, await _first_served(places), settings)
            yield engine
        finally:
            ended = places if engine is None else engine.replicas
            await asyncio.gather(*(each.close() for each in ended))

    @property
    def stats(self) -> EngineStats:
        return total([self._past, *(replica.stats for replica in self.replicas)])

    @property
    def kv_bytes(self) -> int:
        return sum(replica.kv_bytes for replica in self.replicas)

    @property
    def pass_s(self) -> float:
        """On average over the replicas that know it."""
        known = [replica.pass_s for replica in self.replicas if replica.pass_s]
        return sum(known) / len(known) if known else 0.0

    def open(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        patience_s: float,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> Text:
        text = MirroredText(
            request,
            prefix,
            owner=owner,
            patience_s=patience_s,
            on_commit=on_commit,
            on_failure=on_failure,
        )
        self._settle(text)
        return text

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        mirror = _ours(text)
        if mirror.is_closed:
            return
        mirror.resume(prefix, patience_s)
        if mirror.replica is not None:
            mirror.replica.tell(orders.Resume(mirror.id, mirror.epoch, prefix, patience_s))
        self._settle(mirror)

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        self._offer(_ours(text), orders.Hint(_ours(text).id, position, prefix_hash, tokens))

    def keep(
        self,
        text: Text,
        position: int,
        prefix_hash: int,
        tokens: tuple[int, ...],
        kept: tuple[bool, ...],
        *,
        may_go_on: bool,
        alpha: float = 0.0,
    ) -> None:
        mirror = _ours(text)
        self._offer(mirror, orders.Keep(mirror.id, position, prefix_hash, tokens, kept, may_go_on, alpha))

    def overrule(self, text: Text, position: int, prefix_hash: int) -> bool:
        mirror = _ours(text)
        if mirror.is_closed or not mirror.overrule(position, prefix_hash):
            return False
        if mirror.replica is not None:
            mirror.replica.tell(orders.Overrule(mirror.id, mirror.epoch, position, prefix_hash))
        self._settle(mirror)
        return True

    def wish_patience(self, text: Text, patience_s: float) -> None:
        mirror = _ours(text)
        mirror.patience_s = patience_s
        if mirror.replica is not None:
            mirror.replica.tell(orders.Wish(mirror.id, patience_s))

    def hold(self, owner: str, until_s: float) -> None:
        self._held_until_s[owner] = until_s
        for replica in self.replicas:
            if replica.owners[owner]:
                replica.hold(owner, until_s - self._now_s())

    def acknowledge(self, text: Text, known: int) -> None:
        mirror = _ours(text)
        if mirror.acknowledge(known) and mirror.replica is not None:
            mirror.replica.acknowledge(mirror)

    def close(self, text: Text) -> None:
        mirror = _ours(text)
        if mirror.is_closed:
            return
        mirror.is_closed = True
        self._homeless.pop(mirror, None)
        if mirror.replica is not None:
            self._beginnings.note(mirror.owner, mirror.text, mirror.replica)
            mirror.replica.part_with(mirror)

    async def run(self) -> None:
        """Keep the replicas alive; over when none of them can be had any more."""
        try:
            async with asyncio.TaskGroup() as group:
                for replica in self.replicas:
                    self._tend(group, replica)
                group.create_task(self._look_after(group), name="engine-replicas")
        except* EngineError as errors:
            raise errors.exceptions[0] from None
        finally:
            self.is_alive = False

    async def all_up(self) -> None:
        """Until every replica is there. Texts need not wait for that: one is enough."""
        await asyncio.gather(*(replica.up.wait() for replica in self.replicas))

    # Where texts are

    def _offer(self, text: MirroredText, order: orders.Hint | orders.Keep) -> None:
        text.offer(order)
        if text.replica is not None:
            text.replica.tell(order)

    def _settle(self, text: MirroredText) -> None:
        """After it was opened, or became another: it has a place if, and as long as, it wants tokens."""
        if text.is_finished:
            self._homeless.pop(text, None)
            if text.replica is not None:
                text.replica.rest(text)
        elif text.replica is not None:
            text.replica.run(text)
        else:
            self._place(text)

    def _place(self, text: MirroredText) -> None:
        loads = self._loads()
        if not loads:
            self._homeless[text] = None
            return
        self._homeless.pop(text, None)
        self._open_at(choose(loads, self._beginnings.find(text.owner, text.text)), text)

    def _open_at(self, replica: Replica, text: MirroredText) -> None:
        wait_s = self._held_until_s.get(text.owner, 0.0) - self._now_s()
        if wait_s > 0:
            replica.hold(text.owner, wait_s)
        replica.open(text)
        self._beginnings.note(text.owner, text.text, replica)

    def _loads(self) -> dict[Replica, int]:
        """Of the replicas that take texts; the one that had the fewest so far stands first."""
        up = [replica for replica in self.replicas if replica.is_up]
        there = [replica for replica in up if not replica.is_leaving] or up
        return {each: len(each.running) for each in sorted(there, key=lambda each: each.num_opened)}

    def _even_out(self) -> None:
        """No replica has much more to do than another."""
        for source, goal in moves(self._loads()):
            text = min(source.running, key=lambda each: each.head)  # what costs least to begin anew
            source.part_with(text)
            self._open_at(goal, text)

    def _on_up(self, replica: Replica) -> None:
        for text in tuple(self._homeless):
            self._place(text)
        self._even_out()

    def _on_down(self, replica: Replica) -> None:
        """It had these texts; they go on elsewhere, the longest-running first."""
        self._beginnings.forget(replica)
        for text in tuple(replica.running):
            self._place(text)

    def _on_finished(self, text: MirroredText) -> None:
        if text.replica is not None:
            self._beginnings.note(text.owner, text.text, text.replica)

    def _new_replica(self, index: int, place: Worker) -> Replica:
        return Replica(
            index,
            place,
            self._settings,
            served=self.served,
            on_up=self._on_up,
            on_down=self._on_down,
            on_finished=self._on_finished,
        )

    # How many there are

    def _tend(self, group: asyncio.TaskGroup, replica: Replica) -> None:
        self._tending[replica] = group.create_task(replica.tend(), name=f"engine-{replica.name}")

    def _add(self, group: asyncio.TaskGroup) -> None:
        replica = self._new_replica(self._num_ever, self._workers.new(self._num_ever))
        self._num_ever += 1
        self.replicas.append(replica)
        self._tend(group, replica)

    def _follow_load(self, group: asyncio.TaskGroup) -> None:
        """Start some, or choose one that is to go."""
        staying = [replica for replica in self.replicas if not replica.is_leaving]
        demand = Demand(
            num_replicas=len(staying),
            num_texts=len(self._homeless) + sum(len(replica.running) for replica in self.replicas),
            pass_s=self.pass_s,
        )
        change = self._scaler.change(demand, self._now_s())
        if change:
            log.info("%d texts on %d replicas: %+d", demand.num_texts, demand.num_replicas, change)
        for _ in range(change):
            self._add(group)
        if change < 0:
            min(staying, key=lambda replica: (replica.is_up, len(replica.running))).is_leaving = True

    async def _leave_machines(self, group: asyncio.TaskGroup) -> None:
        """Those whose machine goes down have others come in their place."""
        leaving = await self._workers.leaving()
        for replica in [each for each in self.replicas if each.place in leaving and not each.is_leaving]:
            log.info("%s leaves its machine, which goes down", replica.name)
            replica.is_leaving = True
            self._add(group)

    async def _let_go(self) -> None:
        """Of those that are to leave, but not of the last one that is up."""
        for replica in [each for each in self.replicas if each.is_leaving]:
            others_up = any(each.is_up and not each.is_leaving for each in self.replicas)
            if others_up or not replica.is_up:
                await self._end(replica)

    async def _end(self, replica: Replica) -> None:
        """Its texts go on elsewhere."""
        replica.up.clear()
        task = self._tending.pop(replica)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.replicas.remove(replica)
        self._past = total([self._past, replica.stats])
        self._beginnings.forget(replica)
        for text in tuple(replica.texts.values()):
            replica.part_with(text)
            self._settle(text)
        await replica.close()

    async def _look_after(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            await self._leave_machines(group)
            self._follow_load(group)
            await self._let_go()
            now_s = self._now_s()
            for owner in [owner for owner, until_s in self._held_until_s.items() if until_s <= now_s]:
                del self._held_until_s[owner]
            attempts = self._settings.max_attempts
            if all(not each.is_up and each.num_failures >= attempts for each in self.replicas):
                raise EngineError(f"no replica can be had: each was tried {attempts} times in a row")
            self._even_out()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _ours(text: Text) -> MirroredText:
    assert isinstance(text, MirroredText), "a text of another engine"
    return text


async def _first_served(places: Sequence[Worker]) -> Served:
    """What the first replica says that is there; the others go on beginning."""
    tasks = [asyncio.create_task(place.begin(FIRST_LIFE), name="replica-begins") for place in places]
    reason = EngineError("there are no replicas")
    try:
        for begun in asyncio.as_completed(tasks):
            try:
                return (await begun).served
            except EngineError as error:
                reason = error  # another one may be luckier
        raise reason
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
