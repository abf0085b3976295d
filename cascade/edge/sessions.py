"""All sessions of an edge: opened, resumed, closed, and remembered for a while.

Those that still want tokens run, and are in the books (`books.py`). Finished ones still answer until their
device closes them. Tombstones, last, keep no text and ward off late duplicates.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from ..errors import EngineError, MemoryExceeded
from ..wire import Close, Error, ErrorCode, Feature, Hint, Keep, Open, Pen
from .accounts import Account, Accounts
from .admission import ENGINE_IS_DEAD, Refusal
from .books import BYTES_PER_TOKEN, Books
from .counters import Counters
from .interface import Committed, DecodeRequest, Engine, Text
from .opening import read_request
from .peer import Peer
from .session import Session, SessionKey
from .session_log import log_end
from .settings import EdgeSettings

__all__ = ["Sessions"]

TOMBSTONES_PER_SESSION = 4
"""Sessions remembered, tombstones included, for each that may be open."""


class Sessions:
    """By identity and id."""

    def __init__(
        self,
        engine: Engine,
        settings: EdgeSettings,
        accounts: Accounts,
        counters: Counters,
        books: Books,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._accounts = accounts
        self._counters = counters
        self._books = books
        self._sessions: dict[SessionKey, Session] = {}
        self._peers: dict[Session, Peer] = {}

    def __len__(self) -> int:
        """Those that are remembered, tombstones included."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    # What a device says

    def on_open(self, peer: Peer, account: Account, message: Open) -> None:
        session = self._sessions.get((account.identity, message.session))
        owner = peer.sessions.get(message.alias)
        if any(known is not None and message.generation < known.generation for known in (session, owner)):
            return  # an older OPEN that was overtaken
        request = read_request(message, self._engine.served)
        if isinstance(request, Refusal):
            self._refuse(peer, account, message, request)
        elif not self._engine.is_alive:
            self._refuse(peer, account, message, Refusal(ErrorCode.INTERNAL, ENGINE_IS_DEAD))
        elif session is None:
            self._open_new(peer, account, message, request)
        elif session.was_closed:
            text = "this session was closed; choose a new id"
            self._refuse(peer, account, message, Refusal(ErrorCode.CLOSED, text))
        elif not session.is_same_request(request):
            text = "this session has other settings"
            self._refuse(peer, account, message, Refusal(ErrorCode.SETTINGS_DIFFER, text))
        elif message.generation > session.generation:
            self._start(session, peer, account, message, request)
        elif session.text is not None:
            session.repeat_answer()  # a duplicate, or our answer was lost
            peer.commit(session)

    def on_hint(self, peer: Peer, account: Account, hint: Hint | Keep) -> None:
        now_s = self._now_s()
        if isinstance(hint, Keep) and Feature.KEEP in self._engine.served.lacks:
            if peer.may_say_unknown(hint.alias, hint.generation, now_s):
                self._counters.refused["limit"] += 1
                peer.mention(
                    Error(
                        code=ErrorCode.LIMIT,
                        text=Feature.KEEP.reason,
                        alias=hint.alias,
                        generation=hint.generation,
                    )
                )
            return
        session = peer.sessions.get(hint.alias)
        is_asleep = session is not None and session.text is None and not session.was_closed
        if (
            session is None
            or is_asleep
            or (hint.generation > session.generation and not self._overrule(session, account, hint))
        ):
            # We restarted, its lease ended, or the OPEN was lost: the device opens again with all its tokens.
            if peer.may_say_unknown(hint.alias, hint.generation, now_s):
                peer.mention(
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
        session.last_heard_s = now_s
        was_held = self._is_held(text)
        self._engine.acknowledge(text, hint.known)
        if was_held and not self._is_held(text):
            session.last_step_s = now_s  # it may go on from now on
        if hint.stamp_ms is not None:
            session.note_stamp(hint.stamp_ms, now_s)
        if hint.patience_ms is not None:
            self._engine.wish_patience(text, hint.patience_ms / 1000)
        if hint.tokens:
            self._books.count_offered(hint.tokens)
            if account.work_wait_s(now_s):
                self._counters.num_ignored += len(hint.tokens)  # over its rate it has no work to ask for
                return
            account.work(len(hint.tokens), now_s)
            self._take(text, hint)
        elif hint.position > hint.known:
            session.repeat_from(max(hint.known, text.prompt_length))
            peer.commit(session)

    def _take(self, text: Text, hint: Hint | Keep) -> None:
        if isinstance(hint, Hint):
            self._engine.hint(text, hint.position, hint.prefix_hash, hint.tokens)
        else:
            may_go_on = hint.pen is Pen.EDGE
            self._engine.keep(
                text,
                hint.position,
                hint.prefix_hash,
                hint.tokens,
                hint.kept,
                may_go_on=may_go_on,
                alpha=hint.leniency / 256,
            )

    def _overrule(self, session: Session, account: Account, keep: Hint | Keep) -> bool:
        """The app has seen something else than what we said from here on; False if that is not our text."""
        text = session.text
        if text is None or not isinstance(keep, Keep):
            return False
        if keep.generation - keep.raised != session.opened_generation:
            return False  # an OPEN between was lost
        if not self._engine.overrule(text, keep.position, keep.prefix_hash):
            return False
        session.overrule(keep.generation, keep.position)
        session.last_step_s = self._now_s()
        self._books.run(session, account)
        account.finished.pop(session, None)
        return True

    def on_close(self, peer: Peer, message: Close) -> None:
        session = peer.sessions.get(message.alias)
        if session is not None and message.generation >= session.generation:
            session.was_closed = True
            self.close(session, "closed")

    def on_gone(self, peer: Peer) -> None:
        """The link is gone. Its sessions wait for their device, unless nobody is to come back here."""
        for session in tuple(peer.sessions.values()):
            if self._peers.get(session) is peer:
                del self._peers[session]
                if self._books.is_draining:
                    self.close(session, "moved")

    # What happens to sessions

    def _open_new(self, peer: Peer, account: Account, message: Open, request: DecodeRequest) -> None:
        num_bytes = len(message.tokens) * BYTES_PER_TOKEN
        refusal = self._books.admit(account, num_bytes)
        if refusal is not None:
            self._refuse(peer, account, message, refusal, is_counted=True)
            return
        session = Session(
            (account.identity, message.session),
            alias=message.alias,
            generation=message.generation,
            request=request,
            now_s=self._now_s(),
        )
        self._bury_oldest()
        self._sessions[session.key] = session
        self._counters.num_sessions += 1
        account.usage.num_sessions += 1
        self._start(session, peer, account, message, request)

    def _start(
        self, session: Session, peer: Peer, account: Account, message: Open, request: DecodeRequest
    ) -> None:
        """Open the text at the engine, or resume it, and answer at once."""
        now_s = self._now_s()
        if session.text is None:
            text = self._engine.open(
                request,
                message.tokens,
                owner=session.identity,
                patience_s=message.patience_s,
                on_commit=lambda committed: self._on_commit(session, account, committed),
                on_failure=lambda error: self._on_failure(session, error),
            )
            session.record.is_logged = False
            session.record.queued_bytes = len(message.tokens) * BYTES_PER_TOKEN
            self._books.begin_wait(session, account, len(message.tokens))
            account.queued_bytes += session.record.queued_bytes
        else:
            text = session.text
            self._engine.resume(text, message.tokens, patience_s=message.patience_s)
        session.record.num_opens += 1
        self._counters.num_resumed += session.record.num_opens > 1
        owner = peer.sessions.get(message.alias)
        if owner is not None and owner is not session:
            self.close(owner, "replaced")  # the device gave the alias to a new session
        self._detach(session)
        session.alias = message.alias
        session.last_heard_s = session.last_step_s = now_s
        session.attach(text, len(message.tokens), message.generation)
        session.patience_s = min(message.patience_s, self._settings.max_patience_s)
        self._books.run(session, account)
        account.finished.pop(session, None)
        if text.is_finished:
            self._finish(session, account)
        peer.sessions[session.alias] = session
        self._peers[session] = peer
        peer.commit(session)

    def _on_commit(self, session: Session, account: Account, committed: Committed) -> None:
        now_s = self._now_s()
        if session.record.first_token_s is None:
            self._counters.first_token_s.add(now_s - session.record.opened_s)
        session.note_commit(committed, now_s)
        self._books.count(account, committed)
        self._end_wait(session, account)
        if session.text is not None and session.text.is_finished:
            self._finish(session, account)
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
        self.close(session, "failed")

    def _finish(self, session: Session, account: Account) -> None:
        """It wants no more tokens. It still answers, but does not stand in anybody's way."""
        self._end_wait(session, account)
        self._books.stop(session)
        account.finished[session] = None
        self._log(session, "finished")
        while len(account.finished) > account.quota.max_sessions:
            self.close(next(iter(account.finished)), "finished")

    def _end_wait(self, session: Session, account: Account) -> None:
        self._books.end_wait(session)
        account.queued_bytes -= session.record.queued_bytes
        session.record.queued_bytes = 0

    def close(self, session: Session, reason: str) -> None:
        """Leave a tombstone, so that a late duplicate of its OPEN does not bring it back."""
        if session.text is not None:
            account = self._accounts.of(session.identity, self._now_s())
            self._engine.close(session.text)
            session.text = None
            self._end_wait(session, account)
            self._books.stop(session)
            account.finished.pop(session, None)
            self._log(session, reason)

    def fail_all(self, error: EngineError) -> None:
        """The engine has died: every device hears it."""
        for session in tuple(self):
            if session.text is not None and not session.text.is_finished:
                self._on_failure(session, error)

    def stalled_s(self) -> float:
        """For how long the slowest session that should go on has not."""
        now_s = self._now_s()
        slowest_s = 0.0
        for session, account in self._books.running.items():
            if isinstance(session, Session) and session.text and not self._is_held(session.text):
                due_s = max(session.last_step_s, account.held_until_s)
                slowest_s = max(slowest_s, now_s - due_s - session.patience_s)
        return slowest_s

    def _is_held(self, text: Text) -> bool:
        """It has gone as far as it may before its device says that it listens."""
        return text.head - text.known >= self._settings.run_ahead

    def end_leases(self, now_s: float) -> None:
        """Close what is silent for a lease; forget tombstones after another."""
        lease_s = self._settings.lease_s
        for session in tuple(self):
            silent_s = now_s - session.last_heard_s
            if silent_s > 2 * lease_s:
                self._forget(session)
            elif silent_s > lease_s:
                self.close(session, "silent")

    def _detach(self, session: Session) -> None:
        """It is not this link's any more, if it was anybody's."""
        peer = self._peers.pop(session, None)
        if peer is not None:
            peer.forget(session)

    def _bury_oldest(self) -> None:
        """Tombstones are bounded too: whoever opens and closes for ever loses the oldest of them early."""
        excess = len(self._sessions) - TOMBSTONES_PER_SESSION * self._settings.max_sessions
        if excess >= 0:
            over = (session for session in self if session.text is None or session.text.is_finished)
            for session in list(itertools.islice(over, excess + 1)):
                self._forget(session)

    def _forget(self, session: Session) -> None:
        self.close(session, "silent")
        self._sessions.pop(session.key, None)
        self._detach(session)

    def _refuse(
        self, peer: Peer, account: Account, message: Open, refusal: Refusal, *, is_counted: bool = False
    ) -> None:
        if not is_counted:
            self._books.count_refusal(account, refusal)
        after_s = refusal.retry_after_s
        peer.tell(
            Error(
                code=refusal.code,
                text=refusal.text,
                alias=message.alias,
                generation=message.generation,
                retry_after_ms=None if after_s is None else max(1, round(after_s * 1000)),
            )
        )

    def _log(self, session: Session, reason: str) -> None:
        """Once for each session."""
        if not session.record.is_logged:
            session.record.is_logged = True
            self._counters.ended[reason] += 1
            log_end(session, reason, self._now_s())

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
