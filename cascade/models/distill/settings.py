"""What a distillation is told."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import check_int, check_number

__all__ = ["DistillSettings", "parse_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillSettings:
    """How a draft is made. The first group is fixed once a state folder exists; the second may change."""

    layers: tuple[int, ...] = ()
    """The target's layers to begin with; none named: the first three and the last."""
    vocab: int = 8192
    """Tokens that the draft can say."""
    num_best: int = 32
    """Likeliest tokens that are kept of each of the target's distributions."""
    prompt_tokens: int = 60
    """Longest question that the target may invent."""
    answer_tokens: int = 160
    """Longest answer that the target writes."""
    held_out: int = 64
    """Prompts set aside for the exam."""
    seed: int = 1
    """Of prompts, answers and their order."""

    tokens: int = 1_000_000
    """Answer tokens to learn from."""
    passes: float = 6.0
    """How often training sees them."""
    minutes: float = 0.0
    """Training ends after so long, whatever it has seen; 0 is no limit."""
    learning_rate: float = 2e-3
    """At its peak."""
    batch_texts: int = 8
    """Texts in a training step."""
    warmup: float = 0.03
    """Share of the training in which the learning rate rises."""
    checkpoint_s: float = 120.0
    """Between two files from which an interrupted training goes on."""
    exam_s: float = 600.0
    """Between two points of the learning curve."""

    def __post_init__(self) -> None:
        if any(type(layer) is not int or layer < 0 for layer in self.layers):
            raise SettingsError("layers", f"must be numbers of layers, not {self.layers}")
        for name in ("vocab", "num_best", "prompt_tokens", "answer_tokens", "held_out"):
            check_int(name, getattr(self, name), low=1)
        check_int("seed", self.seed, low=0, high=2**32 - 1)
        check_int("tokens", self.tokens, low=1)
        check_int("batch_texts", self.batch_texts, low=1)
        check_number("passes", self.passes, low=0.0)
        check_number("minutes", self.minutes, low=0.0)
        check_number("learning_rate", self.learning_rate, low=0.0)
        check_number("warmup", self.warmup, low=0.0, high=1.0)
        check_number("checkpoint_s", self.checkpoint_s, low=0.0)
        check_number("exam_s", self.exam_s, low=0.0)


def parse_layers(text: str) -> tuple[int, ...]:
    """`0,1,2,29` as numbers."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise SettingsError("layers", f"must be numbers with commas between them, not {text!r}") from None
