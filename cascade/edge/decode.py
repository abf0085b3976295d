"""One text that the edge decodes: the truth about it, the hints behind it, the cache below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..decoding import common_prefix, cut, is_nearly_as_good
from ..errors import EngineError
from ..models.base import Feed
from ..wire.text import HashedText
from .hints import HintBuffer
from .interface import Committed, DecodeRequest
from .keeping import Decided, decide
from .memory import TextCache
from .outlook import Outlook
from .remarks import Remarks

__all__ = ["Decode", "PlannedStep"]


class Decode:
    """The batch engine's state for one text, and the handle that those above have of it."""

    def __init__(
        self,
        request: DecodeRequest,
        prefix: tuple[int, ...],
        *,
        owner: str,
        patience_s: float,
        max_buffered_hints: int,
        now_s: float,
        on_commit: Callable[[Committed], None],
        on_failure: Callable[[EngineError], None],
    ) -> None:
        self.request = request
        self.owner = owner
        self.outlook = Outlook()
        self.patience_s = patience_s
        self.known = len(prefix)
        self.last_step_s = self._due_s = now_s
        self.queue_s = self.lag_s = 0.0
        self.on_commit = on_commit
        self.on_failure = on_failure
        self.is_closed = False
        self.is_running = False
        """In the pass that runs now: its cache must not be touched."""
        self.is_finished = False
        self.hints = HintBuffer(HashedText(prefix), max_tokens=max_buffered_hints)
        self.prefilled_s = float("-inf")
        """When this text was last fed tokens that it lacked: who waits longest comes first."""
        self.cache = TextCache(owner, self.hints.tokens)
        self.has_pen = True
        """We may go on behind the chain's end. In cascade mode the device may want to do that itself."""
        self._remarks = Remarks()
        self._revision = 0
        self._was_opened = True
        """Opened or resumed, and not stepped since."""
        self._check_finished(prefix)

    @property
    def head(self) -> int:
        return self.hints.head

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt)

    def committed(self, start: int = 0, limit: int | None = None) -> list[int]:
        return self.hints.committed(start, limit)

    @property
    def gains_by_waiting(self) -> bool:
        """Could hints help the next step? Not the first after an OPEN, for the app waits for a sign of life,
        and not the last, which is our own pick anyway."""
        return not self._was_opened and self.head < self.request.length_limit - 1

    @property
    def is_held(self) -> bool:
        """The device has the pen, and has not said what it wants to know."""
        return not self.has_pen and not self.hints.num_usable

    def verdict(self, start: int, stop: int) -> tuple[bool, ...] | None:
        """Which of these tokens are our own picks; None: all of them."""
        return self._remarks.verdict(start, stop)

    def logprobs(self, start: int, stop: int) -> tuple[float, ...] | None:
        """Of these tokens; None where they are not wanted, or some were decided elsewhere."""
        if not self.request.wants_logprobs:
            return None
        return self._remarks.logprobs(start, stop, known=self.known)

    def acknowledge(self, known: int) -> bool:
        """The device has everything before `known`; True if that is news."""
        if not self.known < known <= self.head:
            return False
        self.known = known
        self._remarks.forget_before(known)
        return True

    def resume(self, prefix: tuple[int, ...], *, patience_s: float, now_s: float) -> None:
        """The device opened again. Our text stands, unless the device was given more, or something else."""
        self.patience_s = patience_s
        self.has_pen = True
        self.last_step_s = self._due_s = now_s
        self._was_opened = True
        ours = self.hints.committed()
        shared = common_prefix(ours, prefix)
        if shared < len(prefix):
            # Another edge went on from here; what the app has seen is the text.
            self.cache.num_valid = min(self.cache.num_valid, shared)
            self._revision += 1
            self.hints.rewrite(prefix)
            self._remarks.forget_from(0)
            self.is_finished = False
            self._check_finished(prefix)
        self.known = len(prefix)

    @property
    def num_prefill(self) -> int:
        """Committed tokens that the cache lacks, but for the last, which every step feeds."""
        return self.head - 1 - self.cache.num_valid

    def num_hints(self, max_hints: int) -> int:
        """Hints that the next pass takes; the last token is our own pick anyway."""
        return min(max_hints, self.hints.num_usable, self.request.length_limit - self.head - 1)

    def plan(self, *, max_hints: int, max_prefill: int) -> PlannedStep:
        """What goes into the next pass for this text, or a part of a long prefill."""
        cache = self.cache
        is_partial = self.num_prefill > max_prefill
        hints = self.hints.usable(0 if is_partial else self.num_hints(max_hints))
        fed = self.hints.committed(cache.num_valid, max_prefill if is_partial else None) + hints
        return PlannedStep(
            decode=self,
            cache=cache,
            num_valid=cache.num_valid,
            fed=fed,
            hints=hints,
            stands=self.hints.kept(self.head, self.head + len(hints)),
            alphas=self.hints.alphas(self.head, self.head + len(hints)),
            num_picks=0 if is_partial else len(hints) + 1,
            position=self.head,
            revision=self._revision,
        )

    def finish(
        self, step: PlannedStep, picks: list[int], now_s: float, logprobs: Sequence[float] = ()
    ) -> Committed | None:
        """Commit the agreed hints and one token of our own. `logprobs`: of the picks, where they are wanted.

        None if there is nothing to commit: the prefill goes on, or the text changed under the pass.
        """
        if step.num_prefill:
            self.prefilled_s = now_s
        if step.revision != self._revision:
            return None
        if not step.num_picks:
            step.cache.num_valid += len(step.fed)
            return None
        decided = self._decide(step, picks)
        num_agreed = decided.num_hinted
        tokens, reason = cut(
            decided.tokens,
            position=step.position,
            stop_ids=self.request.stop_ids,
            limit=self.request.length_limit,
        )
        disputed = [index for index, is_own in enumerate(decided.is_own[: len(tokens)]) if not is_own]
        self._remarks.dispute(step.position + index for index in disputed)
        likely = enumerate(zip(tokens, picks, logprobs, strict=False), step.position)
        self._remarks.note_logprobs((each, logprob) for each, (token, own, logprob) in likely if token == own)
        self._judge(tuple(tokens), now_s)
        # The cache holds the fed hints; of these the agreed ones are text, our own last token is not fed yet.
        step.cache.num_valid = step.position + min(len(step.hints), num_agreed, len(tokens) - 1)
        self.last_step_s = now_s
        self._was_opened = False
        self._due_s = now_s if self.hints.num_usable else now_s + self.patience_s
        self.is_finished = reason is not None
        return Committed(tuple(tokens), min(num_agreed, len(tokens)))

    def _decide(self, step: PlannedStep, picks: list[int]) -> Decided:
        """What was fed, and the token behind it if the device has kept that: its row is there anyway."""
        chain, is_kept = list(step.hints), list(step.stands)
        ahead = self.hints.usable(len(picks))
        has_next = len(ahead) == len(picks) and ahead[:-1] == chain
        if has_next and self.hints.kept(step.position + len(chain), step.position + len(picks))[0]:
            chain.append(ahead[-1])
            is_kept.append(True)
        return decide(chain, is_kept, picks, goes_on=self.has_pen or has_next)

    def overrule(self, position: int, prefix_hash: int, now_s: float) -> bool:
        """The app has seen something else from `position` on; False if we do not have what stands before."""
        if not self.prompt_length <= position <= self.head:
            return False
        if not self.hints.has_before(position, prefix_hash):
            return False
        self.cache.num_valid = min(self.cache.num_valid, position - 1)
        self._revision += 1
        self.hints.rewind(position)
        self._remarks.forget_from(position)
        self.known = min(self.known, position)
        self.last_step_s = self._due_s = now_s
        self.is_finished = False
        return True

    def offer(
        self,
        position: int,
        prefix_hash: int,
        tokens: tuple[int, ...],
        now_s: float,
        kept: tuple[bool, ...] | None = None,
        alpha: float = 0.0,
    ) -> None:
        """The device's guess, of use or not, and what it `kept` of it. With the rest we may be lenient."""
        self.hints.offer(position, prefix_hash, tokens, kept, alpha)
        if self.hints.num_usable:
            self._due_s = min(self._due_s, now_s)
        self.outlook.note_hints(self.hints.num_usable, now_s)

    def _judge(self, tokens: tuple[int, ...], now_s: float) -> None:
        """Add to the text, and learn from every hint that can be compared with it, fed or not."""
        chain = self.hints.usable(len(tokens))
        num_agreed = common_prefix(chain, tokens)
        self.hints.commit(list(tokens))
        self.outlook.note_step(
            num_agreed=num_agreed,
            num_disagreed=int(num_agreed < len(chain)),
            num_usable=self.hints.num_usable,
            now_s=now_s,
        )

    def begin(self, now_s: float) -> None:
        """It takes part in the pass that begins now."""
        self.is_running = True
        self.queue_s = max(0.0, now_s - self._due_s)

    def part_with_cache(self) -> TextCache:
        """What the model holds of this text, to be kept or dropped; should the text go on, it begins anew."""
        cache, self.cache = self.cache, TextCache(self.cache.owner, self.hints.tokens)
        return cache

    def _check_finished(self, prefix: tuple[int, ...]) -> None:
        is_answered = len(prefix) > len(self.request.prompt)
        if len(prefix) >= self.request.length_limit or (is_answered and prefix[-1] in self.request.stop_ids):
            self.is_finished = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One text's part in one pass, fixed before the pass runs, so that hints may arrive meanwhile."""

    decode: Decode
    cache: TextCache
    num_valid: int
    fed: list[int]
    """Committed tokens that the cache lacks, then the hints."""
    hints: list[int]
    stands: list[bool]
    """Which of the hints stay whatever we pick: those that are no guesses, and, after the pass, such as are
    nearly as good as our pick."""
    alphas: list[float]
    """How lenient we may be with each hint."""
    num_picks: int
    """One for every hint and one more, or none: the text lacks more than this pass feeds."""
    position: int
    """Of the first token that this pass decides."""
    revision: int

    @property
    def num_prefill(self) -> int:
        """Rows that only fill the cache."""
        return len(self.fed) - self.num_picks

    @property
    def num_rebuilt(self) -> int:
        """Rows that were fed before, and lost to an eviction."""
        return max(0, min(self.num_valid + len(self.fed), self.cache.num_lost) - self.num_valid)

    def accept(self, logits: Any, picks: list[int]) -> None:
        """Be lenient where we may: row i of the logits judges hint i."""
        sampling = self.decode.request.sampling
        for index, (hint, alpha) in enumerate(zip(self.hints, self.alphas, strict=True)):
            if alpha and index < len(picks) and hint != picks[index]:
                position, own = self.position + index, picks[index]
                self.stands[index] |= is_nearly_as_good(
                    hint, own, logits[index], sampling, position, alpha=alpha
                )

    def num_unfed(self, max_hints: int) -> int:
        """Hints that might have been fed, and are not."""
        return self.decode.num_hints(max_hints) - len(self.hints) if self.num_picks else 0

    def feed(self) -> Feed:
        assert self.cache.sequence is not None
        return Feed(self.cache.sequence, self.fed, self.num_picks)
