"""The replica's side: an engine that carries out the orders of a front, and tells it what is new."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from ...errors import EngineError, ReplicaLost
from ..interface import Committed, Engine, Text
from .orders import (
    Batch,
    Begun,
    Close,
    Failed,
    Grown,
    Hint,
    Hold,
    Keep,
    Known,
    News,
    Open,
    Order,
    Overrule,
    Resume,
    Wish,
)

__all__ = ["HEARTBEAT_S", "Host"]

HEARTBEAT_S = 0.5
"""After so long without news the front hears that there are none."""
MAX_GAP_S = 2.0
"""A batch that is missing for so long is lost, and the life with it."""
MAX_EARLY = 1024
"""Batches that wait for a missing one; beyond it the life is over as well."""
NO_LIFE = -1


class _Held:
    """One text that is open here."""

    def __init__(self, epoch: int, sent: int) -> None:
        self.epoch = epoch
        self.sent = sent
        """The front has everything before."""
        self.num_hinted = 0
        self.text: Text


class Host:
    """What commits is not queued: it is read from the texts when the front asks, so nothing waits twice."""

    def __init__(self, engine: Engine, place: str = "") -> None:
        self.engine = engine
        self._place = place
        self._name = uuid.uuid4().hex
        self._life = self._newest = NO_LIFE
        self._num_taken = 0
        self._early: dict[int, Batch] = {}
        """By number: what overtook others. Calls of an asynchronous Ray actor begin in any order."""
        self._gap_since_s = 0.0
        self._texts: dict[int, _Held] = {}
        self._changed: dict[int, None] = {}
        """Texts of which there is something to tell."""
        self._failed: list[Failed] = []
        self._is_news = asyncio.Event()

    def begin(self, life: int) -> Begun:
        """A front begins, or begins again: what was open for it before is closed."""
        if life < self._newest:
            raise ReplicaLost("a newer life was begun meanwhile")
        for held in self._texts.values():
            self.engine.close(held.text)
        self._texts.clear()
        self._changed.clear()
        self._failed.clear()
        self._early.clear()
        self._life = self._newest = life
        self._num_taken = 0
        self._is_news.set()  # who waits for news of another life waits in vain
        return Begun(self.engine.served, self._name, self._place)

    def take(self, batch: Batch) -> None:
        """Carry out orders, unless they are of another life."""
        if batch.life != self._life:
            return
        if not self._early:
            self._gap_since_s = self._now_s()
        self._early[batch.number] = batch
        while (following := self._early.pop(self._num_taken, None)) is not None:
            self._num_taken += 1
            self._gap_since_s = self._now_s()
            for order in following.orders:
                self._carry_out(order)
        if len(self._early) > MAX_EARLY:
            self._end_life()

    async def news(self, life: int) -> News:
        """What is new, as soon as there is something; after a while, as a sign of life, that nothing is."""
        if life == self._life and not self._is_news.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._is_news.wait()
            except TimeoutError:
                pass
        if self._early and self._now_s() - self._gap_since_s > MAX_GAP_S:
            self._end_life()
        if life != self._life:
            raise ReplicaLost("orders were lost, or another life has begun")
        if not self.engine.is_alive:
            raise ReplicaLost("the replica's engine is dead")
        self._is_news.clear()
        grown = tuple(self._tell(number) for number in self._changed)
        failed = tuple(self._failed)
        self._changed.clear()
        self._failed.clear()
        engine = self.engine
        return News(life, self._num_taken, grown, failed, engine.stats, engine.pass_s, engine.kv_bytes)

    def _tell(self, number: int) -> Grown:
        held = self._texts[number]
        text, start = held.text, held.sent
        tokens = tuple(text.committed(start))
        held.sent = stop = start + len(tokens)
        num_hinted, held.num_hinted = min(held.num_hinted, len(tokens)), 0
        return Grown(
            id=number,
            epoch=held.epoch,
            position=start,
            tokens=tokens,
            num_hinted=num_hinted,
            verdict=text.verdict(start, stop),
            logprobs=text.logprobs(start, stop),
            queue_s=text.queue_s,
            is_finished=text.is_finished,
        )

    def _carry_out(self, order: Order) -> None:
        if isinstance(order, Open):
            self._open(order)
            return
        if isinstance(order, Hold):
            self.engine.hold(order.owner, self._now_s() + order.wait_s)
            return
        held = self._texts.get(order.id)
        if held is None:
            return  # it has failed, and the front does not know yet
        engine, text = self.engine, held.text
        match order:
            case Hint():
                engine.hint(text, order.position, order.prefix_hash, order.tokens)
            case Known():
                engine.acknowledge(text, order.known)
            case Keep():
                engine.keep(
                    text,
                    order.position,
                    order.prefix_hash,
                    order.tokens,
                    order.kept,
                    may_go_on=order.may_go_on,
                    alpha=order.alpha,
                )
            case Wish():
                engine.wish_patience(text, order.patience_s)
            case Resume():
                engine.resume(text, order.prefix, patience_s=order.patience_s)
                self._begin_epoch(held, order.id, order.epoch, len(order.prefix))
            case Overrule():
                if not engine.overrule(text, order.position, order.prefix_hash):
                    self._fail(order.id, EngineError("a replica has another text than its front"))
                    engine.close(text)
                else:
                    self._begin_epoch(held, order.id, order.epoch, order.position)
            case Close():
                engine.close(text)
                self._forget(order.id)

    def _open(self, order: Open) -> None:
        held = self._texts[order.id] = _Held(order.epoch, len(order.prefix))
        held.text = self.engine.open(
            order.request,
            order.prefix,
            owner=order.owner,
            patience_s=order.patience_s,
            on_commit=self._noting_commits(order.id, held),
            on_failure=lambda error: self._fail(order.id, error),
        )
        if order.known < len(order.prefix):
            self.engine.resume(held.text, order.prefix[: order.known], patience_s=order.patience_s)

    def _noting_commits(self, number: int, held: _Held) -> Callable[[Committed], None]:
        def on_commit(committed: Committed) -> None:
            held.num_hinted += committed.num_hinted
            self._changed[number] = None
            self._is_news.set()

        return on_commit

    def _begin_epoch(self, held: _Held, number: int, epoch: int, position: int) -> None:
        """What the text has from `position` on is told again, and as something else, if the epoch is new."""
        if epoch != held.epoch:
            held.epoch, held.sent, held.num_hinted = epoch, position, 0
            if held.text.head > position:
                self._changed[number] = None
                self._is_news.set()
            else:
                self._changed.pop(number, None)

    def _fail(self, number: int, error: EngineError) -> None:
        """The text is closed. What it had grown by is not told any more, for nobody may go on from it."""
        self._failed.append(Failed(number, error))
        self._forget(number)
        self._is_news.set()

    def _forget(self, number: int) -> None:
        self._texts.pop(number, None)
        self._changed.pop(number, None)

    def _end_life(self) -> None:
        """The front must begin again."""
        self._life = NO_LIFE
        self._is_news.set()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
