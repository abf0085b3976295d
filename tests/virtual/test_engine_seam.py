"""Another engine behind the same server: nothing above the interface may know the batch engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cascade.device import Policy
from cascade.edge import EdgeServer, EngineStats, Text
from cascade.edge.interface import Committed, DecodeRequest, Served
from cascade.errors import EngineError, RefusedError
from cascade.testing import MemoryListener, SyntheticTarget

from ..helpers import in_virtual_time
from .peers import PROMPT, VOCAB_SIZE, ask, device_for, greedy

TARGET = SyntheticTarget(vocab_size=VOCAB_SIZE)
ANSWER = greedy(TARGET, PROMPT, 60)


class SpokenText:
    """A text of which somebody else decides every token."""

    def __init__(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> None:
        self.tokens = list(prefix)
        self.known = len(prefix)
        self.queue_s = 0.0
        self.prompt_length = len(request.prompt)
        self.length_limit = request.length_limit
        self.on_commit = on_commit
        self.on_failure = on_failure

    @property
    def head(self) -> int:
        return len(self.tokens)

    @property
    def is_finished(self) -> bool:
        return self.head >= self.length_limit

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        return self.tokens[start:][:limit]


class PlainEngine:
    """The least that an engine can be: a token a text and tick, hints not so much as looked at."""

    def __init__(self) -> None:
        self.served = Served(
            vocab_size=VOCAB_SIZE,
            vocab_fingerprint=TARGET.vocab_fingerprint,
            context_length=1 << 20,
            numerics=TARGET.numerics,
        )
        self.stats = EngineStats()
        self.pass_s = 0.01
        self.kv_bytes = 0
        self.is_alive = True
        self.texts: dict[Text, None] = {}
        self.owners: list[str] = []
        self.num_hints = 0
        self.num_acknowledged = 0
        self.is_to_fail = False

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
        text = SpokenText(request, prefix, on_commit, on_failure)
        self.texts[text] = None
        self.owners.append(owner)
        return text

    def resume(self, text: Text, prefix: tuple[int, ...], *, patience_s: float) -> None:
        """The device cannot have more than it was given here."""

    def hint(self, text: Text, position: int, prefix_hash: int, tokens: tuple[int, ...]) -> None:
        self.num_hints += 1

    def wish_patience(self, text: Text, patience_s: float) -> None:
        """It never waits."""

    def hold(self, owner: str, until_s: float) -> None:
        """Nobody here has a rate."""

    def acknowledge(self, text: Text, known: int) -> None:
        self.num_acknowledged += 1

    def close(self, text: Text) -> None:
        self.texts.pop(text, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.pass_s)
            for text in list(self.texts):
                assert isinstance(text, SpokenText)
                if self.is_to_fail:
                    text.on_failure(EngineError("lost its voice"))
                elif not text.is_finished:
                    token = greedy(TARGET, text.tokens, 1)
                    text.tokens += token
                    text.on_commit(Committed(tuple(token), 0))


@pytest.mark.parametrize("policy", [Policy.cloud(), Policy.hint_driven(), Policy.ask_and_wait(4)])
@in_virtual_time
async def test_devices_do_not_see_which_engine_serves_them(policy: Policy) -> None:
    listener = MemoryListener()
    engine = PlainEngine()
    async with EdgeServer(engine) as edge, device_for(listener.dial) as device:
        edge.listen(listener)
        assert await ask(device, 60, policy=policy) == ANSWER
        assert engine.owners == ["device"], "as its link says"
        assert (engine.num_hints > 0) == (policy.window > 0)
        await asyncio.sleep(1)
        assert not engine.texts, "closed"
        engine.is_to_fail = True
        with pytest.raises(RefusedError, match="lost its voice") as refused:
            await ask(device, 60, policy=policy)
        assert refused.value.code == "internal"
