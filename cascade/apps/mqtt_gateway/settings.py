"""What an MQTT gateway may be told."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import check_int, check_number

__all__ = ["GatewaySettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Limits and habits; the defaults suit a house."""

    num_at_once: int = 8
    """Questions that are answered at the same time."""
    max_waiting: int = 1000
    """Questions of all things that wait for an answer; more are refused."""
    max_waiting_each: int = 100
    """Of one thing."""
    max_question_bytes: int = 16_384
    """Of a whole message; longer ones are refused."""
    max_new_tokens: int = 1024
    """Of an answer, whatever a question asks for."""
    usual_new_tokens: int = 256
    """Of an answer to a question that does not say."""
    piece_s: float = 0.1
    """Text on its way is gathered for so long before it is published."""
    patience_s: float = 3.0
    """A question that has no first token by then hears that it waits, or is answered by the draft."""
    system: str = ""
    """What the model is told before each question that says nothing else."""

    def __post_init__(self) -> None:
        check_int("num_at_once", self.num_at_once, low=1, high=256)
        check_int("max_waiting", self.max_waiting, low=1)
        check_int("max_waiting_each", self.max_waiting_each, low=1)
        check_int("max_question_bytes", self.max_question_bytes, low=16)
        check_int("max_new_tokens", self.max_new_tokens, low=1)
        check_int("usual_new_tokens", self.usual_new_tokens, low=1, high=self.max_new_tokens)
        check_number("piece_s", self.piece_s, low=0)
        check_number("patience_s", self.patience_s, low=0)
