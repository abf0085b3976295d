"""The edge: sessions of many devices over many links, decoded by one engine."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from ..decoding import Sampling
from ..errors import CascadeError, EngineError, LinkClosed, MemoryExceeded, SettingsError, WireError
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
    Limits,
    Message,
    Open,
    Ping,
    Pong,
    Welcome,
)
from .engine import BatchEngine
from .interface import Committed, DecodeRequest, Engine
from .peer import Peer
from .session import Session, SessionKey
from .settings import EdgeSettings

__all__ = ["Authenticator", "EdgeServer"]

TOMBSTONES_PER_SESSION = 4
"""Sessions remembered, tombstones included, for each that may be open."""

ENGINE_IS_DEAD = "the engine is dead; nothing is decoded here until its operator has started it again"

log = logging.getLogger(__name__)

Authenticator = Callable[[str, str], bool]
"""(identity, token) -> may this device come in?"""


class EdgeServer:
    """Serves devices: `async with EdgeServer.of(model, runner) as edge: edge.listen(listener)`.

    Leaving hangs up.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str = "edge",
        settings: EdgeSettings | None = None,
        authenticate: Authenticator | None = None,
    ) -> None:
        self.name = name
        self.settings = settings or EdgeSettings()
        self.engine = engine
        self._authenticate = authenticate
        self._codec = Codec(engine.served.vocab_size, self.settings.max_message_bytes)
        self._sessions: dict[SessionKey, Session] = {}
        self._peers: dict[Session, Peer] = {}
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
    ) -> EdgeServer:
        """A server with a batch engine of its own for this model."""
        engine = BatchEngine(model, runner, settings)
        return cls(engine, name=name, settings=settings, authenticate=authenticate)

    async def __aenter__(self) -> EdgeServer:
        if self._was_entered:
            raise CascadeError("this edge was entered before; make another one for another `async with`")
        self._was_entered = True
        self._spawn(self._run_engine(), name=f"{self.name}-engine")
        self._spawn(self._end_leases(), name=f"{self.name}-leases")
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        self._is_leaving = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def num_sessions(self) -> int:
        """Open sessions, tombstones not counted."""
        return sum(session.text is not None for session in self._sessions.values())

    def listen(self, listener: Listener) -> None:
        """Serve every device that dials this listener, beside those served already."""
        self._spawn(self._accept(listener), name=f"{self.name}-accept")

    async def _run_engine(self) -> None:
        """The engine ends with us; if it ends before, every device is told."""
        try:
            await self.engine.run()
        finally:
            if not self._is_leaving:
                for session in tuple(self._sessions.values()):
                    if session.text is not None:
                        self._on_failure(session, EngineError(ENGINE_IS_DEAD))

    async def _accept(self, listener: Listener) -> None:
        try:
            while True:
                self._spawn(self._serve(await listener.accept()), name=f"{self.name}-peer")
        except LinkClosed:
            pass
        finally:
            await listener.close()

    async def _serve(self, link: Link) -> None:
        peer = Peer(link, self._codec, lambda: self.engine.pass_s)
        try:
            await peer.serve(self._handle)
        finally:
            for session in peer.sessions.values():
                if self._peers.get(session) is peer:
                    del self._peers[session]

    def _handle(self, peer: Peer, data: bytes) -> None:
        try:
            message = self._codec.decode(data)
        except WireError as error:
            peer.tell(Error(code=ErrorCode.BAD_MESSAGE, text=str(error)[:200]))
            return
        if isinstance(message, Hello):
            self._on_hello(peer, message)
        elif peer.identity is not None:
            self._on_message(peer, peer.identity, message)
        # Before HELLO nothing counts: it was lost or overtaken, and the device says it again with its OPEN.

    def _on_message(self, peer: Peer, identity: str, message: Message) -> None:
        match message:
            case Hint():
                self._on_hint(peer, message)
            case Open():
                self._on_open(peer, identity, message)
            case Close():
                self._on_close(peer, message)
            case Ping():
                peer.tell(Pong(nonce=message.nonce))
            case _:
                text = f"{type(message).__name__} is not for an edge"
                peer.tell(Error(code=ErrorCode.BAD_MESSAGE, text=text))

    def _on_hello(self, peer: Peer, hello: Hello) -> None:
        model = self.engine.served
        identity = peer.link.peer or hello.identity
        if hello.version != PROTOCOL_VERSION:
            text = f"this edge speaks version {PROTOCOL_VERSION} of the protocol, not {hello.version}"
            peer.refuse(Error(code=ErrorCode.VERSION, text=text))
        elif self._authenticate is not None and not self._authenticate(identity, hello.token):
            peer.refuse(Error(code=ErrorCode.UNAUTHORIZED, text="unknown identity or wrong token"))
        elif hello.model and hello.model != model.numerics:
            text = f"this edge serves {model.numerics!r}, not {hello.model!r}"
            peer.refuse(Error(code=ErrorCode.MODEL, text=text))
        elif hello.vocab_fingerprint and (
            hello.vocab_fingerprint != model.vocab_fingerprint or hello.vocab_size != model.vocab_size
        ):
            text = "the draft's vocabulary is not the target's; use a draft made for this target"
            peer.refuse(Error(code=ErrorCode.VOCABULARY, text=text))
        else:
            peer.identity = identity
            peer.tell(
                Welcome(
                    version=PROTOCOL_VERSION,
                    edge=self.name,
                    model=model.numerics,
                    vocab_fingerprint=model.vocab_fingerprint,
                    vocab_size=model.vocab_size,
                    numerics=model.numerics,
                    limits=Limits(
                        max_sessions=self.settings.max_sessions,
                        run_ahead=self.settings.run_ahead,
                        context_length=model.context_length,
                        max_message_bytes=self.settings.max_message_bytes,
                    ),
                )
            )

    def _on_open(self, peer: Peer, identity: str, message: Open) -> None:
        session = self._sessions.get((identity, message.session))
        owner = peer.sessions.get(message.alias)
        if any(known is not None and message.generation < known.generation for known in (session, owner)):
            return  # an older OPEN that was overtaken
        request, refusal = self._read_request(message)
        if request is None:
            self._refuse_open(peer, message, *refusal)
        elif not self.engine.is_alive:
            self._refuse_open(peer, message, ErrorCode.INTERNAL, ENGINE_IS_DEAD)
        elif session is None:
            self._open_new(peer, identity, message, request)
        elif session.was_closed:
            self._refuse_open(peer, message, ErrorCode.CLOSED, "this session was closed; choose a new id")
        elif not session.is_same_request(request):
            self._refuse_open(peer, message, ErrorCode.SETTINGS_DIFFER, "this session has other settings")
        elif message.generation > session.generation:
            self._start(session, peer, message, request)
        elif session.text is not None:
            session.repeat_answer()  # a duplicate, or our answer was lost
            peer.commit(session)

    def _open_new(self, peer: Peer, identity: str, message: Open, request: DecodeRequest) -> None:
        if self.num_sessions >= self.settings.max_sessions:
            self._refuse_open(peer, message, ErrorCode.OVERLOADED, "too many open sessions", 1000)
            return
        session = Session(
            (identity, message.session),
            alias=message.alias,
            generation=message.generation,
            request=request,
            now_s=asyncio.get_running_loop().time(),
        )
        self._bury_oldest()
        self._sessions[session.key] = session
        self._start(session, peer, message, request)

    def _read_request(self, message: Open) -> tuple[DecodeRequest | None, tuple[ErrorCode, str]]:
        """The part of an OPEN that decides the text, or why it is refused."""
        nothing = (ErrorCode.BAD_MESSAGE, "")
        if not 1 <= message.prompt_length <= len(message.tokens):
            return None, (ErrorCode.BAD_MESSAGE, "the prompt is empty, or longer than the tokens sent")
        context_length = self.engine.served.context_length
        if message.prompt_length >= context_length:
            text = f"a prompt of {message.prompt_length} tokens fills the context of {context_length}"
            return None, (ErrorCode.CONTEXT, text)
        try:
            sampling = Sampling(
                temperature=message.temperature,
                top_k=message.top_k,
                top_p=message.top_p,
                min_p=message.min_p,
                seed=message.seed,
            )
        except SettingsError as error:
            return None, (ErrorCode.BAD_MESSAGE, str(error))
        request = DecodeRequest(
            prompt=message.tokens[: message.prompt_length],
            sampling=sampling,
            stop_ids=frozenset(message.stop_ids),
            length_limit=min(message.prompt_length + message.max_new_tokens, context_length),
        )
        if len(message.tokens) > request.length_limit:
            return None, (ErrorCode.LIMIT, "more tokens sent than the session may have")
        return request, nothing

    def _start(self, session: Session, peer: Peer, message: Open, request: DecodeRequest) -> None:
        """Open the text at the engine, or resume it, and answer at once."""
        if session.text is None:
            text = self.engine.open(
                request,
                message.tokens,
                owner=session.identity,
                patience_s=message.patience_s,
                on_commit=lambda committed: self._on_commit(session, committed),
                on_failure=lambda error: self._on_failure(session, error),
            )
        else:
            text = session.text
            self.engine.resume(text, message.tokens, patience_s=message.patience_s)
        owner = peer.sessions.get(message.alias)
        if owner is not None and owner is not session:
            self._close(owner)  # the device gave the alias to a new session
        self._detach(session)
        session.alias = message.alias
        session.last_heard_s = asyncio.get_running_loop().time()
        session.attach(text, len(message.tokens), message.generation)
        peer.sessions[session.alias] = session
        self._peers[session] = peer
        peer.commit(session)

    def _detach(self, session: Session) -> None:
        """It is not this link's any more, if it was anybody's."""
        peer = self._peers.pop(session, None)
        if peer is not None:
            peer.forget(session)

    def _on_hint(self, peer: Peer, hint: Hint) -> None:
        session = peer.sessions.get(hint.alias)
        is_asleep = session is not None and session.text is None and not session.was_closed
        if session is None or is_asleep or hint.generation > session.generation:
            # We restarted, its lease ended, or the OPEN was lost: the device opens again with all its tokens.
            if peer.may_say_unknown(hint.alias, hint.generation, asyncio.get_running_loop().time()):
                peer.tell(
                    Error(
                        code=ErrorCode.UNKNOWN_SESSION,
                        text="open it again",
                        alias=hint.alias,
                        generation=hint.generation,
                    )
                )
            return
        text = session.text
        if text is None or hint.generation < session.generation:
            return
        now_s = asyncio.get_running_loop().time()
        session.last_heard_s = now_s
        self.engine.acknowledge(text, hint.known)
        if hint.stamp_ms is not None:
            session.note_stamp(hint.stamp_ms, now_s)
        if hint.tokens:
            self.engine.hint(text, hint.position, hint.prefix_hash, hint.tokens)
        elif hint.position > hint.known:
            session.repeat_from(max(hint.known, text.prompt_length))
            peer.commit(session)

    def _on_close(self, peer: Peer, message: Close) -> None:
        session = peer.sessions.get(message.alias)
        if session is not None and message.generation >= session.generation:
            session.was_closed = True
            self._close(session)

    def _on_commit(self, session: Session, committed: Committed) -> None:
        session.note_commit(committed)
        peer = self._peers.get(session)
        if peer is not None:
            peer.commit(session)

    def _on_failure(self, session: Session, error: EngineError) -> None:
        peer = self._peers.get(session)
        if peer is not None:
            peer.tell(
                Error(
                    code=ErrorCode.LIMIT if isinstance(error, MemoryExceeded) else ErrorCode.INTERNAL,
                    text=str(error)[:200],
                    alias=session.alias,
                    generation=session.generation,
                )
            )
        self._close(session)

    def _close(self, session: Session) -> None:
        """Leave a tombstone, so that a late duplicate of its OPEN does not bring it back."""
        peer = self._peers.get(session)
        if peer is not None:
            peer.hush(session)
        if session.text is not None:
            self.engine.close(session.text)
            session.text = None

    async def _end_leases(self) -> None:
        """Close what is silent for a lease; forget tombstones after another."""
        loop = asyncio.get_running_loop()
        lease_s = self.settings.lease_s
        while True:
            await asyncio.sleep(lease_s / 4)
            now_s = loop.time()
            for session in tuple(self._sessions.values()):
                silent_s = now_s - session.last_heard_s
                if silent_s > 2 * lease_s:
                    self._forget(session)
                elif silent_s > lease_s:
                    self._close(session)

    def _bury_oldest(self) -> None:
        """Tombstones are bounded too: whoever opens and closes for ever loses the oldest of them early."""
        excess = len(self._sessions) - TOMBSTONES_PER_SESSION * self.settings.max_sessions
        if excess >= 0:
            over = (session for session in self._sessions.values() if session.text is None)
            for session in list(itertools.islice(over, excess + 1)):
                self._forget(session)

    def _forget(self, session: Session) -> None:
        self._close(session)
        self._sessions.pop(session.key, None)
        self._detach(session)

    @staticmethod
    def _refuse_open(
        peer: Peer, message: Open, code: ErrorCode, text: str, retry_after_ms: int | None = None
    ) -> None:
        peer.tell(
            Error(
                code=code,
                text=text,
                alias=message.alias,
                generation=message.generation,
                retry_after_ms=retry_after_ms,
            )
        )

    def _spawn(self, coroutine: object, *, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """None of our tasks ends by an error of its own: one that does is a bug, and must be seen."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed: %r", task.get_name(), task.exception(), exc_info=task.exception())
