"""All sessions of an edge: opened, resumed, closed, and remembered for a while.

Sessions that still want tokens are *running*, and *waiting* until they have had their first. Finished ones
still answer until their device closes them. Tombstones, last, keep no text and ward off late duplicates.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Iterator

from ..decoding import Sampling
from ..errors import EngineError, MemoryExceeded, SettingsError
from ..wire import Close, Error, ErrorCode, Feature, Hint, Keep, Open, Pen
from .accounts import Account, Accounts
from .admission import ENGINE_IS_DEAD, AccountLoad, EdgeLoad, Refusal, admit
from .counters import Counters
from .interface import Committed, DecodeRequest, Engine, Text
from .peer import Peer
from .session import Session, SessionKey
from .settings import EdgeSettings

__all__ = ["Sessions"]

TOMBSTONES_PER_SESSION = 4
"""Sessions remembered, tombstones included, for each that may be open."""

BYTES_PER_TOKEN = 4
"""Of a text that waits, as the quota counts it."""

session_log = logging.getLogger("cascade.sessions")
"""One JSON object for each session that is over."""


class Sessions:
    """By identity and id."""

    def __init__(
        self,
        engine: Engine,
        settings: EdgeSettings,
        accounts: Accounts,
        counters: Counters,
    ) -> None:
        self.is_draining = False
        self._engine = engine
        self._settings = settings
        self._accounts = accounts
        self._counters = counters
        self._sessions: dict[SessionKey, Session] = {}
        self._peers: dict[Session, Peer] = {}
        self.nothing_runs = asyncio.Event()
        self.nothing_runs.set()
        self._running: dict[object, Account] = {}
        self._waiting: dict[object, float] = {}
        """Since when each waits for its first token; the oldest is the first."""

    def __len__(self) -> int:
        """Those that are remembered, tombstones included."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def load(self) -> EdgeLoad:
        oldest_s = self._waiting_since_s()
        return EdgeLoad(
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            oldest_wait_s=0.0 if oldest_s is None else self._now_s() - oldest_s,
            is_draining=self.is_draining,
            is_engine_dead=not self._engine.is_alive,
        )

    def _waiting_since_s(self) -> float | None:
        """The first of all. An identity that is served meanwhile does not count: it waits for itself."""
        served = {id(account) for key, account in self._running.items() if key not in self._waiting}
        ours = (since_s for key, since_s in self._waiting.items() if id(self._running[key]) not in served)
        return next(ours, None)

    def admit(self, account: Account, num_bytes: int) -> Refusal | None:
        """May this identity have one more?"""
        mine = AccountLoad(
            num_running=account.num_running,
            queued_bytes=account.queued_bytes,
            work_wait_s=account.work_wait_s(self._now_s()),
        )
        refusal = admit(self.load(), mine, self._settings, account.quota, num_bytes=num_bytes)
        if refusal is not None:
            self._counters.refused[refusal.code.name.lower()] += 1
            account.usage.num_refused += 1
        return refusal

    # What a device says

    def on_open(self, peer: Peer, account: Account, message: Open) -> None:
        session = self._sessions.get((account.identity, message.session))
        owner = peer.sessions.get(message.alias)
        if any(known is not None and message.generation < known.generation for known in (session, owner)):
            return  # an older OPEN that was overtaken
        request = self._read_request(message)
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
            self.count_offered(hint.tokens)
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
        self.run(session, account)
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
                if self.is_draining:
                    self.close(session, "moved")

    # What happens to sessions

    def _open_new(self, peer: Peer, account: Account, message: Open, request: DecodeRequest) -> None:
        num_bytes = len(message.tokens) * BYTES_PER_TOKEN
        refusal = self.admit(account, num_bytes)
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

    def _read_request(self, message: Open) -> DecodeRequest | Refusal:
        """The part of an OPEN that decides the text, or why it is refused."""
        if not 1 <= message.prompt_length <= len(message.tokens):
            text = "the prompt is empty, or longer than the tokens sent"
            return Refusal(ErrorCode.BAD_MESSAGE, text)
        context_length = self._engine.served.context_length
        if message.prompt_length >= context_length:
            text = f"a prompt of {message.prompt_length} tokens fills the context of {context_length}"
            return Refusal(ErrorCode.CONTEXT, text)
        try:
            sampling = Sampling(
                temperature=message.temperature,
                top_k=message.top_k,
                top_p=message.top_p,
                min_p=message.min_p,
                seed=message.seed,
            )
        except SettingsError as error:
            return Refusal(ErrorCode.BAD_MESSAGE, str(error))
        request = DecodeRequest(
            prompt=message.tokens[: message.prompt_length],
            sampling=sampling,
            stop_ids=frozenset(message.stop_ids),
            length_limit=min(message.prompt_length + message.max_new_tokens, context_length),
            wants_logprobs=message.wants_logprobs,
            takes_any_noise=message.takes_any_noise,
        )
        if missing := request.demands & self._engine.served.lacks:
            return Refusal(ErrorCode.LIMIT, missing.reason)
        if len(message.tokens) > request.length_limit:
            return Refusal(ErrorCode.LIMIT, "more tokens sent than the session may have")
        return request

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
            self.begin_wait(session, account, len(message.tokens))
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
        self.run(session, account)
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
        self.count(account, committed)
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
        self.stop(session)
        account.finished[session] = None
        self._log(session, "finished")
        while len(account.finished) > account.quota.max_sessions:
            self.close(next(iter(account.finished)), "finished")

    # The books: verifications of single drafts are in them, too

    def run(self, key: object, account: Account) -> None:
        """It wants tokens from now on."""
        if key not in self._running:
            self._running[key] = account
            account.num_running += 1
            self.nothing_runs.clear()

    def stop(self, key: object) -> None:
        """It wants no more."""
        account = self._running.pop(key, None)
        if account is not None:
            account.num_running -= 1
            if not self._running:
                self.nothing_runs.set()
        self._waiting.pop(key, None)

    def begin_wait(self, key: object, account: Account, num_tokens: int) -> None:
        """It waits for its first token, behind so many of its text."""
        now_s = self._now_s()
        self._waiting[key] = now_s
        account.work(num_tokens, now_s)
        account.usage.num_prompt_tokens += num_tokens
        self._counters.num_prompt += num_tokens

    def count_offered(self, tokens: tuple[int, ...]) -> None:
        self._counters.num_offered += len(tokens)

    def count(self, account: Account, committed: Committed) -> None:
        """These tokens became text."""
        num_driven = len(committed.tokens) - committed.num_hinted
        self._counters.num_accepted += committed.num_hinted
        self._counters.num_driven += num_driven
        account.usage.num_tokens += len(committed.tokens)
        account.usage.num_hinted += committed.num_hinted
        now_s = self._now_s()
        account.work(num_driven, now_s)  # the hinted ones were charged when they came
        if wait_s := account.work_wait_s(now_s):
            account.held_until_s = now_s + wait_s
            self._engine.hold(account.identity, account.held_until_s)

    def _end_wait(self, session: Session, account: Account) -> None:
        self._waiting.pop(session, None)
        account.queued_bytes -= session.record.queued_bytes
        session.record.queued_bytes = 0

    def close(self, session: Session, reason: str) -> None:
        """Leave a tombstone, so that a late duplicate of its OPEN does not bring it back."""
        peer = self._peers.get(session)
        if peer is not None:
            peer.hush(session)
        if session.text is not None:
            account = self._accounts.of(session.identity, self._now_s())
            self._engine.close(session.text)
            session.text = None
            self._end_wait(session, account)
            self.stop(session)
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
        for session, account in self._running.items():
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
            self._counters.refused[refusal.code.name.lower()] += 1
            account.usage.num_refused += 1
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
        """Once for each session, and nothing of its text."""
        record = session.record
        if record.is_logged:
            return
        record.is_logged = True
        self._counters.ended[reason] += 1
        fields = {
            "event": "session",
            "identity": session.identity,
            "session": session.key[1].hex(),
            "reason": reason,
            "prompt_tokens": record.num_prompt,
            "tokens": record.num_tokens,
            "hinted_tokens": record.num_hinted,
            "opens": record.num_opens,
            "first_token_s": None if record.first_token_s is None else round(record.first_token_s, 4),
            "seconds": round(self._now_s() - record.opened_s, 4),
        }
        session_log.info("%s", json.dumps(fields))

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
