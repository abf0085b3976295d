"""What a conversation is like; commands change it on the way."""

from __future__ import annotations

from dataclasses import dataclass

from ...device.options import StreamOptions
from ...settings import check_int, check_number

__all__ = ["ChatSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """How answers are made, from the next one on."""

    max_new_tokens: int = 400
    """Where an answer ends at the latest."""
    temperature: float = 0.7
    """0 takes the likeliest token; higher is more varied."""
    seed: int | None = None
    """The same seed gives the same answers to the same questions. None: another one each time."""
    quality: float = 1.0
    """The least share of tokens that are the target's own pick. 1: all."""
    is_private: bool = False
    """The device answers alone, and nothing that is said leaves it."""
    system: str = ""
    """What the model is told before everything else."""

    def __post_init__(self) -> None:
        check_int("tokens", self.max_new_tokens, low=1)
        check_number("temperature", self.temperature, low=0, high=10)
        check_number("quality", self.quality, low=0.5, high=1)
        if self.seed is not None:
            check_int("seed", self.seed, low=0, high=2**64 - 1)

    @property
    def stream_options(self) -> StreamOptions:
        """Of one answer, as `chat.stream` takes them."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "quality": 1.0 if self.is_private else self.quality,
        }
