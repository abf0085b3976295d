"""The device: what an app holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..decoding import Sampling
from ..errors import CascadeError, SettingsError
from ..links.base import Dialer
from ..measure import LinkEstimator
from ..models.base import LanguageModel
from ..models.runner import Runner
from ..settings import check_int
from ..wire import PROTOCOL_VERSION, Hello
from .connection import Connection, ReconnectSettings
from .drafter import Drafter
from .outbox import StreamRequest
from .policy import Policy
from .stream import Stream

__all__ = ["Device", "Vocabulary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Which token ids mean which text, for a device that has no draft model to say it."""

    size: int
    fingerprint: str


class Device:
    """Streams answers from an edge, drafting ahead where it has a model to draft with.

    `async with Device(...) as device: async for token in device.stream(prompt_ids, max_new_tokens=64): ...`
    Not reentrant: one `async with` per device.
    """

    def __init__(
        self,
        edges: Sequence[Dialer],
        *,
        draft: LanguageModel | None = None,
        runner: Runner | None = None,
        vocabulary: Vocabulary | None = None,
        identity: str = "device",
        token: str = "",
        model: str = "",
        reconnect: ReconnectSettings | None = None,
        seed: int | None = None,
    ) -> None:
        if not edges:
            raise SettingsError("edges", "name at least one edge to dial")
        if (draft is None) != (runner is None):
            raise SettingsError("runner", "a draft model needs a runner, and a runner a draft model")
        if draft is not None:
            vocabulary = Vocabulary(size=draft.vocab_size, fingerprint=draft.vocab_fingerprint)
        elif vocabulary is None:
            raise SettingsError("vocabulary", "a device without a draft model must say its vocabulary")
        hello = Hello(
            version=PROTOCOL_VERSION,
            identity=identity,
            token=token,
            model=model,
            vocab_fingerprint=vocabulary.fingerprint,
            vocab_size=vocabulary.size,
        )
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)
        self._connection = Connection(
            edges, hello, settings=reconnect or ReconnectSettings(), random_source=self._random
        )
        self._draft = draft
        self._runner = runner
        self._vocab_size = vocabulary.size
        self._link = LinkEstimator()
        self._generation = 0
        self._task: asyncio.Task[None] | None = None
        self._streams: list[Stream] = []
        """Those that may still have a draft step running."""

    async def __aenter__(self) -> Device:
        self._task = asyncio.create_task(self._connection.run(), name="device-connection")
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        for stream in self._streams:
            stream.cancel()
        await asyncio.sleep(0)  # one turn of the loop, in which the edge is told
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await asyncio.gather(*(stream.join() for stream in self._streams))
        self._streams.clear()
        if self._runner is not None:
            self._runner.close()

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        stop_ids: frozenset[int] = frozenset(),
        policy: Policy | None = None,
    ) -> Stream:
        """Begin an answer to these token ids; iterate over what comes back."""
        if self._task is None:
            raise CascadeError("the device is not running; use it inside `async with`")
        check_int("max_new_tokens", max_new_tokens, low=1)
        if not prompt:
            raise SettingsError("prompt", "is empty; give at least one token")
        for token in prompt:
            check_int("prompt", token, low=0, high=self._vocab_size - 1)
        alias = self._connection.free_alias()
        if alias is None:
            raise SettingsError("stream", "256 streams are open on this device; wait for one to end")
        if policy is None:
            policy = Policy.cloud() if self._draft is None else Policy.hint_driven()
        if policy.window and self._draft is None:
            raise SettingsError("policy", "this device has no draft model; use Policy.cloud()")
        sampling = sampling or Sampling()
        stream = Stream(
            StreamRequest(
                prompt=tuple(prompt),
                max_new_tokens=max_new_tokens,
                sampling=sampling,
                stop_ids=stop_ids,
                policy=policy,
            ),
            session_id=self._random.randbytes(8),
            alias=alias,
            link=self._link,
            drafter=Drafter(self._draft, sampling) if policy.window and self._draft else None,
            runner=self._runner,
            next_generation=self._next_generation,
            notify=self._connection.notify,
        )
        self._connection.add(stream)
        self._streams = [other for other in self._streams if not other.is_settled]
        self._streams.append(stream)
        return stream

    def _next_generation(self) -> int:
        self._generation += 1
        return self._generation
