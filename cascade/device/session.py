"""What a device is between entering and leaving it: a connection, a drafter, and streams that share them."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import weakref
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from ..errors import SettingsError
from ..links.base import Dialer
from ..measure import Knowledge
from ..models.suffix import SuffixDraft
from ..prices import Prices
from ..wire import Feature, Hello
from .answer_text import AnswerText
from .answering import AnswerStream
from .audit import Auditor
from .cascade_stream import CascadeStream
from .connection import Connection
from .drafter import Drafter, DraftMemory
from .equipment import Equipment
from .escalation import Escalation
from .ledger import Ledger
from .offline_stream import OfflineStream
from .options import StreamSettings
from .outbox import StreamRequest
from .policy import Policy
from .private import AloneStream, PrivateStream
from .prompts import Prompt, prompt_ids
from .roster import MAX_STREAMS
from .route import ReconnectSettings
from .routed import Prober, RoutedStream
from .router import Route, Router
from .stream import Stream

__all__ = ["DeviceSession"]

MAX_SEED = 2**32 - 1
"""Of seeds that a device draws itself: 32 bits are enough, and shorter on the wire than 64."""


class DeviceSession:
    """All streams share one link, what is known of it, and one drafter, whose steps they take in turn."""

    def __init__(
        self,
        edges: Sequence[Dialer],
        hello: Hello,
        equipment: Equipment,
        reconnect: ReconnectSettings,
        random_source: random.Random,
        knowledge: Knowledge,
        ledger: Ledger,
    ) -> None:
        self.ledger = ledger
        self.connection = Connection(edges, hello, settings=reconnect, random_source=random_source)
        self.equipment = equipment
        self._vocab_size = hello.vocab_size
        self._random = random_source
        self._knowledge = knowledge
        self.router = Router(knowledge)
        self._generation = 0
        self._auditor = Auditor(
            self.connection,
            knowledge=knowledge,
            next_generation=self._next_generation,
            new_session_id=self._new_session_id,
        )
        self._task: asyncio.Task[None] | None = None
        self._streams: weakref.WeakSet[AnswerStream] = weakref.WeakSet()
        """Those in use: by an app, by the connection, or by a draft step that is running."""
        self.memories: weakref.WeakSet[DraftMemory] = weakref.WeakSet()

    async def start(self, timeout_s: float) -> None:
        """Begin to dial. What the device cannot know by itself, it waits for."""
        await self.ledger.open()
        self._task = asyncio.create_task(self.connection.run(), name="device-connection")
        if not self._vocab_size:
            welcome = await self.connection.learn(timeout_s)
            self.equipment = self.equipment.with_vocabulary(welcome.vocab_size, welcome.vocab_fingerprint)
            self._vocab_size = welcome.vocab_size

    async def stop(self) -> None:
        """Who is cancelled in here leaves nothing behind either: what comes later is done all the same."""
        self._auditor.close()
        streams = tuple(self._streams)
        for stream in streams:
            stream.cancel()
        async with AsyncExitStack() as later:  # the last first
            later.push_async_callback(self.ledger.close)
            later.callback(self._give_back)
            for stream in streams:
                later.push_async_callback(stream.join)
            later.push_async_callback(self._hang_up)
            await self.connection.say_goodbye()

    async def _hang_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _give_back(self) -> None:
        for memory in tuple(self.memories):
            memory.close()
        if self.equipment.runner is not None:
            self.equipment.runner.close()

    def begin(
        self, prompt: Prompt, settings: StreamSettings, *, private: bool, memory: DraftMemory | None = None
    ) -> AnswerStream:
        """A stream that runs from now on. `memory` keeps the draft's cache from one text to the next."""
        ids = prompt_ids(prompt, self.equipment.tokenizer, self._vocab_size)
        request = self._request(ids, settings)
        text = AnswerText(self.equipment.tokenizer, prompt=ids, stops=settings.stops)
        if private and settings.route is not None:
            raise SettingsError("route", "a private stream stays on the device; leave the route out")
        if private:
            stream: AnswerStream = self._private(request, text, memory)
        elif settings.route is not None:
            stream = self._routed(request, text, memory, settings)
        else:
            stream = self._served(request, text, memory, settings)
        self._streams.add(stream)
        return stream

    def _request(self, prompt: tuple[int, ...], settings: StreamSettings) -> StreamRequest:
        equipment = self.equipment
        if settings.stops and equipment.tokenizer is None:
            raise SettingsError("stop", "this device has no tokenizer to find texts with; use stop_ids")
        policy = settings.policy
        if policy is None:
            policy = Policy.cloud() if equipment.model is None else Policy.adaptive()
        if settings.route is None and settings.quality < 1 and (equipment.model is None or not policy.window):
            raise SettingsError(
                "quality", "tokens are kept from a draft, and this stream has none; use quality=1"
            )
        can_go_on = not isinstance(equipment.model, SuffixDraft | None) and policy.window
        if settings.on_disconnect == "continue" and not can_go_on:
            raise SettingsError(
                "on_disconnect", "only a draft model can go on alone, and this stream has none; wait"
            )
        if policy.window and equipment.model is None:
            raise SettingsError("policy", "this device has no draft model; use Policy.cloud()")
        return StreamRequest(
            prompt=prompt,
            max_new_tokens=settings.max_new_tokens,
            sampling=settings.sampling(self._random.randint(0, MAX_SEED)),
            stop_ids=equipment.eos_ids if settings.stop_ids is None else frozenset(settings.stop_ids),
            policy=policy,
            wants_logprobs=settings.logprobs,
            takes_any_noise=settings.any_noise,
        )

    def _served(
        self, request: StreamRequest, text: AnswerText, memory: DraftMemory | None, settings: StreamSettings
    ) -> Stream:
        alias = self.connection.free_alias()
        if alias is None:
            raise SettingsError(
                "stream", f"{MAX_STREAMS} streams are open on this device; wait for one to end"
            )
        model = self.equipment.model if request.policy.window else None
        kind, options = self._kind(settings, request.policy)
        stream = kind(
            request,
            session_id=self._new_session_id(),
            alias=alias,
            knowledge=self._knowledge,
            drafter=None if model is None else Drafter(model, request.sampling, memory),
            runner=self.equipment.runner,
            text=text,
            next_generation=self._next_generation,
            notify=self.connection.notify,
            **options,
        )
        self.connection.add(stream)
        return stream

    def _kind(self, settings: StreamSettings, policy: Policy) -> tuple[type[Stream], dict[str, Any]]:
        """Of streams, and what this kind wants to know beside."""
        if settings.quality == 1 and settings.on_disconnect == "wait":
            return Stream, {"credit": self.ledger.note_lossless}
        if self.ledger.problem and not (settings.quality == 1 and settings.revisions):
            reason = f"{self.ledger.problem}; name another file, or ask for quality=1 and wait for the edge"
            raise SettingsError("ledger", reason)
        options: dict[str, Any] = {
            "book": self.ledger.book(settings.quality),
            "escalation": Escalation(
                settings.quality,
                fixed_threshold=settings.threshold,
                disputed_s=(policy.prices or Prices()).disputed_s,
            ),
            "audit": self._auditor.take,
            "alpha": settings.alpha,
        }
        if settings.on_disconnect == "wait":
            return CascadeStream, options
        options |= {
            "lifeline": self.connection,
            "offline_after_s": settings.offline_after_s,
            "can_revise": settings.revisions,
        }
        return OfflineStream, options

    def _routed(
        self, request: StreamRequest, text: AnswerText, memory: DraftMemory | None, settings: StreamSettings
    ) -> RoutedStream:
        """What the draft reads before the way is chosen is kept for the answer."""
        model, runner = self.equipment.model, self.equipment.runner
        book = self.ledger.book(settings.quality)
        reading = DraftMemory() if memory is None else memory
        self.memories.add(reading)

        def take(way: Route) -> AnswerStream:
            if way is Route.DEVICE:
                assert model is not None
                assert runner is not None
                drafter = Drafter(model, request.sampling, reading)
                return AloneStream(request, drafter=drafter, runner=runner, text=text, book=book)
            policy = Policy.cloud() if way is Route.CLOUD else request.policy
            quality = settings.quality if way is Route.CASCADE else 1.0
            its_settings = dataclasses.replace(settings, quality=quality)
            return self._served(dataclasses.replace(request, policy=policy), text, reading, its_settings)

        return RoutedStream(
            request,
            text,
            quality=settings.quality,
            ways=self._ways(settings),
            router=self.router,
            knowledge=self._knowledge,
            book=book,
            is_edge_there=lambda: not self.connection.problem,
            take=take,
            prober=None if model is None or runner is None else Prober(model, runner, reading),
            memory=None if memory is not None else reading,
            can_revise=settings.revisions,
        )

    def _ways(self, settings: StreamSettings) -> list[Route]:
        """Those that this device has."""
        model = self.equipment.model
        ways = [Route.CLOUD] if settings.on_disconnect == "wait" else []  # without an edge a draft goes on
        if model is not None:
            ways.append(Route.LOSSLESS)
            if settings.quality < 1 and not self.ledger.problem:
                ways += [] if Feature.KEEP in self.connection.lacks else [Route.CASCADE]
                ways += [] if isinstance(model, SuffixDraft) else [Route.DEVICE]
        if settings.route in (None, "auto"):
            return ways
        wanted = Route(settings.route)
        if wanted not in ways:
            there = ", ".join(way.value for way in ways)
            reason = f"{wanted.value!r} is no way for this device and this quality; there are {there}"
            raise SettingsError(
                "route", reason + (f" ({self.ledger.problem})" if self.ledger.problem else "")
            )
        return [wanted]

    def _private(self, request: StreamRequest, text: AnswerText, memory: DraftMemory | None) -> PrivateStream:
        if request.wants_logprobs:
            raise SettingsError("logprobs", "are the target's, and a private stream does not ask it")
        model, runner = self.equipment.model, self.equipment.runner
        if model is None or runner is None or isinstance(model, SuffixDraft):
            raise SettingsError(
                "private", "needs a draft model that can answer by itself; this device has none"
            )
        drafter = Drafter(model, request.sampling, memory)
        return PrivateStream(request, drafter=drafter, runner=runner, text=text)

    def _new_session_id(self) -> bytes:
        return self._random.randbytes(8)

    def _next_generation(self) -> int:
        self._generation += 1
        return self._generation
