"""The edge: sessions of many devices over many links, decoded by one engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ..errors import CascadeError, EngineError, LinkClosed, WireError
from ..links.base import Link, Listener
from ..models.base import LanguageModel
from ..models.runner import Runner
from ..wire import (
    PROTOCOL_VERSION,
    Close,
    Codec,
    Error,
    ErrorCode,
    Hello,
    Hint,
    Keep,
    Limits,
    Message,
    Move,
    Open,
    Ping,
    Pong,
    Welcome,
)
from .accounts import Account, Accounts, QuotaOf
from .admission import ENGINE_IS_DEAD, LEAST_RETRY_S
from .books import Books
from .counters import Counters
from .engine import BatchEngine
from .health import Health, judge
from .interface import Engine
from .peer import Authenticator, Peer
from .quota import Quota
from .sessions import Sessions
from .settings import EdgeSettings
from .verify import Verdict, Verifier, VerifyRequest

__all__ = ["Authenticator", "EdgeServer"]

log = logging.getLogger(__name__)

LOOK_AFTER_LINKS_EVERY = 4
"""Times in each timeout that links and leases are looked after."""
LAST_WORDS_S = 0.1
"""At the end of a drain, for what is on its way out."""


class EdgeServer:
    """Serves devices: `async with EdgeServer.of(model, runner) as edge: edge.listen(listener)`.

    Leaving hangs up. `authenticate` judges the token in HELLO; `quota_of` gives single identities quotas of
    their own.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str = "edge",
        settings: EdgeSettings | None = None,
        authenticate: Authenticator | None = None,
        quota_of: QuotaOf | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or EdgeSettings()
        self.counters = Counters()
        self.engine = engine
        self.engine_ended = asyncio.Event()
        """Set when the engine has ended before us: nothing will be decoded here any more."""
        self._authenticate = authenticate
        self._codec = Codec(engine.served.vocab_size, self.settings.max_message_bytes)
        self._accounts = Accounts(self.settings.quota, quota_of, self.counters)
        self._books = Books(engine, self.settings, self.counters)
        self._sessions = Sessions(engine, self.settings, self._accounts, self.counters, self._books)
        self._verifier = Verifier(engine, self._books)
        self._peers: set[Peer] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_leaving = False
        self._was_entered = False

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        runner: Runner,
        *,
        name: str = "edge",
        settings: EdgeSettings | None = None,
        authenticate: Authenticator | None = None,
        quota_of: QuotaOf | None = None,
    ) -> EdgeServer:
        """A server with a batch engine of its own for this model."""
        engine = BatchEngine(model, runner, settings)
        return cls(engine, name=name, settings=settings, authenticate=authenticate, quota_of=quota_of)

    async def __aenter__(self) -> EdgeServer:
        if self._was_entered:
            raise CascadeError("this edge was entered before; make another one for another `async with`")
        self._was_entered = True
        self._spawn(self._run_engine(), name=f"{self.name}-engine")
        self._spawn(self._look_after(), name=f"{self.name}-leases")
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        self._is_leaving = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # For its operator

    @property
    def model_name(self) -> str:
        return self.engine.served.numerics

    @property
    def num_sessions(self) -> int:
        """Open sessions, finished ones included, tombstones not."""
        return sum(session.text is not None for session in self._sessions)

    @property
    def num_links(self) -> int:
        return len(self._peers)

    def health(self) -> Health:
        load, stalled_s = self._books.load(), self._sessions.stalled_s()
        return Health(
            state=judge(load, self.settings, stalled_s=stalled_s),
            num_links=self.num_links,
            num_sessions=load.num_running,
            num_waiting=load.num_waiting,
            oldest_wait_s=load.oldest_wait_s,
            stalled_s=stalled_s,
            step_s=self.engine.pass_s,
        )

    async def drain(self, within_s: float) -> bool:
        """Take nobody new and send everybody away; True when nothing was cut short by the deadline."""
        self._books.is_draining = True
        move = Move(edge="", deadline_ms=round(within_s * 1000))
        for peer in self._peers:
            if peer.account is not None:
                peer.tell(move)
        try:
            async with asyncio.timeout(within_s):
                await self._books.nothing_runs.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(LAST_WORDS_S)
        return True

    # For devices

    def listen(self, listener: Listener, *, authenticate: Authenticator | None = None) -> None:
        """Serve every device that dials this listener, beside those served already.

        `authenticate` stands for the server's own here: not every way in knows its devices already.
        """
        authenticate = authenticate or self._authenticate
        self._spawn(self._accept(listener, authenticate), name=f"{self.name}-accept")

    def serve(self, link: Link, *, authenticate: Authenticator | None = None) -> None:
        """Serve the device at the other end of a link that stands already: a pipe, a serial line."""
        self._spawn(self._serve(link, authenticate or self._authenticate), name=f"{self.name}-peer")

    async def verify(self, identity: str, request: VerifyRequest) -> Verdict:
        """Judge one draft, statelessly. Raises errors of ours that say what is wrong."""
        account = self._accounts.of(identity, asyncio.get_running_loop().time())
        return await self._verifier.verify(account, request)

    async def _accept(self, listener: Listener, authenticate: Authenticator | None) -> None:
        try:
            while True:
                self.serve(await listener.accept(), authenticate=authenticate)
        except LinkClosed:
            pass
        finally:
            await listener.close()

    async def _serve(self, link: Link, authenticate: Authenticator | None) -> None:
        peer = Peer(link, self._codec, self.counters, lambda: self.engine.pass_s, authenticate)
        self.counters.num_links += 1
        self._peers.add(peer)
        try:
            await peer.serve(self._handle)
        finally:
            self._peers.discard(peer)
            if peer.account is not None:
                peer.account.num_links -= 1
            self._sessions.on_gone(peer)

    def _handle(self, peer: Peer, data: bytes) -> None:
        try:
            message = self._codec.decode(data)
        except WireError as error:
            peer.complain(str(error))
            return
        if isinstance(message, Hello):
            self._on_hello(peer, message)
        elif peer.account is not None:
            self._on_message(peer, peer.account, message)
        # Before HELLO nothing counts: it was lost or overtaken, and the device says it again with its OPEN.

    def _on_message(self, peer: Peer, account: Account, message: Message) -> None:
        match message:
            case Hint() | Keep():
                self._sessions.on_hint(peer, account, message)
            case Open():
                self._sessions.on_open(peer, account, message)
            case Close():
                self._sessions.on_close(peer, message)
            case Ping():
                peer.mention(Pong(nonce=message.nonce))
            case _:
                peer.complain(f"{type(message).__name__} is not for an edge")

    def _on_hello(self, peer: Peer, hello: Hello) -> None:
        identity = peer.link.peer or hello.identity
        if peer.account is None:
            refusal = self._why_not_welcome(identity, hello, peer.authenticate)
            if refusal is not None:
                self.counters.refused[refusal.code.name.lower()] += 1
                peer.refuse(refusal)
                return
            peer.account = self._accounts.of(identity, asyncio.get_running_loop().time())
            peer.account.num_links += 1
        elif peer.account.identity != identity:
            text = "a link belongs to one identity; open another one"
            peer.refuse(Error(code=ErrorCode.UNAUTHORIZED, text=text))
            return
        peer.tell(self._welcome(peer.account.quota))

    def _why_not_welcome(
        self, identity: str, hello: Hello, authenticate: Authenticator | None
    ) -> Error | None:
        model = self.engine.served
        if hello.version != PROTOCOL_VERSION:
            text = f"this edge speaks version {PROTOCOL_VERSION} of the protocol, not {hello.version}"
            return Error(code=ErrorCode.VERSION, text=text)
        if authenticate is not None and not authenticate(identity, hello.token):
            return Error(code=ErrorCode.UNAUTHORIZED, text="unknown identity or wrong token")
        if hello.model and hello.model != model.numerics:
            text = f"this edge serves {model.numerics!r}, not {hello.model!r}"
            return Error(code=ErrorCode.MODEL, text=text)
        is_same = (hello.vocab_fingerprint, hello.vocab_size) == (model.vocab_fingerprint, model.vocab_size)
        if hello.vocab_fingerprint and not is_same:
            text = "the draft's vocabulary is not the target's; use a draft made for this target"
            return Error(code=ErrorCode.VOCABULARY, text=text)
        retry_ms = round(LEAST_RETRY_S * 1000)
        if self._books.is_draining:
            text = "this edge is going down; try another edge"
            return Error(code=ErrorCode.DRAINING, text=text, retry_after_ms=retry_ms)
        num_links = sum(peer.account is not None for peer in self._peers)
        if num_links >= self.settings.max_links:
            text = f"{num_links} links are all that this edge takes"
            return Error(code=ErrorCode.OVERLOADED, text=text, retry_after_ms=retry_ms)
        account = self._accounts.of(identity, asyncio.get_running_loop().time())
        if account.num_links >= account.quota.max_links:
            text = f"your {account.num_links} links are all that one identity may have"
            account.usage.num_refused += 1
            return Error(code=ErrorCode.LIMIT, text=text, retry_after_ms=retry_ms)
        return None

    def _welcome(self, quota: Quota) -> Welcome:
        model, settings = self.engine.served, self.settings
        return Welcome(
            version=PROTOCOL_VERSION,
            edge=self.name,
            model=model.numerics,
            vocab_fingerprint=model.vocab_fingerprint,
            vocab_size=model.vocab_size,
            numerics=model.numerics,
            limits=Limits(
                max_sessions=min(settings.max_sessions, quota.max_sessions),
                run_ahead=settings.run_ahead,
                context_length=model.context_length,
                max_message_bytes=settings.max_message_bytes,
            ),
            lacks=model.lacks,
        )

    # What goes on by itself

    async def _run_engine(self) -> None:
        """The engine ends with us; if it ends before, every device is told."""
        try:
            await self.engine.run()
        finally:
            if not self._is_leaving:
                self._sessions.fail_all(EngineError(ENGINE_IS_DEAD))
                self.engine_ended.set()

    async def _look_after(self) -> None:
        """End leases, hang up on links that only sit there, forget who is gone."""
        settings = self.settings
        loop = asyncio.get_running_loop()
        shortest_s = min(settings.lease_s, settings.hello_timeout_s, settings.send_timeout_s)
        while True:
            await asyncio.sleep(shortest_s / LOOK_AFTER_LINKS_EVERY)
            now_s = loop.time()
            self._sessions.end_leases(now_s)
            self._accounts.forget_idle(now_s)
            for peer in tuple(self._peers):
                reason = peer.why_cut(now_s, settings)
                if reason is not None:
                    self.counters.cut[reason] += 1
                    log.info("hanging up on a link of %s: %s", peer.identity or "nobody", reason)
                    self._spawn(peer.link.close(), name=f"{self.name}-cut")

    def _spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """None of our tasks ends by an error of its own: one that does is a bug, and must be seen."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed: %r", task.get_name(), task.exception(), exc_info=task.exception())
