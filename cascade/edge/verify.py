"""One draft judged, and nothing remembered: what `POST /v1/verify` asks for.

The answer is that of a session at the same place: text, position, sampling and seed decide it. It goes
through the engine with everybody else's steps, and through the same admission.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..decoding import Sampling
from ..errors import ContextExceeded, EngineError, RefusedError, SettingsError
from ..wire import Feature
from ..wire.text import HashedText
from .accounts import Account
from .books import BYTES_PER_TOKEN, Books
from .interface import Committed, DecodeRequest, Engine

__all__ = ["Verdict", "Verifier", "VerifyRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """The text so far, and what the draft thinks comes next."""

    tokens: tuple[int, ...]
    draft: tuple[int, ...]
    sampling: Sampling
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """So many of the draft's tokens are the target's own, and then comes this one."""

    num_agreed: int
    token: int | None
    """The target's own next token; None when the agreed part ends with a stop token."""
    finish_reason: str | None
    """"stop", "length" (the context is full), or None: go on."""


class Verifier:
    """Judges drafts, as many at once as the sessions' limits allow."""

    def __init__(self, engine: Engine, books: Books) -> None:
        self._engine = engine
        self._books = books

    async def verify(self, account: Account, request: VerifyRequest) -> Verdict:
        """Raises `SettingsError`, `ContextExceeded`, `RefusedError` or `EngineError`."""
        self._check(request)
        num_bytes = len(request.tokens) * BYTES_PER_TOKEN
        wait_s = account.hear(num_bytes, asyncio.get_running_loop().time())
        if wait_s:
            raise RefusedError("limit", "you ask more often than you may", wait_s)
        refusal = self._books.admit(account, num_bytes)
        if refusal is not None:
            raise RefusedError(refusal.code.name.lower(), refusal.text, refusal.retry_after_s)
        key = object()
        self._books.run(key, account)
        self._books.begin_wait(key, account, len(request.tokens) + len(request.draft))
        account.queued_bytes += num_bytes
        try:
            committed = await self._step(account.identity, request)
        finally:
            account.queued_bytes -= num_bytes
            self._books.stop(key)
        self._books.count_offered(request.draft)
        self._books.count(account, committed)
        return self._verdict(request, committed)

    def _check(self, request: VerifyRequest) -> None:
        vocab_size, context_length = self._engine.served.vocab_size, self._engine.served.context_length
        if not request.tokens:
            raise SettingsError("tokens", "is empty; give the text so far, at least one token")
        for name, tokens in (("tokens", request.tokens), ("draft", request.draft)):
            if not all(0 <= token < vocab_size for token in tokens):
                raise SettingsError(name, f"holds an id that is not below the vocabulary's {vocab_size}")
        if len(request.tokens) >= context_length:
            raise ContextExceeded(len(request.tokens) + 1, context_length)
        if request.sampling.temperature and Feature.SHARED_NOISE in self._engine.served.lacks:
            raise SettingsError("temperature", "this edge has no shared noise; ask at temperature 0")

    async def _step(self, owner: str, request: VerifyRequest) -> Committed:
        """Open the text, offer the draft before any pass can begin, take the first commit, close."""
        done: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()

        def on_commit(committed: Committed) -> None:
            self._engine.close(text)  # here, or the engine would begin another pass for it
            if not done.done():
                done.set_result(committed)

        def on_failure(error: EngineError) -> None:
            if not done.done():
                done.set_exception(error)

        length_limit = min(len(request.tokens) + len(request.draft) + 1, self._engine.served.context_length)
        text = self._engine.open(
            DecodeRequest(
                prompt=request.tokens,
                sampling=request.sampling,
                stop_ids=request.stop_ids,
                length_limit=length_limit,
            ),
            request.tokens,
            owner=owner,
            patience_s=0.0,
            on_commit=on_commit,
            on_failure=on_failure,
        )
        try:
            if request.draft:
                position = len(request.tokens)
                prefix_hash = HashedText(request.tokens).hash_before(position)
                self._engine.hint(text, position, prefix_hash, request.draft)
            return await done
        finally:
            self._engine.close(text)

    def _verdict(self, request: VerifyRequest, committed: Committed) -> Verdict:
        tokens, num_agreed = committed.tokens, committed.num_hinted
        own = tokens[-1] if len(tokens) > num_agreed else None
        if tokens[-1] in request.stop_ids:
            return Verdict(num_agreed, own, "stop")
        is_full = len(request.tokens) + len(tokens) >= self._engine.served.context_length
        return Verdict(num_agreed, own, "length" if is_full else None)
