"""A front's care for one replica: its lives, the orders to it, the news from it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable

from ...errors import EngineError, ReplicaLost
from ..interface import EngineStats, Served
from .mirror import MirroredText
from .orders import Batch, Begun, Close, Hint, Hold, Known, News, Order
from .settings import ReplicaSettings
from .totals import total
from .worker import Worker

__all__ = ["Replica"]

log = logging.getLogger(__name__)


class Replica:
    """`tend` keeps it alive. While `is_up`, texts may be opened there."""

    def __init__(
        self,
        index: int,
        worker: Worker,
        settings: ReplicaSettings,
        *,
        served: Served,
        on_up: Callable[[Replica], None],
        on_down: Callable[[Replica], None],
        on_finished: Callable[[MirroredText], None],
    ) -> None:
        self.index = index
        self.up = asyncio.Event()
        """It takes texts."""
        self.place = ""
        """The machine it is on."""
        self.is_leaving = False
        """It is to go as soon as another one is up: it takes no new texts."""
        self.num_lives = 0
        self.num_failures = 0
        """Attempts in a row that came to nothing."""
        self.num_opened = 0
        """Texts, ever."""
        self.num_dropped = 0
        """Hints, because more orders were gathered than are worth it."""
        self.engine = ""
        """Another name, another engine, with caches of its own."""
        self.texts: dict[int, MirroredText] = {}
        self.running: dict[MirroredText, None] = {}
        """Those that are not finished, in the order of opening: its load."""
        self.owners: Counter[str] = Counter()
        """Of these."""
        self.pass_s = 0.0
        self.kv_bytes = 0
        self._past = EngineStats()
        """What engines did here that are gone."""
        self._now = EngineStats()
        self._worker = worker
        self._settings = settings
        self._served = served
        self._on_up = on_up
        self._on_down = on_down
        self._on_finished = on_finished
        self._ids = itertools.count()
        self._orders: list[Order] = []
        self._known: dict[int, MirroredText] = {}
        """Texts of which the device has more than the replica was told."""
        self._num_sent = self._num_taken = 0
        """Batches of this life."""
        self._is_flush_due = False

    @property
    def name(self) -> str:
        return f"replica {self.index}"

    @property
    def is_up(self) -> bool:
        return self.up.is_set()

    @property
    def stats(self) -> EngineStats:
        return total([self._past, self._now])

    # Texts

    def open(self, text: MirroredText) -> None:
        """The replica is up, and this text goes on there."""
        text.replica, text.id = self, next(self._ids)
        self.texts[text.id] = text
        self.num_opened += 1
        self.run(text)
        for order in text.opening():
            self.tell(order)

    def run(self, text: MirroredText) -> None:
        """It wants tokens from now on."""
        if text not in self.running:
            self.running[text] = None
            self.owners[text.owner] += 1

    def rest(self, text: MirroredText) -> None:
        """It wants no more."""
        if text in self.running:
            del self.running[text]
            self.owners[text.owner] -= 1
            if not self.owners[text.owner]:
                del self.owners[text.owner]

    def part_with(self, text: MirroredText) -> None:
        """It is over, or goes on elsewhere."""
        self.rest(text)
        del self.texts[text.id]
        self._known.pop(text.id, None)
        text.replica = None
        self.tell(Close(text.id))

    # Orders

    def tell(self, order: Order) -> None:
        """What is said in one turn of the loop goes out together."""
        if isinstance(order, Hint) and len(self._orders) >= self._settings.max_gathered:
            self.num_dropped += len(order.tokens)
            return
        self._orders.append(order)
        self._flush_soon()

    def acknowledge(self, text: MirroredText) -> None:
        self._known[text.id] = text
        self._flush_soon()

    async def close(self) -> None:
        """It is not needed any more, and nobody tends it."""
        self.up.clear()
        await self._worker.close()

    def hold(self, owner: str, wait_s: float) -> None:
        self.tell(Hold(owner, wait_s))

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if not self.is_up or self._num_sent - self._num_taken >= self._settings.max_under_way:
            return  # with the next news there is room again
        orders = self._orders + [Known(text.id, text.known) for text in self._known.values()]
        if orders:
            self._orders, self._known = [], {}
            self._worker.send(Batch(self.num_lives, self._num_sent, tuple(orders)))
            self._num_sent += 1

    # Lives

    async def tend(self) -> None:
        """One life after the other, for ever."""
        settings = self._settings
        while True:
            self.num_lives += 1
            try:
                await self._live()
            except TimeoutError:
                log.warning("%s was silent for %g s and is given up", self.name, settings.silent_s)
                self._worker.give_up()
            except ReplicaLost as error:
                log.warning("%s is lost: %s", self.name, error)
            except EngineError as error:
                log.error("%s cannot serve: %s", self.name, error)
            self._go_down()
            wait_s = settings.backoff_first_s * 2.0 ** min(self.num_failures, 32)
            self.num_failures += 1
            await asyncio.sleep(min(wait_s, settings.backoff_ceiling_s))

    async def _live(self) -> None:
        """From its beginning to its end, which is an error."""
        begun = await self._worker.begin(self.num_lives)
        self._go_up(begun)
        while True:
            async with asyncio.timeout(self._settings.silent_s):
                news = await self._worker.news(self.num_lives)
            self.num_failures = 0
            self._hear(news)

    def _go_up(self, begun: Begun) -> None:
        if begun.served != self._served:
            raise EngineError(
                f"it serves {begun.served.numerics}, and the others serve {self._served.numerics}; "
                "give every machine the same model and the same settings"
            )
        if begun.engine != self.engine:
            self._past, self._now = self.stats, EngineStats()
            self.engine = begun.engine
        self._num_sent = self._num_taken = 0
        self.place = begun.place
        self.up.set()
        log.info("%s is up", self.name)
        self._on_up(self)

    def _go_down(self) -> None:
        """What was on its way is not any more. Texts that are not finished go on elsewhere."""
        was_up = self.is_up
        self.up.clear()
        self._orders, self._known = [], {}
        self.pass_s, self.kv_bytes = 0.0, 0
        for text in self.texts.values():
            text.replica = None
        if was_up:
            self._on_down(self)
        self.texts.clear()
        self.running.clear()
        self.owners.clear()

    def _hear(self, news: News) -> None:
        self._now, self.pass_s, self.kv_bytes = news.stats, news.pass_s, news.kv_bytes
        self._num_taken = news.num_taken
        for failed in news.failed:
            text = self.texts.pop(failed.id, None)
            if text is not None:
                self.rest(text)
                self._known.pop(failed.id, None)
                text.replica, text.is_closed = None, True
                text.on_failure(failed.error)
        for grown in news.grown:
            text = self.texts.get(grown.id)
            if text is None:
                continue  # closed in the meantime
            committed = text.grow(grown)
            if text.is_finished:
                self.rest(text)
                self._on_finished(text)
            if committed is not None:
                text.on_commit(committed)
        self._flush_soon()
