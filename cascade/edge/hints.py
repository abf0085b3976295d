"""What a device guessed, kept until it is used, superseded or proven wrong.

A hint is usable when the hash it carries matches the text before it: committed tokens plus the hints
already buffered behind them. Nothing else decides, so loss, gaps and reordering need no special case.
In cascade mode some tokens of the chain are no guesses: the device has decided them by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..wire.text import HashedText

__all__ = ["HintBuffer"]

MAX_EARLY = 8
"""Hints kept that begin beyond what can be checked yet (their beginning is late, or lost)."""


@dataclass(frozen=True, slots=True)
class _Offer:
    """Tokens that continue the text which this hash tells."""

    position: int
    prefix_hash: int
    tokens: tuple[int, ...]
    kept: tuple[bool, ...] | None = None
    """Those that the device decided by itself. Then the hash has all its 32 bits."""
    alpha: float = 0.0
    """How lenient we may be with the others."""

    def first(self, count: int) -> _Offer:
        """The same with its first `count` tokens only."""
        kept = None if self.kept is None else self.kept[:count]
        return _Offer(self.position, self.prefix_hash, self.tokens[:count], kept, self.alpha)


class HintBuffer:
    """The committed text, and behind it the chain of usable hints."""

    def __init__(self, text: HashedText, *, max_tokens: int) -> None:
        self._text = text
        """Committed tokens, then the chain. The border is `_head`."""
        self._head = len(text)
        self._max_tokens = max_tokens
        self._early: list[_Offer] = []
        self._kept: set[int] = set()
        """Positions of the chain whose tokens are no guesses."""
        self._alphas: dict[int, float] = {}
        """Positions of the chain with whose guesses we may be lenient."""
        self.num_dropped = 0
        """Hint tokens that could not be used: of a dead chain, of the past, or too many."""

    @property
    def head(self) -> int:
        """Committed tokens: the position of the next one."""
        return self._head

    @property
    def tokens(self) -> list[int]:
        """Committed tokens, then the chain. It changes as they do, and is not to be changed by others."""
        return self._text.tokens

    @property
    def num_usable(self) -> int:
        return len(self._text) - self._head

    def usable(self, limit: int) -> list[int]:
        """The first `limit` tokens of the chain."""
        return self._text.tokens[self._head : self._head + limit]

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        stop = self._head if limit is None else min(self._head, start + limit)
        return self._text.tokens[start:stop]

    def kept(self, start: int, stop: int) -> list[bool]:
        """Which tokens of the chain the device has decided by itself."""
        return [position in self._kept for position in range(start, stop)]

    def alphas(self, start: int, stop: int) -> list[float]:
        """How lenient we may be with the guesses of the chain."""
        return [self._alphas.get(position, 0.0) for position in range(start, stop)]

    def offer(
        self,
        position: int,
        prefix_hash: int,
        tokens: tuple[int, ...],
        kept: tuple[bool, ...] | None = None,
        alpha: float = 0.0,
    ) -> None:
        """Take a hint: chain it, keep it for later, or drop it.

        `kept`, where the device has decided some of it by itself; the hash has all its 32 bits then.
        """
        offer = _Offer(position, prefix_hash, tokens, kept, alpha)
        if position > len(self._text):
            self._keep_early(offer)
        elif self._chain(offer):
            self._chain_early()
        elif position > self._head:
            # It may belong to a newer chain whose beginning was overtaken.
            self._keep_early(offer)
        else:
            self.num_dropped += len(tokens)

    def has_before(self, position: int, prefix_hash: int) -> bool:
        """Is the text before `position` the one with this hash, of 32 bits?"""
        return position <= len(self._text) and self._text.state_before(position) == prefix_hash

    def commit(self, tokens: list[int]) -> None:
        """The edge's own picks are the text now; the chain lives on where it agrees with them."""
        text = self._text
        new_head = self._head + len(tokens)
        if text.tokens[self._head : new_head] != tokens:
            self.num_dropped += self.num_usable
            text.truncate(self._head)
            text.extend(tokens)
            self._kept.clear()
            self._alphas.clear()
        elif self._kept or self._alphas:
            self._kept = {position for position in self._kept if position >= new_head}
            self._alphas = {at: alpha for at, alpha in self._alphas.items() if at >= new_head}
        self._head = new_head
        if self._early:
            self._chain_early()

    def rewrite(self, tokens: tuple[int, ...]) -> None:
        """Begin anew from this committed text."""
        self._text.truncate(0)
        self._text.extend(tokens)
        self._forget_chain()

    def rewind(self, position: int) -> None:
        """Give up the text from `position` on."""
        self._text.truncate(position)
        self._forget_chain()

    def _forget_chain(self) -> None:
        self._head = len(self._text)
        self._early.clear()
        self._kept.clear()
        self._alphas.clear()

    def _chain(self, offer: _Offer) -> bool:
        """Put tokens into the chain at their position if what stands before them is what the device saw."""
        text, position, tokens = self._text, offer.position, offer.tokens
        ours = text.hash_before(position) if offer.kept is None else text.state_before(position)
        if ours != offer.prefix_hash:
            return False
        num_past = min(max(0, self._head - position), len(tokens))
        if num_past and tuple(text.tokens[position : position + num_past]) != tokens[:num_past]:
            return False  # it disagrees with what was committed: a dead chain
        start = position + num_past
        news = tokens[num_past:]
        room = self._max_tokens - (start - self._head)
        if len(news) > room:
            self.num_dropped += len(news) - room
            news = news[:room]
        known = text.tokens[start : start + len(news)]
        if tuple(known) != news[: len(known)]:
            # The device drafted again from here: the newer chain replaces the older.
            self.num_dropped += len(text) - start
            text.truncate(start)
            self._kept = {kept for kept in self._kept if kept < start}
            self._alphas = {at: alpha for at, alpha in self._alphas.items() if at < start}
            known = []
        text.extend(news[len(known) :])
        if offer.kept is not None:
            kept = offer.kept[num_past : num_past + len(news)]
            self._kept.update(start + index for index, is_kept in enumerate(kept) if is_kept)
            for at in range(start, start + len(kept)):
                if offer.alpha:
                    self._alphas[at] = offer.alpha
                else:
                    self._alphas.pop(at, None)
        return True

    def _keep_early(self, hint: _Offer) -> None:
        """Only what could have a place in the chain: devices must not fill our memory with futures."""
        room = max(0, self._head + self._max_tokens - hint.position)
        if len(hint.tokens) > room:
            self.num_dropped += len(hint.tokens) - room
            hint = hint.first(room)
        if not hint.tokens:
            return
        self._early.append(hint)
        if len(self._early) > MAX_EARLY:
            self.num_dropped += len(self._early.pop(0).tokens)

    def _chain_early(self) -> None:
        """Early hints whose beginning has come join the chain; those of the past are dropped."""
        while self._settle_one_early():
            pass

    def _settle_one_early(self) -> bool:
        for hint in self._early:
            if hint.position > len(self._text):
                continue
            if not self._chain(hint):
                if hint.position > self._head:
                    continue
                self.num_dropped += len(hint.tokens)
            self._early.remove(hint)
            return True
        return False
