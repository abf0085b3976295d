"""The gateway at work: questions in, answers out, whatever comes and goes around it.

Three things may be away, each by itself: the broker (it comes back to it), the edge (questions wait, on disk
too), and the gateway (the broker says so; what it had not answered it answers when it is back).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiomqtt

from ...device import Device
from ...errors import CascadeError, LinkClosed, LinkError, LinkUnavailable, RefusedError, SettingsError
from ...links.inbox import Inbox
from ...links.mqtt_client import Account, Arrival, BrokerClient, MqttSettings
from ...links.mqtt_frames import check_name
from . import replies, topics
from .answering import ask
from .discovery import discovery
from .questions import WHEN_AWAY, BadQuestion, Question, read_question
from .settings import GatewaySettings
from .shelf import Shelf
from .turns import Turns

__all__ = ["MqttGateway"]

log = logging.getLogger(__name__)

ONLINE, OFFLINE = "online", "offline"
MAX_ARRIVALS = 1024
"""Messages that wait to be read; more are dropped, and counted."""
TELL_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    """On the shelf."""
    question: Question


class MqttGateway:
    """`async with MqttGateway(url, "gateway-1", open_device) as gateway:` answers what is asked.

    `open_device` makes a device that was not entered yet; it may be asked again where the device did not
    find an edge. `queue` is a folder for questions that are not answered yet.
    """

    def __init__(
        self,
        url: str,
        name: str,
        open_device: Callable[[], AbstractAsyncContextManager[Device]],
        *,
        settings: GatewaySettings | None = None,
        mqtt: MqttSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
        queue: Path | None = None,
        discovery_prefix: str = "",
    ) -> None:
        """With a `discovery_prefix` (usually homeassistant) Home Assistant is told about it."""
        self.name = check_name("name", name)
        self.num_asked = 0
        self.num_answered = 0
        self.num_refused = 0
        """Messages that were no questions, or one too many, or that the edge did not want."""
        self.num_dropped = 0
        """Messages that nobody had time to read."""
        self.is_edge_away = False
        """A question has waited for its first token for longer than our patience, and none came since."""
        self._settings = settings or GatewaySettings()
        self._account = Account.from_url(
            url, username=None, password=None, ssl_context=ssl_context, settings=mqtt
        )
        self._open_device = open_device
        self._discovery_prefix = discovery_prefix
        self._arrivals: Inbox[Arrival] = Inbox(MAX_ARRIVALS)
        self._turns: dict[str, Turns[_Waiting]] = {
            when_away: Turns(max_each=self._settings.max_waiting_each, max_all=self._settings.max_waiting)
            for when_away in WHEN_AWAY
        }
        """Those whom the draft may answer do not stand behind those who wait for the edge."""
        self._shelf = Shelf(queue)
        self._client: BrokerClient | None = None
        self._is_connected = asyncio.Event()
        self._device: Device | None = None
        self._has_device = asyncio.Event()
        self._failure: CascadeError | None = None
        self._has_failed = asyncio.Event()
        self._last: dict[str, float | None] = {"first_token_ms": None, "rtt_ms": None}
        self._random = random.SystemRandom()
        self._stack = AsyncExitStack()

    async def failed(self) -> None:
        """Wait until there is no use in going on, and raise why. What was not answered stays on disk."""
        await self._has_failed.wait()
        assert self._failure is not None
        raise self._failure

    @property
    def url(self) -> str:
        """Of the broker, without account."""
        return self._account.url

    @property
    def num_waiting(self) -> int:
        return sum(len(turns) for turns in self._turns.values())

    async def __aenter__(self) -> MqttGateway:
        """Raises where the broker cannot be reached, or the folder not be used; an edge may come later."""
        async with AsyncExitStack() as stack:
            for number, question in await self._shelf.load():
                if not await self._put(_Waiting(number, question)):
                    log.warning("more questions were left than may wait; the last ones stay on disk")
                    break
            client = await self._connect()
            self._run(stack, self._stay(client), "gateway-broker")
            self._run(stack, self._keep_device(), "gateway-device")
            self._run(stack, self._read(), "gateway-read")
            self._run(stack, self._keep_telling(), "gateway-state")
            for turns in self._turns.values():
                for _ in range(self._settings.num_at_once):
                    self._run(stack, self._work(turns), "gateway-answer")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        client = self._client
        if client is not None:
            try:
                async with asyncio.timeout(1.0):
                    await client.publish(topics.gateway_status(self.name), OFFLINE, qos=1, is_retained=True)
            except (LinkClosed, TimeoutError):
                pass  # the broker says it for us
        await self._stack.__aexit__(kind, error, trace)

    def _run(self, stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, Exception):
                log.error("%s failed: %r", name, result, exc_info=result)

        stack.push_async_callback(end)

    # The broker

    async def _connect(self) -> BrokerClient:
        state = topics.gateway_status(self.name)
        client = await self._account.connect(will=aiomqtt.Will(state, OFFLINE, 1, True))
        try:
            await client.subscribe([topics.asks(self.name)])
            if self._discovery_prefix:
                for topic, payload in discovery(self.name, self._discovery_prefix).items():
                    await client.publish(topic, payload, qos=1, is_retained=True)
            await client.publish(state, ONLINE, qos=1, is_retained=True)
        except BaseException:
            await client.close()
            raise
        return client

    async def _stay(self, client: BrokerClient) -> None:
        while True:
            self._client = client
            self._is_connected.set()
            try:
                await client.pump(self._on_message)
            finally:
                self._client = None
                self._is_connected.clear()
                await client.close()
            log.warning("gateway %s lost the broker at %s; it tries to come back", self.name, self.url)
            client = await self._come_back()

    async def _come_back(self) -> BrokerClient:
        mqtt = self._account.settings
        attempt = 0
        while True:
            attempt += 1
            await asyncio.sleep(self._random.uniform(0, mqtt.backoff_s(attempt)))
            try:
                return await self._connect()
            except (LinkError, RefusedError) as error:
                log.warning("gateway %s: %s", self.name, error)

    def _on_message(self, arrival: Arrival) -> None:
        """A retained question would be asked again each time that we come: it is not for us."""
        if not arrival.is_retained and not self._arrivals.offer(arrival):
            self.num_dropped += 1

    async def _say(self, topic: str, text: str, *, is_retained: bool = False) -> None:
        """At QoS 1, over the next connection if this one is gone: an answer is not lost with a broker."""
        while True:
            await self._is_connected.wait()
            client = self._client
            if client is None:
                continue
            try:
                await client.publish(topic, text, qos=1, is_retained=is_retained)
                return
            except LinkClosed:
                await asyncio.sleep(self._account.settings.backoff_first_s)

    def _say_piece(self, question: Question, text: str) -> None:
        """At QoS 0, now or never: the whole answer follows."""
        if self._client is not None:
            self._client.post(topics.pieces(self.name, question.thing), text.encode())

    # The edge

    async def _keep_device(self) -> None:
        """A device that has to ask an edge for its vocabulary cannot be entered before there is one."""
        while True:
            try:
                async with self._open_device() as device:
                    self._device = device
                    self._has_device.set()
                    await asyncio.Event().wait()
            except LinkUnavailable as error:
                self.is_edge_away = True
                log.warning("gateway %s: %s", self.name, error)
            except CascadeError as error:  # a draft that cannot be loaded, say
                self._failure = error
                self._has_failed.set()
                return
            finally:
                self._device = None
                self._has_device.clear()
            await asyncio.sleep(self._random.uniform(0, self._account.settings.backoff_ceiling_s))

    # Questions

    async def _read(self) -> None:
        while True:
            arrival = await self._arrivals.get()
            thing = topics.thing_of(arrival.topic)
            try:
                check_name("thing", thing)
                question = read_question(thing, arrival.payload, self._settings)
            except BadQuestion as error:
                await self._refuse(thing, str(error), error.transaction)
                continue
            except SettingsError:
                continue  # a name to which nothing can be said
            if not self._turns[question.when_away].has_room(thing):
                text = f"too many questions wait ({self.num_waiting}); ask again later"
                await self._refuse(thing, text, question.transaction)
                continue
            number = await self._shelf.keep(question)
            await self._put(_Waiting(number, question))
            self.num_asked += 1
            if self.is_edge_away and question.when_away == "wait":
                await self._say_wait(question)

    async def _put(self, waiting: _Waiting) -> bool:
        question = waiting.question
        return await self._turns[question.when_away].put(question.thing, waiting)

    async def _refuse(self, thing: str, why: str, transaction: str | int | None) -> None:
        self.num_refused += 1
        await self._say(topics.answer(self.name, thing), replies.refused(why, transaction))

    async def _say_wait(self, question: Question) -> None:
        text = replies.waits("the edge is away or busy; the answer comes later", question.transaction)
        await self._say(topics.answer(self.name, question.thing), text)

    async def _work(self, turns: Turns[_Waiting]) -> None:
        """One of those who answer."""
        while True:
            waiting = await turns.take()
            question = waiting.question
            topic = topics.answer(self.name, question.thing)
            try:
                reply = await self._reply(question)
            except CascadeError as error:
                await self._refuse(question.thing, str(error), question.transaction)
            except Exception as error:  # a bug: it must not cost the other questions their answers
                log.error("a question failed: %s", type(error).__name__)  # its words may be the question's
                await self._refuse(question.thing, "the gateway failed at it", question.transaction)
            else:
                self.num_answered += 1
                await self._say(topic, reply, is_retained=question.is_retained)
            await self._shelf.drop(waiting.number)

    async def _reply(self, question: Question) -> str:
        async with AsyncExitStack() as notices:
            return await self._reply_or_wait(question, notices)

    async def _reply_or_wait(self, question: Question, notices: AsyncExitStack) -> str:
        async def on_wait() -> None:
            was_known, self.is_edge_away = self.is_edge_away, True
            if not was_known:  # otherwise the thing was told when it asked
                # Beside the answer: the broker may be away, too, and the answer need not wait for it.
                notice = asyncio.create_task(self._say_wait(question), name="gateway-notice")
                notices.push_async_callback(_end, notice)

        device = await self._device_or_wait(on_wait)
        answer, by = await ask(
            device,
            question,
            patience_s=self._settings.patience_s,
            piece_s=self._settings.piece_s,
            on_wait=on_wait,
            on_piece=self._say_piece,
        )
        if by == "edge":
            self.is_edge_away = False
            rtt_s = answer.summary.rtt_s
            self._last = {
                "first_token_ms": round(1000 * answer.summary.time_to_first_token_s, 1),
                "rtt_ms": None if rtt_s is None else round(1000 * rtt_s, 1),
            }
        return replies.answered(answer, by=by, transaction=question.transaction)

    async def _device_or_wait(self, on_wait: Callable[[], Coroutine[Any, Any, None]]) -> Device:
        try:
            async with asyncio.timeout(self._settings.patience_s):
                await self._has_device.wait()
        except TimeoutError:
            await on_wait()
        while self._device is None:
            await self._has_device.wait()
        return self._device

    # State

    async def _keep_telling(self) -> None:
        told = ""
        connection: BrokerClient | None = None
        while True:
            await self._is_connected.wait()
            text = json.dumps(self._state())
            if text != told or self._client is not connection:
                connection = self._client
                await self._say(topics.gateway_state(self.name), text, is_retained=True)
                told = text
            await asyncio.sleep(TELL_EVERY_S)

    def _state(self) -> dict[str, Any]:
        return {
            "edge": "away" if self.is_edge_away else "online",
            "waiting": self.num_waiting,
            "answered": self.num_answered,
            "refused": self.num_refused,
            **self._last,
        }


async def _end(notice: asyncio.Task[None]) -> None:
    """With the answer at hand nobody needs to hear that it is late."""
    notice.cancel()
    await asyncio.gather(notice, return_exceptions=True)
