"""What a stream has to tell the edge, where the device decides some of the tokens itself."""

from __future__ import annotations

import math

from ..wire import Keep, Message, Pen
from .kept_guesses import KeptGuesses
from .outbox import Outbox, StreamRequest

__all__ = ["KeepOutbox"]


class KeepOutbox(Outbox):
    """Guesses travel together with what is kept."""

    def __init__(
        self,
        request: StreamRequest,
        text: KeptGuesses,
        *,
        session_id: bytes,
        alias: int,
        is_lossless: bool = False,
        pen: Pen = Pen.EDGE,
        alpha: float = 0.0,
    ) -> None:
        """`is_lossless`: nothing is kept but for want of an edge, so what is no more than a guess is said as
        lossless streams say it. `pen`: who decides behind what is sent. `alpha`: how lenient the edge may be
        with guesses that are booked."""
        super().__init__(request, text, session_id=session_id, alias=alias)
        self._opened_generation = 0
        self._kept_text = text
        self._is_lossless = is_lossless
        self._pen = pen
        self._leniency = math.floor(256 * alpha)

    @property
    def raised(self) -> int:
        """By how much the generation is above that of the last OPEN. All streams of a device draw from one
        counter, so one step may be more than 1."""
        return self.generation - self._opened_generation

    def open(self, generation: int) -> None:
        self._opened_generation = generation
        super().open(generation)

    def overrule(self, generation: int) -> None:
        """The edge is on another text than the app: it hears before anything else what the app has seen."""
        self.generation = generation
        self._missing_before = None
        self._owes_acknowledgement = False
        self.repeat_guesses()

    def _guess(self, position: int, prefix_hash: int, tokens: tuple[int, ...], now_s: float) -> Message:
        hint = self._hint(position, prefix_hash, tokens, now_s)
        kept = self._kept_text.is_kept(position, position + len(tokens))
        if self._is_lossless and not self.raised and not any(kept):
            return hint
        return Keep(
            alias=hint.alias,
            generation=hint.generation,
            position=position,
            prefix_hash=self._kept_text.state_before(position),
            tokens=tokens,
            kept=kept,
            known=hint.known,
            pen=self._pen,
            leniency=self._leniency if self._kept_text.are_booked(position, position + len(tokens)) else 0,
            raised=self.raised,
            stamp_ms=hint.stamp_ms,
            patience_ms=hint.patience_ms,
        )
