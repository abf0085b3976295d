"""The least that an engine can be: a token a text and tick, and hints not so much as looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cascade.decoding import log_probability, pick
from cascade.edge import EngineStats, Text
from cascade.edge.interface import Committed, DecodeRequest, Served
from cascade.errors import EngineError
from cascade.models.base import Feed, LanguageModel
from cascade.wire import Feature
from cascade.wire.text import HashedText

__all__ = ["PlainEngine"]

TICK_S = 0.01


class PlainText:
    """A text, the tokens of which are decided one by one."""

    def __init__(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        owner: str,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> None:
        self.request = request
        self.tokens = list(prefix)
        self.known = len(prefix)
        self.queue_s = self.lag_s = 0.0
        self.prompt_length = len(request.prompt)
        self.owner = owner
        self.on_commit = on_commit
        self.on_failure = on_failure
        self.keeps: list[tuple[int, int, tuple[int, ...], tuple[bool, ...]]] = []
        self.may_go_on = True
        self.disputed: set[int] = set()
        self.chances = [0.0] * len(prefix)

    @property
    def head(self) -> int:
        return len(self.tokens)

    @property
    def is_finished(self) -> bool:
        is_stopped = self.head > self.prompt_length and self.tokens[-1] in self.request.stop_ids
        return is_stopped or self.head >= self.request.length_limit

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        return self.tokens[start:][:limit]

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        is_own = tuple(position not in self.disputed for position in range(start, stop))
        return None if all(is_own) else is_own

    def logprobs(self, start: int, stop: int) -> tuple[float, ...] | None:
        return None if not self.request.wants_logprobs else tuple(self.chances[start:stop])

    def has_before(self, position: int, state: int) -> bool:
        return position <= self.head and HashedText(self.tokens[:position]).state_before(position) == state

    def offered(self) -> tuple[int, bool] | None:
        """What the device says of the next position, and whether it has decided that."""
        for position, state, tokens, kept in reversed(self.keeps):
            index = self.head - position
            is_here = 0 <= index < len(tokens) and self.has_before(position, state)
            if is_here and tuple(self.tokens[position:]) == tokens[:index]:
                return tokens[index], kept[index]
        return None


class PlainEngine:
    """Reads every text anew for every token."""

    def __init__(self, target: LanguageModel, *, run_ahead: int = 256, lacks: Feature = Feature.NONE) -> None:
        self.served = Served(
            vocab_size=target.vocab_size,
            vocab_fingerprint=target.vocab_fingerprint,
            context_length=1 << 20,
            numerics=target.numerics,
            lacks=lacks,
        )
        self.stats = EngineStats()
        self.pass_s = TICK_S
        self.kv_bytes = 0
        self.is_alive = True
        self.texts: dict[Text, None] = {}
        self.owners: list[str] = []
        self.num_hints = 0
        self.is_to_fail = False
        self._target = target
        self._run_ahead = run_ahead
        self._held: dict[str, float] = {}

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
        assert not request.demands & self.served.lacks, "nobody may ask for what is lacking"
        text = PlainText(request, prefix, owner, on_commit, on_failure)
        self.texts[text] = None
        self.owners.append(owner)
        return text

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        assert isinstance(text, PlainText)
        if text.tokens[: len(prefix)] != list(prefix):
            text.tokens = list(prefix)
            text.chances = [0.0] * len(prefix)
        text.known = len(prefix)
        text.may_go_on = True

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        self.num_hints += 1

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
        """It is never lenient."""
        assert Feature.KEEP not in self.served.lacks, "nobody may ask for what is lacking"
        assert isinstance(text, PlainText)
        text.keeps = [*text.keeps[-7:], (position, prefix_hash, tokens, kept)]
        text.may_go_on = may_go_on

    def overrule(self, text: Text, position: int, prefix_hash: int) -> bool:
        assert isinstance(text, PlainText)
        if not text.prompt_length <= position or not text.has_before(position, prefix_hash):
            return False
        del text.tokens[position:]
        text.disputed = {each for each in text.disputed if each < position}
        text.known = min(text.known, position)
        return True

    def wish_patience(self, text: Text, patience_s: float) -> None:
        """It never waits."""

    def hold(self, owner: str, until_s: float) -> None:
        self._held[owner] = until_s

    def acknowledge(self, text: Text, known: int) -> None:
        assert isinstance(text, PlainText)
        text.known = max(text.known, min(known, text.head))

    def close(self, text: Text) -> None:
        self.texts.pop(text, None)

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(TICK_S)
                for text in list(self.texts):
                    assert isinstance(text, PlainText)
                    self._step(text, asyncio.get_running_loop().time())
        finally:
            self.is_alive = False

    def _step(self, text: PlainText, now_s: float) -> None:
        if self.is_to_fail:
            self.close(text)
            text.on_failure(EngineError("lost its voice"))
        elif text.is_finished or self._held.get(text.owner, now_s) > now_s:
            return
        elif text.head - text.known < self._run_ahead:
            logits = self._target.forward([Feed(self._target.new_sequence(), text.tokens, 1)])
            own, offered = pick(logits[0], text.request.sampling, text.head), text.offered()
            if offered is None and not text.may_go_on:
                return
            is_kept = offered is not None and offered[1]
            if is_kept and offered is not None and offered[0] != own:
                text.disputed.add(text.head)
            text.tokens.append(offered[0] if is_kept and offered is not None else own)
            text.chances[text.head - 1 :] = [log_probability(logits[0], text.tokens[-1])]
            self.stats.num_committed += 1
            text.on_commit(Committed((text.tokens[-1],), 0))
