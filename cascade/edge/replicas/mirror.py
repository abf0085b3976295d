"""One text as its front knows it: what was committed, and all that it takes to open it anew elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ...decoding import common_prefix
from ...errors import EngineError, ReplicaLost
from ...wire.text import HashedText
from ..interface import Committed, DecodeRequest
from ..remarks import Remarks
from .orders import Grown, Hint, Keep, Open, Order

if TYPE_CHECKING:
    from .replica import Replica

__all__ = ["MirroredText"]

MAX_OFFERS = 64
"""Hints and keeps that are remembered, until they are text or of the past; the oldest go first."""


class MirroredText:
    """The handle that those above have. A replica's text is this one, or this one and more."""

    def __init__(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        patience_s: float,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> None:
        self.request = request
        self.owner = owner
        self.patience_s = patience_s
        self.known = len(prefix)
        self.queue_s = self.lag_s = 0.0
        self.on_commit = on_commit
        self.on_failure = on_failure
        self.text = HashedText(prefix)
        self.epoch = 0
        """Raised when something that the replica may have said in the meantime is not to count."""
        self.is_finished = self._is_complete()
        self.is_closed = False
        self.replica: Replica | None = None
        """Where it is open. None: nowhere, for it is finished, or waits for a place."""
        self.id = 0
        """Of the text, there."""
        self._may_go_on = True
        self._offers: deque[Hint | Keep] = deque(maxlen=MAX_OFFERS)
        self._remarks = Remarks()

    @property
    def head(self) -> int:
        return len(self.text)

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        return self.text.tokens[start : None if limit is None else start + limit]

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        return self._remarks.verdict(start, stop)

    def logprobs(self, start: int, stop: int) -> tuple[float, ...] | None:
        if not self.request.wants_logprobs:
            return None
        return self._remarks.logprobs(start, stop, known=self.known)

    # What the device says

    def offer(self, order: Hint | Keep) -> None:
        """Remember it: should the replica die before it has looked at it, the next one gets it."""
        if order.position + len(order.tokens) > self.head:
            self._offers.append(order)
        if isinstance(order, Keep):
            self._may_go_on = order.may_go_on

    def resume(self, prefix: tuple[int, ...], patience_s: float) -> None:
        """Our text stands, unless the device was given more, or something else."""
        self.patience_s = patience_s
        self._may_go_on = True
        if common_prefix(self.text.tokens, prefix) < len(prefix):
            self.text.truncate(0)
            self.text.extend(prefix)
            self._begin_epoch()
            self._remarks.forget_from(0)
            self.is_finished = self._is_complete()
        self.known = len(prefix)

    def overrule(self, position: int, prefix_hash: int) -> bool:
        if not self.prompt_length <= position <= self.head:
            return False
        if self.text.state_before(position) != prefix_hash:
            return False
        self.text.truncate(position)
        self._begin_epoch()
        self._remarks.forget_from(position)
        self.known = min(self.known, position)
        self.is_finished = False
        return True

    def acknowledge(self, known: int) -> bool:
        """True if that is news."""
        if not self.known < known <= self.head:
            return False
        self.known = known
        self._remarks.forget_before(known)
        return True

    # What replicas say

    def grow(self, grown: Grown) -> Committed | None:
        """Every position comes once: what belongs to another epoch is passed over."""
        if grown.epoch != self.epoch:
            return None
        head = self.head
        if grown.position != head:
            raise ReplicaLost("a replica has another text than its front")
        self.text.extend(grown.tokens)
        self.queue_s = grown.queue_s
        self.is_finished = grown.is_finished
        if grown.verdict is not None:
            self._remarks.dispute(head + index for index, own in enumerate(grown.verdict) if not own)
        if grown.logprobs is not None:
            self._remarks.note_logprobs(enumerate(grown.logprobs, head))
        while self._offers and self._offers[0].position + len(self._offers[0].tokens) <= self.head:
            self._offers.popleft()
        return Committed(grown.tokens, grown.num_hinted) if grown.tokens else None

    def opening(self) -> Iterator[Order]:
        """The orders that open it at a replica, with all that is known of it."""
        yield Open(
            id=self.id,
            request=self.request,
            prefix=tuple(self.text.tokens),
            known=self.known,
            owner=self.owner,
            patience_s=self.patience_s,
            epoch=self.epoch,
        )
        if not self._may_go_on:
            state = self.text.state_before(self.head)
            yield Keep(self.id, self.head, state, (), (), may_go_on=False, alpha=0.0)
        for order in self._offers:
            yield order._replace(id=self.id)

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self._offers.clear()

    def _is_complete(self) -> bool:
        is_answered = self.head > self.prompt_length
        is_stopped = is_answered and self.text.tokens[-1] in self.request.stop_ids
        return is_stopped or self.head >= self.request.length_limit
